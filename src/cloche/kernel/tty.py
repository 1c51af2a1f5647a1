"""Terminals: a pty of a given devpts instance, its size, and who it controls (ioctl_tty(2))."""

from __future__ import annotations

import fcntl
import os
import struct

TIOCSCTTY = 0x540E
TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414
TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441

_SIZE = struct.Struct("HHHH")
_INT = struct.Struct("i")


def open_pty(ptmx: str = "/dev/pts/ptmx") -> tuple[int, int]:
    """A new pty of the devpts instance that ``ptmx`` belongs to: master and terminal, both closed on
    exec.

    The terminal is opened through the master (TIOCGPTPEER, Linux 4.13): its path might lead elsewhere by
    now."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = os.open(ptmx, flags)
    try:
        fcntl.ioctl(master, TIOCSPTLCK, _INT.pack(0))
        return master, fcntl.ioctl(master, TIOCGPTPEER, flags)
    except BaseException:
        os.close(master)
        raise


def set_size(descriptor: int, rows: int, columns: int) -> None:
    """Set the size in characters (0 to 65535); the foreground processes get SIGWINCH if it changed."""
    fcntl.ioctl(descriptor, TIOCSWINSZ, _SIZE.pack(rows, columns, 0, 0))


def size(descriptor: int) -> tuple[int, int]:
    """Rows and columns."""
    rows, columns, _, _ = _SIZE.unpack(fcntl.ioctl(descriptor, TIOCGWINSZ, bytes(_SIZE.size)))
    return rows, columns


def set_controlling(descriptor: int) -> None:
    """Make it the controlling terminal of this session; the caller leads a session (setsid) that has
    none."""
    fcntl.ioctl(descriptor, TIOCSCTTY, 0)
