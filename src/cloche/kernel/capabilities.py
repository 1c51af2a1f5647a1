"""Capabilities of this thread, as 64-bit masks in which bit n is capability number n (capabilities(7))."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_uint32, c_void_p
from typing import NamedTuple

from cloche.kernel.syscall import bind, check

NAMES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""The name of each capability at its number."""

_VERSION_3 = 0x20080522
_NUMBER = {name: number for number, name in enumerate(NAMES)}


class Sets(NamedTuple):
    effective: int
    permitted: int
    inheritable: int


class _Header(ctypes.Structure):
    _fields_ = [("version", c_uint32), ("pid", c_int)]


class _Data(ctypes.Structure):
    _fields_ = [("effective", c_uint32), ("permitted", c_uint32), ("inheritable", c_uint32)]


_capget = bind("capget", c_void_p, c_void_p)
_capset = bind("capset", c_void_p, c_void_p)


def number(name: str) -> int:
    """The number of ``CAP_...``. Raises ``KeyError`` for a name that there is not."""
    return _NUMBER[name]


def mask(names: tuple[str, ...]) -> int:
    """The mask of these ``CAP_...``."""
    return sum(1 << _NUMBER[name] for name in set(names))


def names(bits: int) -> tuple[str, ...]:
    """The capabilities in a mask, in the order of their numbers."""
    return tuple(name for position, name in enumerate(NAMES) if bits >> position & 1)


def capget() -> Sets:
    """This thread's effective, permitted and inheritable sets."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    check(_capget(ctypes.byref(header), data), "capget", 0)
    low, high = data[0], data[1]
    return Sets(
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set all three sets of this thread."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    for position in (0, 1):
        shift = 32 * position
        data[position].effective = effective >> shift & 0xFFFFFFFF
        data[position].permitted = permitted >> shift & 0xFFFFFFFF
        data[position].inheritable = inheritable >> shift & 0xFFFFFFFF
    check(_capset(ctypes.byref(header), data), "capset", hex(effective), hex(permitted), hex(inheritable))
