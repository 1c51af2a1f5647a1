"""The user's terminal joined to a container's: raw bytes both ways, and the window's size."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import termios
import tty
from types import FrameType, TracebackType
from typing import Any


class Terminal:
    """A context manager: raw mode inside, the old mode after it. Standard input may also be no terminal."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._old: list[Any] | None = None

    def __enter__(self) -> Terminal:
        if os.isatty(0):
            self._old = termios.tcgetattr(0)
            tty.setraw(0)
            signal.signal(signal.SIGWINCH, self._resize)
            self._resize(signal.SIGWINCH, None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._old is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._old)
        os.close(self._master)

    def relay(self) -> None:
        """Until the last process has closed the container's terminal."""
        sources = [self._master, 0]
        while True:
            for source in select.select(sources, (), ())[0]:
                data = self._read(source)
                if source == 0:
                    if data:
                        _write(self._master, data)
                    else:
                        sources.remove(0)
                elif data:
                    _write(1, data)
                else:
                    return

    def _read(self, source: int) -> bytes:
        try:
            return os.read(source, 65536)
        except OSError as error:
            if error.errno == errno.EIO:  # a pty master's end of file
                return b""
            raise

    def _resize(self, number: int, frame: FrameType | None) -> None:
        size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
