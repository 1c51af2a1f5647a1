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
import signal
import sys
import time
from typing import NoReturn

from cloche.kernel import process
from cloche.kernel.files import close_range
from cloche.launcher import jobs
from cloche.launcher.warmer import Warmer
from cloche.monitor import packets

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
    close_range(3, descriptor - 1)
    close_range(descriptor + 1)
    # Children reap themselves.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    socket = _socket.socket(fileno=descriptor)
    warmer = Warmer(descriptor)
    # Collecting would write to every object, and so unshare all memory between launcher and monitors.
    gc.collect()
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


def _spare(socket: _socket.socket, mine: int, warmer: Warmer) -> NoReturn:
    code = 1
    try:
        process.set_name(b"cloche-spare")
        jobs.prepare()
        message, descriptors = _await_request(socket, warmer)
        os.close(mine)
        # The daemon's socket and the warmer are not the child's.
        socket.close()
        warmer.forget()
        jobs.run(message, descriptors)
        code = 0
    except EOFError:
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


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
