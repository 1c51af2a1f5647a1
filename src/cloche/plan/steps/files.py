"""Container side: devices, links, directories, and what hides or protects paths."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from cloche.kernel import mounts
from cloche.plan import root
from cloche.plan.step import Step, inside, quote

if TYPE_CHECKING:
    from cloche.plan.execution import Execution

_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_BOTH_EMPTY = mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH


class MakeDevice(Step, frozen=True):
    """mknod in the container's /dev. An existing device of the same numbers is left; anything else there is
    replaced."""

    path: str
    type: str
    """``c``, ``b`` or ``p``."""
    major: int = 0
    minor: int = 0
    mode: int = 0o666
    uid: int = 0
    gid: int = 0

    def execute(self, run: Execution) -> None:
        parent, name = root.open_parent(run.root, self.path)
        try:
            self._make(parent, name)
            if self.uid or self.gid:
                os.chown(name, self.uid, self.gid, dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)

    def _make(self, parent: int, name: str) -> None:
        kind, device = _KINDS[self.type], os.makedev(self.major, self.minor)
        try:
            os.mknod(name, kind | self.mode, device, dir_fd=parent)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_IFMT(found.st_mode) == kind and found.st_rdev == device:
                return
            os.unlink(name, dir_fd=parent)
            os.mknod(name, kind | self.mode, device, dir_fd=parent)

    def describe(self) -> str:
        return f"{self.path} {self.type} {self.major}:{self.minor} mode {self.mode:04o}"

    def shell(self) -> str:
        path = inside(self.path)
        numbers = "" if self.type == "p" else f" {self.major} {self.minor}"
        parent = os.path.dirname(self.path)
        lines = [] if parent == "/dev" else [f"mkdir -p {inside(parent)}"]
        lines += [f"[ -e {path} ] || mknod -m {self.mode:04o} {path} {self.type}{numbers}"]
        if self.uid or self.gid:
            lines.append(f"chown {self.uid}:{self.gid} {path}")
        return "\n".join(lines)

    def hint(self, number: int) -> str:
        if number == errno.EPERM:
            return "making device nodes needs CAP_MKNOD in the host's user namespace"
        return ""


class MakeSymlink(Step, frozen=True):
    """A symlink in the container; one that exists at ``path`` is left."""

    path: str
    target: str

    def execute(self, run: Execution) -> None:
        parent, name = root.open_parent(run.root, self.path)
        try:
            os.symlink(self.target, name, dir_fd=parent)
        except FileExistsError:
            pass
        finally:
            os.close(parent)

    def describe(self) -> str:
        return f"{self.path} -> {self.target}"

    def shell(self) -> str:
        path = inside(self.path)
        return f"[ -e {path} ] || [ -L {path} ] || ln -s {quote(self.target)} {path}"


class MakeDirectory(Step, frozen=True):
    """A directory in the container, with its parents; one that exists is left as it is."""

    path: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0

    def execute(self, run: Execution) -> None:
        try:
            os.close(root.open_path(run.root, self.path))
            return
        except FileNotFoundError:
            parent, name = root.open_parent(run.root, self.path)
        try:
            os.mkdir(name, self.mode, dir_fd=parent)
            if self.uid or self.gid:
                os.chown(name, self.uid, self.gid, dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)

    def describe(self) -> str:
        return f"{self.path} mode {self.mode:04o}"

    def shell(self) -> str:
        path = inside(self.path)
        owner = f" && chown {self.uid}:{self.gid} {path}" if self.uid or self.gid else ""
        return f"[ -d {path} ] || {{ mkdir -p -m {self.mode:04o} {path}{owner}; }}"


class MaskPath(Step, frozen=True):
    """Hide a path of the container: /dev/null over a file, an empty read-only tmpfs over a directory. A
    missing path is nothing to hide."""

    path: str

    def execute(self, run: Execution) -> None:
        try:
            target = root.open_path(run.root, self.path)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISDIR(os.fstat(target).st_mode):
            _cover_directory(run, target)
        else:
            _cover(_null(run), target)
        os.close(target)

    def describe(self) -> str:
        return self.path

    def shell(self) -> str:
        path = inside(self.path)
        return (
            f"if [ -d {path} ]; then mount -t tmpfs -o ro tmpfs {path}\n"
            f'elif [ -e {path} ]; then mount --bind "$root"/dev/null {path}; fi'
        )

    def hint(self, number: int) -> str:
        return "the container's /dev/null is not the null device" if number == errno.ENODEV else ""


class ReadonlyPath(Step, frozen=True):
    """Bind a path of the container over itself, read-only. A missing path is nothing to protect."""

    path: str

    def execute(self, run: Execution) -> None:
        try:
            target = root.open_path(run.root, self.path)
        except (FileNotFoundError, NotADirectoryError):
            return
        flags = mounts.OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH | mounts.AT_RECURSIVE
        copy = mounts.open_tree(target, "", flags)
        everything = mounts.AT_EMPTY_PATH | mounts.AT_RECURSIVE
        mounts.mount_setattr(copy, "", everything, mounts.MOUNT_ATTR_RDONLY)
        mounts.move_mount(copy, "", target, "", _BOTH_EMPTY)
        os.close(copy)
        os.close(target)

    def describe(self) -> str:
        return self.path

    def shell(self) -> str:
        path = inside(self.path)
        return f"if [ -e {path} ]; then mount --rbind {path} {path}; mount -o remount,bind,ro {path}; fi"


class ReadonlyRoot(Step, frozen=True):
    """Make the container's root mount read-only (not what is mounted below it)."""

    def execute(self, run: Execution) -> None:
        mounts.mount_setattr(run.root, "", mounts.AT_EMPTY_PATH, mounts.MOUNT_ATTR_RDONLY)

    def describe(self) -> str:
        return "/"

    def shell(self) -> str:
        return 'mount -o remount,bind,ro "$root/"'


def _cover(source: int, target: int) -> None:
    copy = mounts.open_tree(source, "", mounts.OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH)
    mounts.move_mount(copy, "", target, "", _BOTH_EMPTY)
    os.close(copy)


def _cover_directory(run: Execution, target: int) -> None:
    """One empty file system serves all: made for the first directory, copied from there for the next (a
    mount that is attached nowhere cannot be copied before Linux 6.15)."""
    if run.empty >= 0:
        _cover(run.empty, target)
        return
    context = mounts.fsopen("tmpfs")
    mounts.fsconfig_string(context, "source", "tmpfs")
    mounts.fsconfig_create(context)
    run.empty = mounts.fsmount(context, mounts.MOUNT_ATTR_RDONLY)
    mounts.move_mount(run.empty, "", target, "", _BOTH_EMPTY)
    os.close(context)


def _null(run: Execution) -> int:
    if run.null < 0:
        run.null = root.open_null(run.root)
    return run.null
