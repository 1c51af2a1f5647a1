"""Paths inside the container's root: resolved so that no link and no ``..`` leads out of it
(CVE-2017-1002101 and kin)."""

from __future__ import annotations

import errno
import os
import stat

from cloche.kernel.files import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

_RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_LINKS = 40
"""As many as the kernel follows."""


def open_path(root: int, path: str, resolve: int = 0) -> int:
    """An O_PATH descriptor of what ``path`` names inside ``root``, links followed."""
    return openat2(root, path, os.O_PATH, 0, _RESOLVE | resolve)


def open_parent(root: int, path: str) -> tuple[int, str]:
    """A descriptor of the directory of ``path``, made where missing, and the last part of ``path``."""
    directory, name = os.path.split(path.rstrip("/"))
    return make_directory(root, directory), name


def make_directory(root: int, path: str, mode: int = 0o755, resolve: int = 0, links: int = 0) -> int:
    """A descriptor of the directory ``path``, made with its parents where missing, also at the end of a link
    that leads to nothing yet."""
    try:
        return open_path(root, path or "/", resolve)
    except FileNotFoundError:
        parent, name = open_parent(root, path)
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        target = _link_target(parent, name, path, links)
        if target and not resolve:
            return make_directory(root, target, mode, resolve, links + 1)
    finally:
        os.close(parent)
    return open_path(root, path, resolve)


def make_file(root: int, path: str, links: int = 0) -> int:
    """A descriptor of the file ``path``, made empty where missing, also at the end of a link that leads to
    nothing yet (images have such an /etc/resolv.conf)."""
    try:
        return open_path(root, path)
    except FileNotFoundError:
        parent, name = open_parent(root, path)
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
    except FileExistsError:
        target = _link_target(parent, name, path, links)
        if target:
            return make_file(root, target, links + 1)
    finally:
        os.close(parent)
    return open_path(root, path)


def make_node(root: int, path: str) -> int:
    """A descriptor of ``path`` itself, made an empty file where missing. Raises ``OSError`` (ELOOP) where it
    is a link."""
    parent, name = open_parent(root, path)
    try:
        try:
            os.mknod(name, stat.S_IFREG | 0o600, dir_fd=parent)
        except FileExistsError:
            pass
        return openat2(parent, name, os.O_PATH, 0, RESOLVE_NO_SYMLINKS)
    finally:
        os.close(parent)


def _link_target(parent: int, name: str, path: str, links: int) -> str:
    """Where the link at ``path`` leads, as a path of the root; ``""`` where it is none. The kernel resolves
    what comes out, inside the root, so it need not be tidy."""
    if links == _LINKS:
        raise OSError(errno.ELOOP, f"open({path!r}): {os.strerror(errno.ELOOP)}")
    try:
        target = os.readlink(name, dir_fd=parent)
    except OSError:  # made by another process in this moment
        return ""
    return target if target.startswith("/") else f"{os.path.dirname(path)}/{target}"


def make_target(root: int, path: str, directory: bool) -> int:
    """What a mount goes onto: a directory or a file, as its source is."""
    descriptor = make_directory(root, path) if directory else make_file(root, path)
    check_kind(descriptor, path, directory)
    return descriptor


def check_kind(descriptor: int, path: str, directory: bool) -> None:
    """Raises ``OSError`` where a directory is to be mounted onto a file or the other way round, for which
    the kernel's word is EINVAL."""
    if stat.S_ISDIR(os.fstat(descriptor).st_mode) != directory:
        os.close(descriptor)
        reason = errno.ENOTDIR if directory else errno.EISDIR
        kind = "a directory onto a file" if directory else "a file onto a directory"
        raise OSError(reason, f"mount of {kind}: {os.strerror(reason)}: {path!r}")


def read(root: int, path: str, limit: int = 4 << 20) -> bytes:
    """The content of a regular file, at most ``limit`` bytes; ``b""`` where there is none. Never blocks on a
    FIFO."""
    try:
        descriptor = openat2(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, 0, _RESOLVE)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        return os.pread(descriptor, limit, 0)
    finally:
        os.close(descriptor)


def identity(descriptor: int) -> tuple[int, int]:
    """Device and inode: what makes two descriptors the same directory."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def open_null(root: int) -> int:
    """An O_PATH descriptor of the container's own null device. Raises ``OSError`` (ENODEV) where something
    else is in its place."""
    descriptor = open_path(root, "/dev/null")
    if not is_null(descriptor):
        os.close(descriptor)
        raise OSError(errno.ENODEV, "open('/dev/null'): not the null device")
    return descriptor


def is_null(descriptor: int) -> bool:
    """Whether it is the null device itself and not something that an image put in its place
    (CVE-2025-31133)."""
    found = os.fstat(descriptor)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3)
