"""The fork server: one Python that has started once, with everything imported, and forks what the daemon
asks for.

Single-threaded, so that forking is safe and its children may enter user namespaces. It answers nothing and
waits for no child. One child, the spare, is always forked ahead and waits for the next request itself: not
even the fork is on the way to a container. The launcher only replaces the spare, and ends with the daemon's
socket."""

from __future__ import annotations

import _socket
import gc
import os
import select
import sys
import time

# The module ``signal`` wraps each call in enums: more memory to write to in every child.
from _signal import SIG_DFL, SIG_IGN, SIGCHLD, SIGINT, SIGKILL, signal  # type: ignore[import-not-found]
from typing import NoReturn

from cloche.kernel import process
from cloche.kernel.files import close_range
from cloche.launcher import jobs, rehearsal
from cloche.launcher.warmer import Warmer
from cloche.monitor import packets
from cloche.monitor.monitor import ignore_shutdown

_REFILL_DELAY = 10
"""Milliseconds to leave the processor to a start before the next spare is forked, unless one is asked
for."""
_FORK_RETRY = 0.1
"""Seconds."""


def main(descriptor: int) -> None:
    """Serve on the socket ``descriptor`` until its other end is closed."""
    process.set_name(b"cloche-launcher")
    # Inherited by everything forked here: a container of the same user must not look into the host's
    # interpreter (CVE-2019-5736).
    process.set_dumpable(False)
    os.set_inheritable(descriptor, False)
    signal(SIGINT, SIG_DFL)
    rehearsal.rehearse_lives(jobs.decoder)
    gc.collect()
    # What the interpreter and the lives have left open; objects that own any of it are gone.
    close_range(3, descriptor - 1)
    close_range(descriptor + 1)
    # Children reap themselves.
    signal(SIGCHLD, SIG_IGN)
    socket = _socket.socket(fileno=descriptor)
    warmer = Warmer(descriptor)
    # Collecting would write to every object, and so unshare all memory between launcher and monitors.
    gc.freeze()
    gc.disable()
    _keep_spare(socket, warmer)


def _keep_spare(socket: _socket.socket, warmer: Warmer) -> None:
    requests = select.poll()
    requests.register(socket, select.POLLIN)
    while True:
        taken = _fork_spare(socket, warmer)
        changes = select.poll()
        # Neither is ever readable for the launcher: it waits for their end, which poll always reports.
        changes.register(taken, 0)
        changes.register(socket, 0)
        ended = [descriptor for descriptor, _ in changes.poll()]
        os.close(taken)
        if socket.fileno() in ended:
            return
        requests.poll(_REFILL_DELAY)


def _fork_spare(socket: _socket.socket, warmer: Warmer) -> int:
    """A descriptor whose other end is closed when the spare takes a request, or dies."""
    taken, mine = os.pipe2(os.O_CLOEXEC)
    while True:
        try:
            pid = os.fork()
            break
        except OSError as error:
            # Requests wait in the socket meanwhile.
            print(f"cloche launcher: fork: {error.strerror}; trying again", file=sys.stderr)
            time.sleep(_FORK_RETRY)
    if pid == 0:
        os.close(taken)
        _spare(socket, mine, warmer)
    os.close(mine)
    return taken


def _spare(socket: _socket.socket, taken: int, warmer: Warmer) -> NoReturn:
    """A monitor to be, and its child, which takes the request and starts the container."""
    code = 1
    try:
        signal(SIGCHLD, SIG_DFL)
        jobs.set_name(b"cloche-spare")
        process.set_child_subreaper(True)
        to_monitor, to_starter = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        monitor_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            to_starter.close()
            rehearsal.rehearse_start(jobs.decoder)
            _start(socket, taken, warmer, to_monitor, monitor_pid)
        else:
            # The starter, and so init, is forked: it does not inherit that.
            ignore_shutdown()
            to_monitor.close()
            os.close(taken)
            socket.close()
            warmer.forget()
            jobs.supervise(to_starter, pid)
        code = 0
    except EOFError:
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


def _start(
    socket: _socket.socket, taken: int, warmer: Warmer, monitor: _socket.socket, monitor_pid: int
) -> None:
    # Alone it must take no request: there would be no monitor for what it starts.
    process.set_parent_death_signal(SIGKILL)
    if os.getppid() != monitor_pid:
        return
    message, descriptors = _await_request(socket, warmer)
    process.set_parent_death_signal(0)
    # The next spare may come; the daemon's socket and the warmer are not the child's.
    os.close(taken)
    socket.close()
    warmer.forget()
    jobs.run(message, descriptors, monitor)


def _await_request(socket: _socket.socket, warmer: Warmer) -> tuple[bytes, list[int]]:
    """Raises ``EOFError`` when the daemon has gone."""
    while True:
        try:
            packet = packets.receive(socket)
        except packets.Truncated as error:
            print(f"cloche launcher: {error}; ignored", file=sys.stderr)
            continue
        if packet is None:
            raise EOFError
        if packet[1]:
            return packet
        # Of all requests only Warm has no descriptor: nobody waits for an answer.
        warmer.warm()
