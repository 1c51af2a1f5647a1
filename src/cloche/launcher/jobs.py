"""What the launcher's children do. Each runs in a process of its own, single-threaded, with everything
imported."""

from __future__ import annotations

import _socket
import os
from _signal import alarm  # type: ignore[import-not-found]

import msgspec

from cloche.kernel import process
from cloche.launcher.protocol import (
    JobAnswer,
    JobDone,
    JobFailed,
    Launch,
    Request,
    RunPlan,
    Unpack,
)
from cloche.monitor import packets
from cloche.monitor.monitor import Monitor
from cloche.monitor.start import Handover, start
from cloche.plan import codec
from cloche.plan.execution import Execution, run_host
from cloche.plan.step import StepError

decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_handover: msgspec.msgpack.Decoder[Handover] = msgspec.msgpack.Decoder(Handover)


def run(message: bytes, descriptors: list[int], monitor: _socket.socket) -> None:
    """Do what ``message`` asks for, in a process that does nothing else. ``monitor`` is the way to its
    parent, the monitor of the container that it may start."""
    request = decoder.decode(message)
    if isinstance(request, Launch):
        set_name(b"cloche-starter")
        leave_daemon()
        # Whatever it hangs in (a file server that is gone), the kernel ends it, and the monitor then kills
        # what it has forked.
        alarm(request.monitor.start_limit)
        start(request.monitor, request.host, request.container, descriptors, monitor)
        return
    set_name(b"cloche-job")
    answers = _socket.socket(fileno=descriptors[0])
    answer = msgspec.msgpack.encode(_answer(request, descriptors[1:]))
    try:
        packets.send(answers, answer)
    except BrokenPipeError:
        # The daemon has gone; what the job made has no row, and the next daemon throws it away.
        return


def supervise(starter: _socket.socket, pid: int) -> None:
    """Be the monitor of the container that the child ``pid`` starts. Returns when the container has ended,
    or at once when the child had something else to do or failed."""
    packet = packets.receive(starter)
    starter.close()
    if packet is None:
        os.waitpid(pid, 0)
        _kill_children()
        return
    set_name(b"cloche-monitor")
    leave_daemon()
    os.setsid()
    monitor = Monitor(_handover.decode(packet[0]), packet[1])
    # With the starter's end init becomes a child of this process, the nearest subreaper.
    os.waitpid(pid, 0)
    process.set_child_subreaper(False)
    monitor.serve()


def _kill_children() -> None:
    """A starter that was killed has left an init that nobody would watch, to the nearest subreaper: here."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            orphans = [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return
    for orphan in orphans:
        os.kill(orphan, 9)
        os.waitpid(orphan, 0)


def set_name(name: bytes) -> None:
    """As prctl(2) does, without ctypes and the memory that it touches."""
    comm = os.open("/proc/self/comm", os.O_WRONLY)
    os.write(comm, name)
    os.close(comm)


def leave_daemon() -> None:
    """Whoever reads the daemon's output would wait for its end as long as containers run."""
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)


def _answer(request: Request, descriptors: list[int]) -> JobAnswer:
    try:
        if isinstance(request, RunPlan):
            run_host(codec.decode(request.host), Execution({}))
            return JobDone()
        assert isinstance(request, Unpack)
        # Imported here: the codecs of layers are large, and no monitor needs them.
        from cloche.launcher.unpack import unpack

        return unpack(descriptors[0], request.target)
    except StepError as error:
        return JobFailed(error.failure.render(), error.failure.errno, False)
    except OSError as error:
        return JobFailed(str(error), error.errno or 0, False)
