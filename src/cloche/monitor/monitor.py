"""The process beside each container: it owns its stdio and its log, and tells its end.

It depends on nothing but the kernel: launcher and daemon may end, be killed and come back. Idle it holds
no buffers and touches no memory, since what it touches is no longer shared with the launcher.
"""

from __future__ import annotations

import os
import time
from _signal import SIG_IGN, SIGHUP, SIGINT, SIGTERM, signal  # type: ignore[import-not-found]

from cloche.monitor import exit as ending
from cloche.monitor import packets
from cloche.monitor.control import Control
from cloche.monitor.log import JsonLog
from cloche.monitor.loop import READ, Loop
from cloche.monitor.oom import OomWatcher
from cloche.monitor.protocol import (
    Attach,
    Detached,
    ExitRecord,
    LogConfig,
    OutOfMemory,
    Release,
    Resize,
    Signal,
    Status,
    ToMonitor,
)
from cloche.monitor.start import Handover
from cloche.monitor.streams import Streams

_DRAIN_PATIENCE = 2.0
"""Seconds that the output may stay open after the container's end: a process elsewhere was handed a copy
of it."""
_REAP_INTERVAL = 1.0
"""Seconds between looks for the end of the log's compressor."""


class Monitor:
    """One container, from its start to the delivery of its last byte."""

    def __init__(self, handover: Handover, descriptors: list[int]) -> None:
        """Takes over what the starter made, and the descriptors."""
        config, started = handover.config, handover.started
        ends = dict(zip(handover.names, descriptors, strict=False))
        self._config = config
        self._started = started
        self._exited: ExitRecord | None = None
        self._code = 0
        self._finished_at = 0
        self._deadline = 0.0
        self._released = False
        self._loop = Loop()
        self._control = Control(self._loop, ends["control"], self._status, self._receive)
        self._control.accept(ends["listener"], config.socket_path)
        self._log = _open_log(config.log)
        self._streams = Streams(self._loop, config, ends, self._log, lambda: self._control.tell(Detached()))
        for descriptor, attachment in zip(descriptors[len(handover.names) :], config.attach, strict=True):
            self._streams.attach(descriptor, attachment)
        self._streams.begin()
        self._pidfd = os.pidfd_open(started.pid)
        self._loop.watch(self._pidfd, READ, self._end)
        self._oom = OomWatcher()
        self._oom.begin(config.oom)
        if self._oom.descriptor >= 0:
            self._loop.watch(self._oom.descriptor, self._oom.events, self._look_for_oom)

    def serve(self) -> None:
        """Until the container has ended and everything is delivered."""
        while self._serving():
            self._loop.turn(self._timeout())
            self._advance()

    # --- the daemon --------------------------------------------------------------------------------------

    def _status(self) -> Status:
        return Status(os.getpid(), self._started, self._exited, self._oom.killed)

    def _receive(self, request: ToMonitor, descriptors: list[int]) -> None:
        streams = self._streams
        if isinstance(request, Attach) and descriptors:
            streams.attach(descriptors.pop(), request.attachment)
            if self._exited:
                streams.finish()
        elif isinstance(request, Resize):
            streams.resize(request.rows, request.columns)
        elif isinstance(request, Signal) and not self._finished_at:
            self._kill(self._started.pid, request.number)
        elif isinstance(request, Release):
            self._released = True
        packets.close(descriptors)

    @staticmethod
    def _kill(pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except OSError:
            # No signal has that number. Init itself is there: it has not been waited for.
            pass

    def _look_for_oom(self, _descriptor: int = -1, _events: int = 0) -> None:
        if self._oom.look():
            self._control.tell(OutOfMemory(time.time_ns()))

    # --- the end -----------------------------------------------------------------------------------------

    def _end(self, _descriptor: int, _events: int) -> None:
        _, status = os.waitpid(self._started.pid, 0)
        self._finished_at = time.time_ns()
        self._code = ending.exit_code(status)
        self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        self._deadline = time.monotonic() + _DRAIN_PATIENCE
        self._streams.drain()
        if self._streams.open:
            ending.kill_rest(self._config.cgroup_paths)

    def _advance(self) -> None:
        if self._log:
            self._log.reap()
        if not self._finished_at or self._exited:
            return
        if not self._streams.open or time.monotonic() >= self._deadline:
            self._finish()

    def _finish(self) -> None:
        """Everything is read: the record first, then everybody is told."""
        self._look_for_oom()
        if self._oom.descriptor >= 0:
            self._loop.unwatch(self._oom.descriptor)
        self._oom.close()
        self._streams.end()
        record = ExitRecord(self._code, self._oom.killed, self._started.started_at, self._finished_at)
        try:
            ending.write_record(self._config.exit_path, record)
        except OSError:
            # A full disk must not keep the daemon from learning of it now.
            pass
        self._exited = record
        self._control.tell(record)
        self._streams.finish()
        ending.remove_cgroups(self._config.cgroup_paths)

    def _serving(self) -> bool:
        if not self._exited:
            return True
        if self._released or not self._control.connected:
            self._control.close()
            return self._streams.delivering
        return True

    def _timeout(self) -> float | None:
        if self._finished_at and not self._exited:
            return max(0.0, self._deadline - time.monotonic())
        return _REAP_INTERVAL if self._log and self._log.compressing else None


def ignore_shutdown() -> None:
    """A machine that goes down asks all processes to end: the container ends first, and its end is
    recorded."""
    for number in (SIGHUP, SIGINT, SIGTERM):
        signal(number, SIG_IGN)


def _open_log(config: LogConfig) -> JsonLog | None:
    try:
        return JsonLog(config) if config.driver == "json-file" else None
    except OSError:
        # The starter could open it a moment ago; a container that runs is not stopped for its log's sake.
        return None
