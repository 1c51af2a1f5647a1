"""The job that unpacks one layer. It reads bytes that nobody vouches for, so it does that in a process of
its own whose root file system is the directory being filled.

The process leaves the host behind first: a mount namespace of its own, the target bound to itself without
devices, setuid and execution, pivot_root, and the old root unmounted. From then on no path, link or ``..``
can name anything of the host, and a device node that the archive brings cannot be opened. Everything
imported is imported before that.

Also within the target a member never writes *through* what an earlier one left: files are made anew
(O_EXCL), whatever had their name is removed first."""

from __future__ import annotations

import errno
import hashlib
import os
import stat

from cloche.kernel.mounts import (
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    MS_REMOUNT,
    mount,
    pivot_root,
    umount2,
)
from cloche.kernel.namespaces import CLONE_NEWNS, unshare
from cloche.launcher import tar
from cloche.launcher.compression import BrokenStream, decompressed
from cloche.launcher.protocol import JobAnswer, JobFailed, LayerUnpacked
from cloche.launcher.tar import BrokenTar, Entry, Reader

_WHITEOUT = b".wh."
_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_OVERLAY_OPAQUE = "trusted.overlay.opaque"
_FORBIDDEN_XATTRS = ("trusted.overlay.", "user.overlay.")
"""Of overlay's own: an archive could redirect its directories to others of the layers below."""

_FAULTS_OF_THE_ARCHIVE = {
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EFBIG,
    errno.EOVERFLOW,
    errno.EXDEV,
    errno.EMLINK,
    errno.ERANGE,
    errno.E2BIG,
}


def unpack(stream: int, target: str) -> JobAnswer:
    """Do what ``cloche.launcher.protocol.Unpack`` asks, leaving the host's root for ever. Runs in a process
    forked for it, with one thread; raises nothing."""
    name = b""
    try:
        hasher = hashlib.sha256()
        read = decompressed(lambda length: os.read(stream, length))

        def hashed(length: int) -> bytes:
            chunk = read(length)
            hasher.update(chunk)
            return chunk

        reader = Reader(hashed)
        enter(target)
        layer = Layer()
        for entry in reader:
            name = entry.name
            layer.add(entry, reader)
        name = b""
        layer.finish()
        reader.drain()
    except (BrokenTar, BrokenStream) as error:
        return JobFailed(f"broken layer: {_at(name)}{error}", 0, True)
    except (ValueError, OverflowError, RecursionError) as error:
        return JobFailed(f"broken layer: {_at(name)}{error}", 0, True)
    except OSError as error:
        invalid = bool(name) and error.errno in _FAULTS_OF_THE_ARCHIVE
        reason = error.strerror or str(error)
        return JobFailed(f"cannot unpack the layer: {_at(name)}{reason}", error.errno or 0, invalid)
    return LayerUnpacked("sha256:" + hasher.hexdigest(), layer.size, layer.files, layer.root)


def _at(name: bytes) -> str:
    return f"{name.decode('utf-8', 'backslashreplace')[:200]}: " if name else ""


def enter(target: str) -> None:
    """Make ``target`` this process's root file system, with nothing else in it."""
    os.umask(0)
    unshare(CLONE_NEWNS)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount(target, target, None, MS_BIND)
    mount(None, target, None, MS_REMOUNT | MS_BIND | MS_NODEV | MS_NOSUID | MS_NOEXEC)
    os.chdir(target)
    pivot_root(".", ".")
    umount2(".", MNT_DETACH)
    os.chdir("/")


def normal(name: bytes) -> bytes:
    """A member's name relative to the root, without ``.``, empty and ``..`` components; ``b"."`` for the
    root itself. Raises ``BrokenTar`` for one that leads out."""
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise BrokenTar("the name leads out of the layer")
            parts.pop()
        elif part and part != b".":
            parts.append(part)
    return b"/".join(parts) or b"."


class Layer:
    """The layer being made in the current directory, which is the process's root."""

    def __init__(self) -> None:
        self.size = 0
        self.files = 0
        self.root = False
        self._directories: dict[bytes, Entry] = {}

    def add(self, entry: Entry, reader: Reader) -> None:
        """One member."""
        path = normal(entry.name)
        parent, _, base = path.rpartition(b"/")
        if base.startswith(_WHITEOUT):
            self._remove_lower(parent, base)
            return
        if path == b".":
            if entry.kind != tar.DIRECTORY:
                raise BrokenTar("the layer's root is not a directory")
            self.root = True
            self._directories[path] = entry
            return
        self.files += 1
        try:
            self._make(entry, path, reader)
        except (FileNotFoundError, NotADirectoryError):
            if not parent or not self._make_parents(parent):
                raise
            self._make(entry, path, reader)
        except FileExistsError:
            self._replace(entry, path, reader)

    def finish(self) -> None:
        """Directories get their owner, mode and time when nothing more is put into them."""
        for path, entry in self._directories.items():
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue  # a later member took its place
                raise
            try:
                os.fchown(descriptor, entry.uid, entry.gid)
                os.fchmod(descriptor, entry.mode)
                _set_xattrs(descriptor, entry)
                os.utime(descriptor, ns=(entry.mtime, entry.mtime))
            finally:
                os.close(descriptor)

    def _make(self, entry: Entry, path: bytes, reader: Reader) -> None:
        """Raises ``FileExistsError`` and ``FileNotFoundError`` before any content is read."""
        kind = entry.kind
        if kind == tar.REGULAR:
            self._file(entry, path, reader)
        elif kind == tar.DIRECTORY:
            os.mkdir(path, 0o700)
            self._directories[path] = entry
        elif kind == tar.SYMLINK:
            os.symlink(entry.link, path)
            self._dress(entry, path)
        elif kind == tar.LINK:
            os.link(normal(entry.link), path, follow_symlinks=False)
        else:
            types = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCKDEV: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
            os.mknod(path, types[kind] | entry.mode, os.makedev(entry.major, entry.minor))
            self._dress(entry, path)

    def _file(self, entry: Entry, path: bytes, reader: Reader) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, entry.mode)
        try:
            if entry.sparse is not None:
                _write_sparse(descriptor, entry, reader)
            else:
                for piece in reader.content():
                    _write(descriptor, piece)
            self.size += entry.size
            if entry.uid or entry.gid:
                os.fchown(descriptor, entry.uid, entry.gid)
                if entry.mode & 0o6000:
                    os.fchmod(descriptor, entry.mode)
            if entry.xattrs:
                _set_xattrs(descriptor, entry)
            os.utime(descriptor, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(descriptor)

    def _dress(self, entry: Entry, path: bytes) -> None:
        """Owner, xattrs and time of what has no descriptor to set them by."""
        if entry.uid or entry.gid:
            os.lchown(path, entry.uid, entry.gid)
        if entry.xattrs:
            _set_xattrs(path, entry)
        os.utime(path, ns=(entry.mtime, entry.mtime), follow_symlinks=False)

    def _make_parents(self, path: bytes) -> bool:
        """Make missing directories; false where there was nothing to make."""
        made = False
        parts = path.split(b"/")
        for end in range(1, len(parts) + 1):
            part = b"/".join(parts[:end])
            try:
                os.mkdir(part, 0o755)
            except FileExistsError:
                if not _is_whiteout(os.lstat(part)):
                    continue
                os.unlink(part)
                os.mkdir(part, 0o755)
                _make_opaque(part)
            made = True
        return made

    def _replace(self, entry: Entry, path: bytes, reader: Reader) -> None:
        """An earlier member has the name already."""
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode) and entry.kind == tar.DIRECTORY:
            self._directories[path] = entry
            return
        _remove(path)
        self._make(entry, path, reader)
        if entry.kind == tar.DIRECTORY and _is_whiteout(status):
            _make_opaque(path)

    def _remove_lower(self, parent: bytes, base: bytes) -> None:
        """A whiteout: what the layers below have there is not in the image (image-spec layer.md,
        "Whiteouts")."""
        directory = parent or b"."
        if base == _OPAQUE:
            self._make_parents(directory)
            _make_opaque(directory)
            return
        if base.startswith(_META):
            # Hard-link bookkeeping of the retired aufs driver.
            return
        hidden = base[len(_WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise BrokenTar("a whiteout of no name")
        self._whiteout(directory + b"/" + hidden, parent)

    def _whiteout(self, path: bytes, parent: bytes) -> None:
        try:
            if parent:
                self._make_parents(parent)
            os.mknod(path, stat.S_IFCHR, 0)
        except FileExistsError:
            # This layer brings its own thing of that name; a directory must not show the old one's content.
            if stat.S_ISDIR(os.lstat(path).st_mode):
                _make_opaque(path)


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _make_opaque(path: bytes) -> None:
    os.setxattr(path, _OVERLAY_OPAQUE, b"y", follow_symlinks=False)


def _remove(path: bytes) -> None:
    """Whatever it is; nothing where there is nothing. Follows no link."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        for name in os.listdir(path):
            _remove(path + b"/" + name)
        os.rmdir(path)


def _write(descriptor: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]


def _write_sparse(descriptor: int, entry: Entry, reader: Reader) -> None:
    os.ftruncate(descriptor, entry.size)
    pieces = reader.content()
    piece = memoryview(b"")
    for offset, length in entry.sparse or ():
        os.lseek(descriptor, offset, os.SEEK_SET)
        while length:
            piece = piece or next(pieces)
            part = piece[:length]
            _write(descriptor, part)
            length -= len(part)
            piece = piece[len(part) :]


def _set_xattrs(target: int | bytes, entry: Entry) -> None:
    for name, value in entry.xattrs.items():
        if name.startswith(_FORBIDDEN_XATTRS):
            continue
        try:
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            # A file system without such attributes, or user.* on what cannot have them.
            if error.errno != errno.ENOTSUP and not (
                error.errno == errno.EPERM and name.startswith("user.")
            ):
                raise
