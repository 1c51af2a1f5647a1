"""What the launcher's children do. Each runs in a process of its own, single-threaded, with everything
imported."""

from __future__ import annotations

import _socket
import os

# ``signal`` wraps each call in enums, which touches memory that monitors share with the launcher until then.
from _signal import SIG_DFL, SIGCHLD, signal  # type: ignore[import-not-found]

import msgspec

from cloche.launcher.protocol import (
    JobAnswer,
    JobDone,
    JobFailed,
    Launch,
    Request,
    RunPlan,
    Unpack,
)
from cloche.launcher.rehearsal import rehearse
from cloche.monitor import packets
from cloche.monitor.monitor import Monitor
from cloche.plan import codec
from cloche.plan.execution import Execution, run_host
from cloche.plan.step import StepError

decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)


def prepare() -> None:
    """Before a request is there, whatever it will be."""
    signal(SIGCHLD, SIG_DFL)
    rehearse(decoder)


def run(message: bytes, descriptors: list[int]) -> None:
    """Do what ``message`` asks for, in a child of the launcher that does nothing else."""
    request = decoder.decode(message)
    if isinstance(request, Launch):
        _set_name(b"cloche-monitor")
        _leave_session()
        monitor = Monitor(request.monitor, descriptors[0])
        monitor.run(request.host, request.container, descriptors[1:])
        return
    _set_name(b"cloche-job")
    answers = _socket.socket(fileno=descriptors[0])
    packets.send(answers, msgspec.msgpack.encode(_answer(request, descriptors[1:])))


def _set_name(name: bytes) -> None:
    """As prctl(2) does, without ctypes and the memory that it touches."""
    comm = os.open("/proc/self/comm", os.O_WRONLY)
    os.write(comm, name)
    os.close(comm)


def _leave_session() -> None:
    """Nothing of the daemon's is kept: whoever reads its output would wait for its end as long as
    containers run."""
    os.setsid()
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

        return unpack(descriptors[0], request.target, request.whiteouts)
    except StepError as error:
        return JobFailed(error.failure.render(), error.failure.errno, False)
    except OSError as error:
        return JobFailed(str(error), error.errno or 0, False)
