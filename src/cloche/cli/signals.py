"""Signals of the user, seen by a poll loop: each becomes a byte in a pipe."""

from __future__ import annotations

# ``signal`` wraps this module in enums, whose making takes longer than a request to the daemon.
import _signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SIGHUP: int = _signal.SIGHUP
SIGINT: int = _signal.SIGINT
SIGQUIT: int = _signal.SIGQUIT
SIGPIPE: int = _signal.SIGPIPE
SIGTERM: int = _signal.SIGTERM
SIGUSR1: int = _signal.SIGUSR1
SIGUSR2: int = _signal.SIGUSR2
SIGWINCH: int = _signal.SIGWINCH
SIGCONT: int = _signal.SIGCONT
PROXIED = (SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGCONT)
"""What ``--sig-proxy`` passes on to the container."""


def default(*numbers: int) -> None:
    """Let these signals end the process, quietly, as they do with other commands."""
    for number in numbers:
        _signal.signal(number, _signal.SIG_DFL)


class SignalPipe:
    """Catches ``numbers`` from now on."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.descriptor, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _signal.set_wakeup_fd(writer)
        for number in numbers:
            _signal.signal(number, lambda number, frame: None)

    def read(self) -> bytes:
        """Numbers of the signals that came, one byte each."""
        try:
            return os.read(self.descriptor, 64)
        except BlockingIOError:
            return b""
