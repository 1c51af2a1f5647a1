"""The process beside each container: it makes it, owns its stdio and its log, and tells its end.

It depends on nothing but the kernel: launcher and daemon may end, be killed and come back. Idle it holds
no buffers and touches no memory, since what it touches is no longer shared with the launcher.
"""

from __future__ import annotations

import errno
import os
import time
from _signal import SIG_IGN, SIGHUP, SIGINT, SIGTERM, signal  # type: ignore[import-not-found]

import msgspec

from cloche.kernel import process
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
    MonitorConfig,
    OutOfMemory,
    Release,
    Resize,
    Signal,
    Started,
    StartFailed,
    Status,
    ToMonitor,
)
from cloche.monitor.stdio import Pipes
from cloche.monitor.streams import Streams
from cloche.plan import codec
from cloche.plan.execution import Execution, run_host
from cloche.plan.step import StepError, StepFailure

NOT_FOUND, NOT_EXECUTABLE, NOT_STARTED = 127, 126, 128
"""Exit codes of a container whose program did not start."""
_DRAIN_PATIENCE = 2.0
"""Seconds that the output may stay open after the container's end: a process elsewhere was handed a copy
of it."""
_REAP_INTERVAL = 1.0
"""Seconds between looks for the end of the log's compressor."""


class Monitor:
    """One container, from its start to the delivery of its last byte."""

    def __init__(self, config: MonitorConfig, control: int) -> None:
        self._config = config
        self._loop = Loop()
        self._control = Control(self._loop, control, self._status, self._receive)
        self._oom = OomWatcher()
        self._log: JsonLog | None = None
        self._streams: Streams | None = None
        self._started: Started | None = None
        self._exited: ExitRecord | None = None
        self._pidfd = -1
        self._code = 0
        self._finished_at = 0
        self._deadline = 0.0
        self._released = False

    def run(self, host: bytes | msgspec.Raw, container: bytes | msgspec.Raw, clients: list[int]) -> None:
        """Make the container, then serve until it has ended and everything is delivered."""
        try:
            pipes = self._start(host, container)
        except (StepError, OSError) as error:
            self._fail(error.failure if isinstance(error, StepError) else _failure(error), clients)
            return
        _ignore_shutdown()
        self._take_stdio(pipes, clients)
        while self._serving():
            self._loop.turn(self._timeout())
            self._advance()

    # --- start -------------------------------------------------------------------------------------------

    def _start(self, host: bytes | msgspec.Raw, container: bytes | msgspec.Raw) -> Pipes:
        config = self._config
        if config.log.driver == "json-file":
            self._log = JsonLog(config.log)
        self._control.listen(config.socket_path)
        pipes = Pipes(config.terminal, config.open_stdin)
        run = Execution(pipes.init, container)
        trace = run_host(codec.decode(host), run)
        pid = run.init_pid
        started = Started(pid, process.process_start_time(pid), time.time_ns(), trace)
        self._control.tell(self._status())
        self._control.tell(started)
        self._started = started
        self._pidfd = os.pidfd_open(pid)
        return pipes

    def _fail(self, failure: StepFailure, clients: list[int]) -> None:
        self._control.tell(self._status())
        self._control.tell(StartFailed(failure, start_code(failure)))
        self._control.close()
        packets.close(clients)

    def _take_stdio(self, pipes: Pipes, clients: list[int]) -> None:
        config = self._config
        self._streams = Streams(self._loop, config, pipes, self._log, lambda: self._control.tell(Detached()))
        for descriptor, attachment in zip(clients, config.attach, strict=True):
            self._streams.attach(descriptor, attachment)
        self._streams.begin()
        self._loop.watch(self._pidfd, READ, self._end)
        self._oom.begin(config.oom)
        if self._oom.descriptor >= 0:
            self._loop.watch(self._oom.descriptor, self._oom.events, self._look_for_oom)

    # --- the daemon --------------------------------------------------------------------------------------

    def _status(self) -> Status:
        return Status(os.getpid(), self._started, self._exited, self._oom.killed)

    def _receive(self, request: ToMonitor, descriptors: list[int]) -> None:
        streams = self._streams
        if streams and isinstance(request, Attach) and descriptors:
            streams.attach(descriptors.pop(), request.attachment)
            if self._exited:
                streams.finish()
        elif streams and isinstance(request, Resize):
            streams.resize(request.rows, request.columns)
        elif isinstance(request, Signal) and self._started and not self._finished_at:
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
        assert self._streams
        assert self._started
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
        assert self._streams
        if not self._streams.open or time.monotonic() >= self._deadline:
            self._finish()

    def _finish(self) -> None:
        """Everything is read: the record first, then everybody is told."""
        assert self._streams
        assert self._started
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
            assert self._streams
            return self._streams.delivering
        return True

    def _timeout(self) -> float | None:
        if self._finished_at and not self._exited:
            return max(0.0, self._deadline - time.monotonic())
        return _REAP_INTERVAL if self._log and self._log.compressing else None


def start_code(failure: StepFailure) -> int:
    """The exit code of a container whose start failed so, as Docker counts."""
    if failure.step != "Exec":
        return NOT_STARTED
    return NOT_FOUND if failure.errno == errno.ENOENT else NOT_EXECUTABLE


def _failure(error: OSError) -> StepFailure:
    return StepFailure(
        "host", -1, "Monitor", "prepare the log and the socket", error.errno or 0, str(error), "", ""
    )


def _ignore_shutdown() -> None:
    """A machine that goes down asks all processes to end: the monitor's container ends first, and its end
    is recorded.

    After init was forked, which would inherit that."""
    for number in (SIGHUP, SIGINT, SIGTERM):
        signal(number, SIG_IGN)
