"""What the spare does while it waits: the first part of a monitor's life, on sample data.

The first write of a forked process to each page that it shares with its parent costs a fault and a copy,
some microseconds each, and whatever code runs writes to the objects that it uses: their reference counts.
The rehearsal takes these faults before a container is asked for. It costs no memory: a monitor would touch
the same pages."""

from __future__ import annotations

import _socket
import os

import msgspec

from cloche.kernel import process
from cloche.launcher.protocol import Launch, Request
from cloche.monitor.control import Control
from cloche.monitor.log import JsonLog
from cloche.monitor.loop import Loop
from cloche.monitor.oom import OomWatcher
from cloche.monitor.protocol import LogConfig, MonitorConfig, OomWatch, Started, Status
from cloche.monitor.stdio import Pipes
from cloche.plan import codec
from cloche.plan.step import Trace
from cloche.plan.steps.process import Signal

_STEPS = codec.encode((Signal("attached"),))
_CONFIG = MonitorConfig(
    id="",
    socket_path="",
    exit_path="",
    terminal=False,
    rows=0,
    columns=0,
    open_stdin=False,
    stdin_once=False,
    log=LogConfig("json-file", "", 1 << 20, 1, True),
    oom=OomWatch(1, ""),
    cgroup_paths=("",),
    attach=(),
)
_SAMPLE = msgspec.msgpack.encode(Launch(_CONFIG, msgspec.Raw(_STEPS), msgspec.Raw(_STEPS)))


def rehearse(decoder: msgspec.msgpack.Decoder[Request]) -> None:
    """Leaves nothing behind but private memory."""
    request = decoder.decode(_SAMPLE)
    assert isinstance(request, Launch)
    codec.decode(request.host)
    _rehearse_log()
    _rehearse_control()
    _rehearse_pipes()
    OomWatcher().begin(request.monitor.oom)


def _rehearse_log() -> None:
    file = os.memfd_create("rehearsal")
    log = JsonLog(LogConfig("json-file", f"/proc/self/fd/{file}", 1 << 20, 1, True))
    log.write(1, b"rehearsal\n")
    log.finish()
    os.close(file)


def _rehearse_control() -> None:
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    status = Status(os.getpid(), None, None, False)
    control = Control(Loop(), ours.detach(), lambda: status, lambda request, descriptors: None)
    control.tell(status)
    control.tell(Started(0, process.process_start_time(os.getpid()), 0, Trace((), ())))
    control.close()
    theirs.close()


def _rehearse_pipes() -> None:
    pipes = Pipes(False, False)
    pipes.close_init()
    os.close(pipes.stdout)
    os.close(pipes.stderr)
    os.close(os.pidfd_open(os.getpid()))
