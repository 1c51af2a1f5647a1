"""Mounts: mount(2) and umount2(2), pivot_root(2), and the mount API by descriptors of Linux 5.2 and
later.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_size_t, c_uint, c_uint64, c_ulong, c_void_p

from cloche.kernel.syscall import bind, c_string, check, failure

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000

MNT_DETACH = 0x2

FSOPEN_CLOEXEC = 0x1
FSMOUNT_CLOEXEC = 0x1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

OPEN_TREE_CLONE = 0x1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000


class _MountAttributes(ctypes.Structure):
    """``struct mount_attr``."""

    _fields_ = [
        ("attr_set", c_uint64),
        ("attr_clr", c_uint64),
        ("propagation", c_uint64),
        ("userns_fd", c_uint64),
    ]


_mount = bind("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = bind("umount2", c_char_p, c_int)
_pivot_root = bind("pivot_root", c_char_p, c_char_p)
_fsopen = bind("fsopen", c_char_p, c_uint)
_fsconfig = bind("fsconfig", c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = bind("fsmount", c_int, c_uint, c_uint)
_move_mount = bind("move_mount", c_int, c_char_p, c_int, c_char_p, c_uint)
_open_tree = bind("open_tree", c_int, c_char_p, c_uint)
_mount_setattr = bind("mount_setattr", c_int, c_char_p, c_uint, c_void_p, c_size_t)


def mount(
    source: str | None, target: str, fstype: str | None = None, flags: int = 0, data: str | None = None
) -> None:
    """mount(2); ``data`` is the file system's own comma-separated options."""
    result = _mount(c_string(source), c_string(target), c_string(fstype), flags, c_string(data))
    check(result, "mount", source, target, fstype, hex(flags), data)


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    check(_umount2(c_string(target), flags), "umount2", target, hex(flags))


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2). With ``.`` for both the old root ends up stacked under the new one, ready for a
    lazy unmount."""
    check(_pivot_root(c_string(new), c_string(old)), "pivot_root", new, old)


def fsopen(fstype: str) -> int:
    """A context to configure a new file system in; closed on exec."""
    return check(_fsopen(c_string(fstype), FSOPEN_CLOEXEC), "fsopen", fstype)


def fsconfig_string(context: int, key: str, value: str) -> None:
    """Set ``key=value``. Raises ``OSError`` with what the file system says about it."""
    result = _fsconfig(context, FSCONFIG_SET_STRING, c_string(key), c_string(value), 0)
    _check_context(result, context, "fsconfig", "string", key, value)


def fsconfig_flag(context: int, key: str) -> None:
    """Set an option that has no value."""
    result = _fsconfig(context, FSCONFIG_SET_FLAG, c_string(key), None, 0)
    _check_context(result, context, "fsconfig", "flag", key)


def fsconfig_create(context: int) -> None:
    """Make the super block as configured."""
    _check_context(_fsconfig(context, FSCONFIG_CMD_CREATE, None, None, 0), context, "fsconfig", "create")


def fsmount(context: int, attributes: int = 0) -> int:
    """A detached mount of the made file system; closed on exec, gone when closed unless it was moved
    somewhere.

    ``attributes`` are MOUNT_ATTR_*."""
    result = _fsmount(context, FSMOUNT_CLOEXEC, attributes)
    return _check_context(result, context, "fsmount", hex(attributes))


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str, flags: int) -> None:
    """move_mount(2). Empty paths with the two EMPTY_PATH flags mean the descriptors themselves."""
    result = _move_mount(from_fd, c_string(from_path), to_fd, c_string(to_path), flags)
    check(result, "move_mount", from_fd, from_path, to_fd, to_path, hex(flags))


def open_tree(directory: int, path: str, flags: int) -> int:
    """open_tree(2); with OPEN_TREE_CLONE a detached copy of the mount there (a bind mount to be). Closed
    on exec."""
    result = _open_tree(directory, c_string(path), flags | OPEN_TREE_CLOEXEC)
    return check(result, "open_tree", directory, path, hex(flags))


def mount_setattr(
    directory: int,
    path: str,
    flags: int,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """mount_setattr(2); ``flags`` of AT_EMPTY_PATH and AT_RECURSIVE, ``propagation`` one of MS_PRIVATE,
    SLAVE, SHARED."""
    attributes = _MountAttributes(attr_set, attr_clr, propagation, userns_fd)
    size = ctypes.sizeof(attributes)
    result = _mount_setattr(directory, c_string(path), flags, ctypes.byref(attributes), size)
    check(
        result, "mount_setattr", directory, path, hex(flags), hex(attr_set), hex(attr_clr), hex(propagation)
    )


def _check_context(result: int, context: int, call: str, *subject: object) -> int:
    """Like ``check``, with the messages that the file system left in the context."""
    if result < 0:
        number = ctypes.get_errno()
        raise failure(number, call, *subject, detail=_context_log(context))
    return int(result)


def _context_log(context: int) -> str:
    """The messages of a file system context, oldest first: ``e`` errors, ``w`` warnings, ``i``
    information."""
    messages = []
    while True:
        try:
            line = os.read(context, 4096)
        except OSError:  # ENODATA: no more
            break
        if not line:
            break
        messages.append(os.fsdecode(line).removeprefix("e ").strip())
    return "; ".join(messages)
