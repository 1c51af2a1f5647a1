"""Starting a container, in a process that ends when that is done.

The starter runs the plan, tells the daemon, and hands what it has made to the monitor, its parent, which had
nothing to do until then. So whatever memory a start takes is given back, and a monitor's is a third of what
it would be."""

from __future__ import annotations

import _socket
import os
import time

import msgspec

from cloche.kernel import process
from cloche.monitor import packets
from cloche.monitor.control import listen
from cloche.monitor.protocol import FromMonitor, MonitorConfig, Started, StartFailed, Status
from cloche.monitor.stdio import pipes
from cloche.plan import codec
from cloche.plan.execution import Execution, run_host
from cloche.plan.step import StepError, StepFailure

_encode = msgspec.msgpack.Encoder().encode


class Handover(msgspec.Struct, frozen=True):
    """What the monitor gets; the descriptors come beside it: those of ``names``, then the clients'."""

    config: MonitorConfig
    started: Started
    names: tuple[str, ...]
    """``control`` (the daemon's connection), ``listener``, and of ``stdin stdout stderr console`` what there
    is."""


def start(
    config: MonitorConfig,
    host: bytes | msgspec.Raw,
    container: bytes | msgspec.Raw,
    descriptors: list[int],
    monitor: _socket.socket,
) -> None:
    """Run the plan. ``descriptors`` are the daemon's connection and the clients'; all are closed when this
    returns.

    A failure is undone and told to the daemon; the monitor then gets nothing, and ends. What is still open
    ends with this process."""
    control = _socket.socket(fileno=descriptors[0])
    try:
        listener = listen(config.socket_path)
        try:
            _greet(control)
            made, started = _run(config, host, container)
        except BaseException:
            os.unlink(config.socket_path)
            raise
    except StepError as error:
        _tell(control, StartFailed(error.failure, error.failure.exit_code))
    except OSError as error:
        failure = StepFailure("host", -1, "Monitor", config.id, error.errno or 0, str(error), "", "")
        _tell(control, StartFailed(failure, failure.exit_code))
    else:
        _tell(control, started)
        handover = Handover(config, started, ("control", "listener", *made))
        handed = (descriptors[0], listener.fileno(), *made.values(), *descriptors[1:])
        packets.send(monitor, _encode(handover), handed)


def _run(
    config: MonitorConfig, host: bytes | msgspec.Raw, container: bytes | msgspec.Raw
) -> tuple[dict[str, int], Started]:
    """The monitor's ends of the program's stdio, by name, and what to tell."""
    if config.log.driver == "json-file":
        # The monitor opens it; a start fails where that would.
        os.close(os.open(config.log.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640))
    made, init = pipes(config.terminal, config.open_stdin)
    run = Execution(init, container)
    trace = run_host(codec.decode(host), run)
    started_at = time.time_ns()
    started = Started(run.init_pid, process.process_start_time(run.init_pid), started_at, trace)
    if "console" in init:
        made["console"] = init.pop("console")
    # The program's output ends when its last holder is gone.
    packets.close(list(init.values()))
    return made, started


def _greet(control: _socket.socket) -> None:
    """Raises ``OSError`` where the daemon is gone by now. It has not answered for this start, and the next
    one may have looked for the socket too early to know of it: nothing must run then. Whoever comes from
    here on finds the socket, and hears the outcome there."""
    packets.send(control, _encode(Status(os.getppid(), None, None, False)))


def _tell(control: _socket.socket, message: FromMonitor) -> None:
    try:
        packets.send(control, _encode(message))
    except OSError:
        # The daemon has gone: that is no reason to stop.
        pass
