"""seccomp(2): load a compiled filter into this thread."""

from __future__ import annotations

import ctypes
import errno
from ctypes import c_char_p, c_uint, c_ushort, c_void_p

from cloche.kernel.syscall import bind, check, failure

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 0x1
SECCOMP_FILTER_FLAG_LOG = 0x2
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 0x4

_INSTRUCTION_SIZE = 8


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = [("len", c_ushort), ("filter", c_char_p)]


_seccomp = bind("seccomp", c_uint, c_uint, c_void_p)


def load_filter(program: bytes, flags: int = 0) -> None:
    """Filter this thread's system calls, for good, by classic BPF: ``program`` is an array of ``struct
    sock_filter``.

    Needs no_new_privs or CAP_SYS_ADMIN (EACCES otherwise)."""
    count, rest = divmod(len(program), _INSTRUCTION_SIZE)
    if rest or not 0 < count <= 0xFFFF:
        raise failure(errno.EINVAL, "seccomp", "SECCOMP_SET_MODE_FILTER", f"{len(program)} bytes")
    argument = _Program(count, program)
    result = _seccomp(SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(argument))
    check(result, "seccomp", "SECCOMP_SET_MODE_FILTER", hex(flags), f"{count} instructions")
