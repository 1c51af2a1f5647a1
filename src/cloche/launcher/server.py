"""The fork server: one Python that has started once, with everything imported, and forks what the daemon
asks for.

Single-threaded, so that forking is safe and its children may enter user namespaces. It answers nothing,
waits for no child and ends with the daemon's socket.
"""

from __future__ import annotations

import _socket
import gc
import os
import signal
import sys
from typing import NoReturn

from cloche.kernel import process
from cloche.kernel.files import close_range
from cloche.launcher import jobs
from cloche.launcher.warmer import Warmer
from cloche.monitor import packets


def main(descriptor: int) -> None:
    """Serve on the socket ``descriptor`` until its other end is closed."""
    process.set_name(b"cloche-launcher")
    # Inherited by everything forked here: a container of the same user must not look into the
    # host's interpreter (CVE-2019-5736).
    process.set_dumpable(False)
    os.set_inheritable(descriptor, False)
    close_range(3, descriptor - 1)
    close_range(descriptor + 1)
    # Children reap themselves; the launcher never waits for one.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    socket = _socket.socket(fileno=descriptor)
    warmer = Warmer(descriptor)
    # Collecting would write to every object, and so unshare all memory between launcher and monitors.
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        try:
            packet = packets.receive(socket)
        except packets.Truncated as error:
            print(f"cloche launcher: {error}; ignored", file=sys.stderr)
            continue
        if packet is None:
            return
        message, descriptors = packet
        if descriptors:
            _fork(descriptor, warmer, message, descriptors)
            packets.close(descriptors)
        else:
            # Of all requests only Warm has no descriptor: nobody waits for an answer.
            warmer.warm()


def _fork(own: int, warmer: Warmer, message: bytes, descriptors: list[int]) -> None:
    try:
        pid = os.fork()
    except OSError as error:
        # Who asked learns it by the end of its connection.
        print(f"cloche launcher: fork: {error.strerror}", file=sys.stderr)
        return
    if pid == 0:
        _child(own, warmer, message, descriptors)


def _child(own: int, warmer: Warmer, message: bytes, descriptors: list[int]) -> NoReturn:
    code = 1
    try:
        os.close(own)
        warmer.forget()
        jobs.run(message, descriptors)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)
