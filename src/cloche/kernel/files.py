"""Files and descriptors: resolution that cannot leave a root, closing by range, sealing."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_uint64, c_void_p

from cloche.kernel.syscall import bind, c_string, check

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

CLOSE_RANGE_CLOEXEC = 0x4

PROC_SUPER_MAGIC = 0x9FA0

LAST_DESCRIPTOR = 0xFFFFFFFF
"""The end of a ``close_range`` that means all."""


class _OpenHow(ctypes.Structure):
    """``struct open_how``."""

    _fields_ = [("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64)]


_openat2 = bind("openat2", c_int, c_char_p, c_void_p, c_size_t)
_close_range = bind("close_range", c_uint, c_uint, c_int)
_syncfs = bind("syncfs", c_int)
_fstatfs = bind("fstatfs", c_int, c_void_p)


def openat2(directory: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2); O_CLOEXEC is always added. With RESOLVE_IN_ROOT no link and no ``..`` leads out of
    ``directory``.

    The kernel refuses with EAGAIN when a rename elsewhere races a ``..``: tried again here, a bounded
    number of times."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    reference, size, raw = ctypes.byref(how), ctypes.sizeof(how), c_string(path)
    result = -1
    for _ in range(64):
        result = _openat2(directory, raw, reference, size)
        if result >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    return check(result, "openat2", directory, path, hex(flags), oct(mode), hex(resolve))


def close_range(first: int, last: int = LAST_DESCRIPTOR, flags: int = 0) -> None:
    """close_range(2), both ends included; with CLOSE_RANGE_CLOEXEC they are closed on exec instead."""
    check(_close_range(first, last, flags), "close_range", first, last, hex(flags))


def memfd_seal(descriptor: int) -> None:
    """Seal a memfd for good: no write, no growth, no shrinking, no further seals.

    Raises ``OSError`` (EPERM) if it was made without MFD_ALLOW_SEALING, EBUSY if it is mapped writable."""
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)


def filesystem(descriptor: int) -> int:
    """The magic number of the file system that the descriptor lies on: ``f_type`` of statfs(2)."""
    # The first word of ``struct statfs``, which is below 128 bytes everywhere.
    buffer = (c_long * 16)()
    check(_fstatfs(descriptor, buffer), "fstatfs", descriptor)
    return int(buffer[0])


def syncfs(descriptor: int) -> None:
    """syncfs(2): write out the whole file system that the descriptor lies on. Raises ``OSError`` for a
    write error."""
    check(_syncfs(descriptor), "syncfs", descriptor)
