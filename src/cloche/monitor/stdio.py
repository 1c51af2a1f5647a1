"""The program's stdin, stdout and stderr: pipes, or a terminal's master that init has sent."""

from __future__ import annotations

import os
from collections.abc import Callable

from cloche.monitor.loop import WRITE, Loop

CHUNK = 64 << 10
"""Bytes read at once; at most one frame for a client."""
STDIN_LIMIT = 64 << 10
"""Bytes waiting for the program above which clients' input is not read any more."""


def pipes(terminal: bool, open_stdin: bool) -> tuple[dict[str, int], dict[str, int]]:
    """Our ends and the program's, by name. With a terminal there are none: its console comes from init."""
    ours: dict[str, int] = {}
    theirs: dict[str, int] = {}
    if terminal:
        return ours, theirs
    if open_stdin:
        theirs["stdin"], ours["stdin"] = os.pipe2(os.O_CLOEXEC)
    else:
        theirs["stdin"] = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for name in ("stdout", "stderr"):
        ours[name], theirs[name] = os.pipe2(os.O_CLOEXEC)
    for descriptor in ours.values():
        os.set_blocking(descriptor, False)
    return ours, theirs


class Stdin:
    """The way to the program: bytes wait here while it does not read."""

    def __init__(self, loop: Loop, descriptor: int, drained: Callable[[], None]) -> None:
        """``drained`` is called when it takes bytes again after it was ``full``."""
        self._loop = loop
        self._descriptor = descriptor
        self._drained = drained
        self._waiting = bytearray()
        self._closing = False

    @property
    def full(self) -> bool:
        return len(self._waiting) >= STDIN_LIMIT

    def write(self, data: bytes) -> None:
        """Lost where the program has closed its stdin or ended."""
        if self._descriptor < 0 or self._closing:
            return
        self._waiting += data
        self._flush()

    def close(self) -> None:
        """Close it when all that waits is written."""
        self._closing = True
        if not self._waiting:
            self._shut()

    def _flush(self, _descriptor: int = -1, _events: int = WRITE) -> None:
        was_full = self.full
        try:
            while self._waiting:
                del self._waiting[: os.write(self._descriptor, self._waiting[:CHUNK])]
        except BlockingIOError:
            self._loop.watch(self._descriptor, WRITE, self._flush)
        except OSError:
            self._waiting.clear()
            self._shut()
        else:
            self._loop.unwatch(self._descriptor)
            if self._closing:
                self._shut()
        if was_full and not self.full:
            self._drained()

    def _shut(self) -> None:
        if self._descriptor >= 0:
            self._loop.unwatch(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
