"""One's own process (prctl(2), the session keyring) and other processes (pidfd, start time)."""

from __future__ import annotations

import os
from ctypes import c_char_p, c_int, c_uint, c_ulong, c_void_p

from cloche.kernel.syscall import bind, c_string, check, libc

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2

KEYCTL_JOIN_SESSION_KEYRING = 1

_prctl = bind("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_prctl_name = libc["prctl"]
_prctl_name.argtypes = (c_int, c_char_p, c_ulong, c_ulong, c_ulong)
_prctl_name.restype = c_int
_keyctl = bind("keyctl", c_int, c_char_p, c_ulong, c_ulong, c_ulong)
_pidfd_open = bind("pidfd_open", c_int, c_uint)
_pidfd_send_signal = bind("pidfd_send_signal", c_int, c_int, c_void_p, c_uint)


def set_dumpable(dumpable: bool) -> None:
    """Non-dumpable: /proc/PID belongs to root and a process of the same user without CAP_SYS_PTRACE
    cannot look in.

    exec and a change of credentials set it anew."""
    _set(PR_SET_DUMPABLE, "PR_SET_DUMPABLE", int(dumpable))


def set_no_new_privs() -> None:
    """From now on, for good and for all descendants, exec gives no privilege (setuid bits, file
    capabilities)."""
    _set(PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS", 1)


def set_name(name: bytes) -> None:
    """The name of this thread as ps shows it; the kernel keeps 15 bytes."""
    check(_prctl_name(PR_SET_NAME, c_string(name), 0, 0, 0), "prctl", "PR_SET_NAME", name)


def set_child_subreaper(on: bool) -> None:
    """Orphaned descendants become children of this process rather than of init."""
    _set(PR_SET_CHILD_SUBREAPER, "PR_SET_CHILD_SUBREAPER", int(on))


def set_parent_death_signal(number: int) -> None:
    """The signal that this process gets when its parent thread ends; 0 is none. Not inherited by a fork."""
    _set(PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG", number)


def set_keepcaps(on: bool) -> None:
    """Keep the permitted capabilities over a change from user 0 to another; cleared by exec."""
    _set(PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS", int(on))


def drop_bounding(capability: int) -> None:
    """Take a capability out of the bounding set, for good. Needs CAP_SETPCAP."""
    _set(PR_CAPBSET_DROP, "PR_CAPBSET_DROP", capability)


def ambient_raise(capability: int) -> None:
    """Needs the capability to be permitted and inheritable."""
    _set(PR_CAP_AMBIENT, "PR_CAP_AMBIENT", PR_CAP_AMBIENT_RAISE, capability)


def set_session_keyring(name: str) -> int:
    """Join a new session keyring of that name (keyctl(2)); its serial number. Keys of the host are out
    of sight then."""
    result = _keyctl(KEYCTL_JOIN_SESSION_KEYRING, c_string(name), 0, 0, 0)
    return check(result, "keyctl", "KEYCTL_JOIN_SESSION_KEYRING", name)


def pidfd_open(pid: int, flags: int = 0) -> int:
    """A descriptor of a process, closed on exec; it polls readable when the process has ended."""
    return check(_pidfd_open(pid, flags), "pidfd_open", pid, flags)


def pidfd_send_signal(descriptor: int, number: int) -> None:
    """Send a signal to exactly that process. Raises ``ProcessLookupError`` when it has ended."""
    check(_pidfd_send_signal(descriptor, number, None, 0), "pidfd_send_signal", descriptor, number)


def process_start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat, in clock ticks since boot: with the pid it names a process for ever.

    Raises ``OSError`` (ENOENT or ESRCH) where there is none."""
    stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # The name, field 2, is in brackets and may itself hold spaces and brackets.
        return int(os.read(stat, 4096).rpartition(b")")[2].split()[19])
    finally:
        os.close(stat)


def _set(option: int, name: str, second: int = 0, third: int = 0) -> int:
    return check(_prctl(option, second, third, 0, 0), "prctl", name, second, third)
