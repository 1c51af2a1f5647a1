"""The C library and the way from a system call's name to a function.

The C library's own symbol is taken where it has one, the raw number of this architecture otherwise.
Argument types are set once, at import. Every failure is an ``OSError`` whose text names the call and its
arguments.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any

_NUMBERS_BY_MACHINE = {
    "x86_64": {
        "pivot_root": 155,
        "keyctl": 250,
        "unshare": 272,
        "setns": 308,
        "seccomp": 317,
        "bpf": 321,
    },
    "aarch64": {
        "pivot_root": 41,
        "unshare": 97,
        "keyctl": 219,
        "setns": 268,
        "seccomp": 277,
        "bpf": 280,
    },
}

# From number 424 on all architectures share one table.
_NUMBERS_EVERYWHERE = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}

NUMBERS: dict[str, int] = {**_NUMBERS_EVERYWHERE, **_NUMBERS_BY_MACHINE.get(os.uname().machine, {})}
"""System call numbers of this machine, for the calls that some C library lacks."""

libc = ctypes.CDLL(None, use_errno=True)


def bind(name: str, *argtypes: Any) -> Any:
    """A function for the system call ``name``: the C library's, or the raw call where it has none.

    On an architecture whose number is not known the function exists and fails with ENOSYS."""
    try:
        function = libc[name]
    except AttributeError:
        number = NUMBERS.get(name, -1)
        raw = libc["syscall"]
        raw.argtypes = (ctypes.c_long, *argtypes)
        raw.restype = ctypes.c_long
        return lambda *args: raw(number, *args)
    function.argtypes = argtypes
    function.restype = ctypes.c_int
    return function


def check(result: int, call: str, *subject: object) -> int:
    """``result`` itself, or the ``OSError`` of the call that returned a negative one, as
    ``call(subject): reason``."""
    if result < 0:
        raise failure(ctypes.get_errno(), call, *subject)
    return int(result)


def failure(number: int, call: str, *subject: object, detail: str = "") -> OSError:
    """The error of a call: ``detail`` is what the kernel said beyond the errno."""
    arguments = ", ".join(_show(argument) for argument in subject)
    return OSError(number, f"{call}({arguments}): {os.strerror(number)}{f': {detail}' if detail else ''}")


def c_string(value: str | bytes | None) -> bytes | None:
    """A C string. Raises ``OSError`` (EINVAL) for a NUL inside, which C would silently cut the string at."""
    if value is None:
        return None
    raw = os.fsencode(value)
    if b"\0" in raw:
        raise OSError(errno.EINVAL, f"NUL byte inside {value!r}")
    return raw


def _show(argument: object) -> str:
    if isinstance(argument, bytes):
        return repr(os.fsdecode(argument))
    return "NULL" if argument is None else repr(argument)
