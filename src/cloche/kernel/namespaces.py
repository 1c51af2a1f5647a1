"""Namespaces: making them, joining them, and forking straight into new ones."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint64

from cloche.kernel.syscall import NUMBERS, bind, c_string, check, failure

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

FLAGS: dict[str, int] = {
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "mount": CLONE_NEWNS,
    "network": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "time": CLONE_NEWTIME,
    "user": CLONE_NEWUSER,
    "uts": CLONE_NEWUTS,
}
"""The runtime spec's name of a namespace and its flag."""

FILES: dict[str, str] = {
    "cgroup": "cgroup",
    "ipc": "ipc",
    "mount": "mnt",
    "network": "net",
    "pid": "pid",
    "time": "time",
    "user": "user",
    "uts": "uts",
}
"""The runtime spec's name of a namespace and its file in /proc/PID/ns."""

_SIGCHLD = 17


class _CloneArguments(ctypes.Structure):
    """``struct clone_args``, version 2 (Linux 5.7)."""

    _fields_ = [
        ("flags", c_uint64),
        ("pidfd", c_uint64),
        ("child_tid", c_uint64),
        ("parent_tid", c_uint64),
        ("exit_signal", c_uint64),
        ("stack", c_uint64),
        ("stack_size", c_uint64),
        ("tls", c_uint64),
        ("set_tid", c_uint64),
        ("set_tid_size", c_uint64),
        ("cgroup", c_uint64),
    ]


_unshare = bind("unshare", c_int)
_setns = bind("setns", c_int, c_int)
_sethostname = bind("sethostname", c_char_p, c_size_t)
_setdomainname = bind("setdomainname", c_char_p, c_size_t)

# A fork must keep the interpreter's lock across the call: PyDLL does, CDLL lets it go.
_python = ctypes.PyDLL(None, use_errno=True)
_raw_clone3 = _python["syscall"]
_raw_clone3.argtypes = (c_long, ctypes.POINTER(_CloneArguments), c_size_t)
_raw_clone3.restype = c_long
_before_fork = _python["PyOS_BeforeFork"]
_after_fork_child = _python["PyOS_AfterFork_Child"]
_after_fork_parent = _python["PyOS_AfterFork_Parent"]
for _hook in (_before_fork, _after_fork_child, _after_fork_parent):
    _hook.argtypes = ()
    _hook.restype = None


def unshare(flags: int) -> None:
    """unshare(2). A new pid namespace takes effect for the next child only."""
    check(_unshare(flags), "unshare", hex(flags))


def setns(descriptor: int, flags: int = 0) -> None:
    """setns(2) with the descriptor of a namespace file (``flags`` 0 or its kind) or a pidfd (``flags``
    says which)."""
    check(_setns(descriptor, flags), "setns", descriptor, hex(flags))


def clone3(flags: int, cgroup_fd: int = -1) -> int:
    """Fork into new namespaces, optionally straight into a v2 cgroup: 0 in the child, its pid in the
    parent.

    Like ``os.fork`` for a single-threaded process: the interpreter's fork hooks run around it, those of
    the C library (``pthread_atfork``) do not. ``flags`` are CLONE_NEW*; the end of the child gives
    SIGCHLD."""
    arguments = _CloneArguments(flags=flags, exit_signal=_SIGCHLD)
    if cgroup_fd >= 0:
        arguments.flags |= CLONE_INTO_CGROUP
        arguments.cgroup = cgroup_fd
    reference, size = ctypes.byref(arguments), ctypes.sizeof(arguments)
    _before_fork()
    pid = int(_raw_clone3(NUMBERS["clone3"], reference, size))
    if pid == 0:
        _after_fork_child()
        return 0
    number = ctypes.get_errno()
    _after_fork_parent()
    if pid < 0:
        raise failure(number, "clone3", hex(arguments.flags))
    return pid


def sethostname(name: str) -> None:
    """The host name of this UTS namespace; at most 64 bytes."""
    raw = c_string(name)
    check(_sethostname(raw, len(raw or b"")), "sethostname", name)


def setdomainname(name: str) -> None:
    """The NIS domain name of this UTS namespace; at most 64 bytes."""
    raw = c_string(name)
    check(_setdomainname(raw, len(raw or b"")), "setdomainname", name)


def path(pid: int, kind: str) -> str:
    """The namespace file of a process; ``kind`` is the runtime spec's name."""
    return f"/proc/{pid}/ns/{FILES[kind]}"
