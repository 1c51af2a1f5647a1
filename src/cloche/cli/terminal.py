"""The user's own terminal: raw mode and size."""

from __future__ import annotations

import os
import termios


class RawMode:
    """The terminal passes every byte on until ``restore`` (termios(3), ``cfmakeraw``)."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.saved = termios.tcgetattr(descriptor)
        mode = termios.tcgetattr(descriptor)
        mode[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN] = 1
        mode[6][termios.VTIME] = 0
        termios.tcsetattr(descriptor, termios.TCSANOW, mode)

    def restore(self) -> None:
        termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self.saved)


def size() -> tuple[int, int]:
    """(rows, columns) of the terminal on stdout or stdin; (0, 0) where there is none."""
    for descriptor in (1, 0):
        try:
            columns, rows = os.get_terminal_size(descriptor)
        except OSError:
            continue
        return rows, columns
    return 0, 0


def keys(text: str) -> bytes:
    """A detach sequence in Docker's syntax, ``ctrl-p,ctrl-q``: letters, or ``ctrl-`` and one of
    ``a``-``z@[]^_\\``. Raises ``ValueError``."""
    sequence = b""
    for key in text.split(",") if text else []:
        if len(key) == 1:
            sequence += key.encode()
        elif key.startswith("ctrl-") and len(key) == 6 and 0 <= ord(key[5].upper()) - 64 < 32:
            sequence += bytes([ord(key[5].upper()) - 64])
        else:
            raise ValueError(f"invalid detach key {key!r}: a character, or ctrl- and a letter")
    return sequence
