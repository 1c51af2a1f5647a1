"""Lives of monitors on sample data, before there is a container.

They are lived for what they leave in memory. A forked process shares each page with its parent until one of
them writes to it, and running code writes: the interpreter counts calls, specialises instructions and fills
its caches on first use. Where the launcher has done that already, monitors need not: they stay small, and
are quick from their first step.

The spare rehearses once more while it waits, a monitor's first steps only: the pages that those write to in
any case (reference counts) are copied then, not when a container is asked for."""

from __future__ import annotations

import _socket
import os

import msgspec

from cloche.kernel import process
from cloche.launcher.protocol import Launch, Request
from cloche.monitor import packets
from cloche.monitor.log import JsonLog
from cloche.monitor.monitor import Monitor
from cloche.monitor.protocol import LogConfig, MonitorConfig, OomWatch, Release, Status
from cloche.monitor.start import Handover, start
from cloche.monitor.stdio import pipes
from cloche.plan import codec
from cloche.plan.steps.process import Await, Clone, Signal

_LIVES = 12
"""Enough for the interpreter to have specialised what it will."""

_HOST = codec.encode((Clone(()), Signal("attached")))
_CONTAINER = codec.encode((Await("attached"),))


def rehearse_lives(decoder: msgspec.msgpack.Decoder[Request]) -> None:
    """In the launcher, before its memory is frozen. Without a place for the files nothing happens."""
    directory = f"/tmp/cloche-rehearsal-{os.getpid()}"
    try:
        os.mkdir(directory, 0o700)
    except OSError:
        return
    try:
        for _ in range(_LIVES):
            _live(decoder, directory)
            _rehearse_log()
            rehearse_start(decoder)
    finally:
        for name in os.listdir(directory):
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)


def _live(decoder: msgspec.msgpack.Decoder[Request], directory: str) -> None:
    """A container whose init does no more than end."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    to_monitor, to_starter = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    packets.send(ours, msgspec.msgpack.encode(Release()))
    request = _request(decoder, directory)
    descriptors = [theirs.detach()]
    start(request.monitor, request.host, request.container, descriptors, to_monitor)
    packet = packets.receive(to_starter)
    if packet:
        Monitor(msgspec.msgpack.decode(packet[0], type=Handover), packet[1]).serve()
    for end in (ours, to_monitor, to_starter):
        end.close()


def rehearse_start(decoder: msgspec.msgpack.Decoder[Request]) -> None:
    """In the starter that waits for a request. Leaves nothing behind but private memory."""
    codec.decode(_request(decoder, "").host)
    ours, theirs = pipes(False, False)
    packets.close([*ours.values(), *theirs.values()])
    first, second = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    packets.send(first, msgspec.msgpack.encode(Status(os.getpid(), None, None, False)))
    process.process_start_time(os.getpid())
    first.close()
    second.close()


def _rehearse_log() -> None:
    file = os.memfd_create("rehearsal")
    log = JsonLog(LogConfig("json-file", f"/proc/self/fd/{file}", 1 << 20, 1, True))
    log.write(1, b"rehearsal\n")
    log.finish()
    os.close(file)


def _request(decoder: msgspec.msgpack.Decoder[Request], directory: str) -> Launch:
    launch = Launch(_config(directory), msgspec.Raw(_HOST), msgspec.Raw(_CONTAINER))
    request = decoder.decode(msgspec.msgpack.encode(launch))
    assert isinstance(request, Launch)
    return request


def _config(directory: str) -> MonitorConfig:
    return MonitorConfig(
        id="rehearsal",
        socket_path=f"{directory}/socket",
        exit_path=f"{directory}/exit",
        terminal=False,
        rows=0,
        columns=0,
        open_stdin=False,
        stdin_once=False,
        log=LogConfig("json-file", f"{directory}/log", 1 << 20, 1, True),
        oom=OomWatch(1, ""),
        cgroup_paths=(),
        attach=(),
        start_limit=0,
    )
