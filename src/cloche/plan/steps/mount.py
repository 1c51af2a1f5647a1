"""Container side: mounts and the change of root.

The root: a step that mounts a root file system (``MountOverlay``, ``BindRoot``) also makes it the one in
which every later target is resolved, with openat2(RESOLVE_IN_ROOT), so that a symlink of the image never
leads out of it. Targets that are missing are made. Sources are paths of the host, hence before
``PivotRoot``."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from cloche.kernel import files, mounts
from cloche.plan import root
from cloche.plan.step import Step, inside, quote

if TYPE_CHECKING:
    from cloche.plan.execution import Execution

_BOTH_EMPTY = mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH
_STRING_LIMIT = 255
"""fsconfig(2) takes no longer value."""

_LOWERDIR_PLUS = (6, 8)
"""The Linux that lets overlay take its lower directories one by one. An older one writes an option that it
does not know to the kernel's log: it is not tried."""

_SET = {
    "ro": mounts.MOUNT_ATTR_RDONLY,
    "nosuid": mounts.MOUNT_ATTR_NOSUID,
    "nodev": mounts.MOUNT_ATTR_NODEV,
    "noexec": mounts.MOUNT_ATTR_NOEXEC,
    "nodiratime": mounts.MOUNT_ATTR_NODIRATIME,
    "nosymfollow": mounts.MOUNT_ATTR_NOSYMFOLLOW,
}
_CLEAR = {
    "rw": mounts.MOUNT_ATTR_RDONLY,
    "suid": mounts.MOUNT_ATTR_NOSUID,
    "dev": mounts.MOUNT_ATTR_NODEV,
    "exec": mounts.MOUNT_ATTR_NOEXEC,
    "diratime": mounts.MOUNT_ATTR_NODIRATIME,
}
_ACCESS_TIME = {
    "noatime": mounts.MOUNT_ATTR_NOATIME,
    "relatime": mounts.MOUNT_ATTR_RELATIME,
    "strictatime": mounts.MOUNT_ATTR_STRICTATIME,
}
_PROPAGATION = {
    "private": mounts.MS_PRIVATE,
    "slave": mounts.MS_SLAVE,
    "shared": mounts.MS_SHARED,
    "unbindable": mounts.MS_UNBINDABLE,
}


class MakePrivate(Step, frozen=True):
    """Cut the new mount namespace off from the host's: no mount made here is seen there."""

    propagation: str = "rprivate"
    """``rprivate`` or ``rslave`` (then mounts made later on the host are seen here)."""

    def execute(self, run: Execution) -> None:
        kind, flags = _propagation(self.propagation)
        mounts.mount_setattr(mounts.AT_FDCWD, "/", flags, propagation=kind)

    def describe(self) -> str:
        return self.propagation

    def shell(self) -> str:
        return f"mount --make-{self.propagation} /"


class MountOverlay(Step, frozen=True):
    """Mount an overlay as the root file system at ``target``, a directory of the host, and resolve later
    targets in it."""

    lower: tuple[str, ...]
    """Absolute, topmost first."""
    upper: str
    """Empty, with ``work``: a read-only view."""
    work: str
    target: str
    options: tuple[str, ...] = ()
    """More of overlay's options, ``key`` or ``key=value``, e.g. ``index=off``."""
    readonly: bool = False

    def execute(self, run: Execution) -> None:
        longest = max(len(os.fsencode(path)) for path in (*self.lower, self.upper, self.work))
        if longest > _STRING_LIMIT or _release() < _LOWERDIR_PLUS:
            run.root = self._mount_joined()
            return
        mount = self._mount_by_layer()
        mounts.move_mount(mount, "", mounts.AT_FDCWD, self.target, mounts.MOVE_MOUNT_F_EMPTY_PATH)
        run.root = mount

    def _mount_by_layer(self) -> int:
        context = mounts.fsopen("overlay")
        try:
            mounts.fsconfig_string(context, "source", "overlay")
            for layer in self.lower:
                mounts.fsconfig_string(context, "lowerdir+", layer)
            if self.upper:
                mounts.fsconfig_string(context, "upperdir", self.upper)
                mounts.fsconfig_string(context, "workdir", self.work)
            _configure(context, self.options)
            mounts.fsconfig_create(context)
            return mounts.fsmount(context, mounts.MOUNT_ATTR_RDONLY if self.readonly else 0)
        finally:
            os.close(context)

    def _mount_joined(self) -> int:
        """mount(2) takes one page of options: the layers are named from the directory that they share, or a
        hundred of them would not fit."""
        paths = [path for path in (*self.lower, self.upper, self.work) if path]
        shared = os.path.commonpath(paths)
        options = self._joined_options(lambda path: os.path.relpath(path, shared))
        os.chdir(shared)
        try:
            mounts.mount(
                "overlay", self.target, "overlay", mounts.MS_RDONLY if self.readonly else 0, options
            )
        finally:
            os.chdir("/")
        return os.open(self.target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _joined_options(self, name: Callable[[str], str] = str, changes: bool = True) -> str:
        layers = ":".join(_escape(name(layer)) for layer in self.lower)
        parts = [f"lowerdir={layers}"]
        if self.upper and changes:
            parts += [f"upperdir={_escape(name(self.upper))}", f"workdir={_escape(name(self.work))}"]
        return ",".join([*parts, *self.options])

    def describe(self) -> str:
        text = f"{len(self.lower)} layers" if len(self.lower) > 1 else self.lower[0]
        text += f" under {self.upper}" if self.upper else " alone"
        return f"{text} at {self.target}{' read-only' if self.readonly else ''}"

    def shell(self) -> str:
        options = self._joined_options() + (",ro" if self.readonly else "")
        return f"mount -t overlay -o {quote(options)} overlay {quote(self.target)}"

    def script(self) -> str:
        """The same with changes going to the script's own scratch directory."""
        options = self._joined_options(changes=False) + (",ro" if self.readonly else "")
        own = ',upperdir="$scratch/upper",workdir="$scratch/work"' if self.upper else ""
        mount = f'mount -t overlay -o {quote(options)}{own} overlay "$root"'
        return f'mkdir -p "$scratch/upper" "$scratch/work"\n{mount}'

    def hint(self, number: int) -> str:
        if number == errno.EINVAL:
            return (
                "overlay refused: upperdir is itself on overlay or on a file system without xattrs, workdir"
                " and upperdir are not on one mount, or a directory is missing (see dmesg)"
            )
        if number == errno.ENODEV:
            return "this kernel has no overlay: modprobe overlay"
        if number == errno.EBUSY:
            return "upperdir or workdir is in use by another mount"
        return "a layer's directory is missing" if number in (errno.ENOENT, errno.ENOTDIR) else ""


class BindRoot(Step, frozen=True):
    """Bind a directory of the host as the root file system at ``target`` (which may be itself), and resolve
    later targets in it."""

    source: str
    target: str
    readonly: bool = False

    def execute(self, run: Execution) -> None:
        mount = mounts.open_tree(mounts.AT_FDCWD, self.source, mounts.OPEN_TREE_CLONE | mounts.AT_RECURSIVE)
        readonly = mounts.MOUNT_ATTR_RDONLY if self.readonly else 0
        mounts.mount_setattr(mount, "", mounts.AT_EMPTY_PATH, readonly, propagation=mounts.MS_PRIVATE)
        mounts.move_mount(mount, "", mounts.AT_FDCWD, self.target, mounts.MOVE_MOUNT_F_EMPTY_PATH)
        run.root = mount

    def describe(self) -> str:
        return f"{self.source} at {self.target}{' read-only' if self.readonly else ''}"

    def shell(self) -> str:
        return self._lines(quote(self.target))

    def script(self) -> str:
        return self._lines('"$root"')

    def _lines(self, target: str) -> str:
        readonly = f"\nmount -o remount,bind,ro {target}" if self.readonly else ""
        return f"mount --rbind {quote(self.source)} {target}{readonly}"


class Bind(Step, frozen=True):
    """Bind a file or directory of the host into the container."""

    source: str
    target: str
    recursive: bool = True
    options: tuple[str, ...] = ()
    """Of ``ro nosuid nodev noexec noatime nodiratime relatime strictatime nosymfollow``, for the whole bound
    tree."""
    propagation: str = "rprivate"
    """``private rprivate slave rslave shared rshared``; empty leaves it."""

    def execute(self, run: Execution) -> None:
        recursive = mounts.AT_RECURSIVE if self.recursive else 0
        mount = mounts.open_tree(mounts.AT_FDCWD, self.source, mounts.OPEN_TREE_CLONE | recursive)
        target = root.make_target(run.root, self.target, stat.S_ISDIR(os.fstat(mount).st_mode))
        kind, _ = _propagation(self.propagation) if self.propagation else (0, 0)
        to_set, to_clear, rest = _attributes(self.options)
        if rest:
            raise OSError(
                errno.EINVAL, f"bind {self.target!r}: not an option of a bind mount: {','.join(rest)}"
            )
        mounts.mount_setattr(mount, "", mounts.AT_EMPTY_PATH | recursive, to_set, to_clear, kind)
        mounts.move_mount(mount, "", target, "", _BOTH_EMPTY)
        os.close(mount)
        os.close(target)

    def describe(self) -> str:
        options = f" ({','.join(self.options)})" if self.options else ""
        return f"{self.source} at {self.target}{options}"

    def shell(self) -> str:
        source, target = quote(self.source), inside(self.target)
        lines = [
            f"make_target {source} {target}",
            f"mount --{'rbind' if self.recursive else 'bind'} {source} {target}",
        ]
        if self.options:
            lines.append(f"mount -o remount,bind,{','.join(self.options)} {target}")
        if self.propagation:
            lines.append(f"mount --make-{self.propagation} {target}")
        return "\n".join(lines)

    def hint(self, number: int) -> str:
        if number == errno.ENOENT:
            return f"{self.source} does not exist on the host"
        return ""


class MountFilesystem(Step, frozen=True):
    """Mount a new file system (proc, sysfs, tmpfs, devpts, mqueue, cgroup ...) in the container."""

    fstype: str
    source: str
    target: str
    options: tuple[str, ...] = ()
    """Mount flags by name (``nosuid``, ``ro`` ...)."""
    data: tuple[str, ...] = ()
    """The file system's own options, ``key`` or ``key=value``, e.g. ``mode=1777``. A tmpfs without a mode
    takes that of the directory which it covers, as other runtimes do."""

    def execute(self, run: Execution) -> None:
        attributes, _, rest = _attributes(self.options)
        data = (*rest, *self.data)
        if self._takes_mode():
            data += _mode_of(run.root, self.target)
        # Through a link the image would pick where the kernel's own files appear (CVE-2019-19921).
        resolve = files.RESOLVE_NO_SYMLINKS if self.fstype in ("proc", "sysfs") else 0
        target = root.make_directory(run.root, self.target, resolve=resolve)
        root.check_kind(target, self.target, directory=True)
        mount = new_mount(self.fstype, self.source, attributes, data)
        mounts.move_mount(mount, "", target, "", _BOTH_EMPTY)
        os.close(mount)
        os.close(target)

    def describe(self) -> str:
        options = ",".join((*self.options, *self.data))
        return f"{self.fstype} at {self.target}{f' ({options})' if options else ''}"

    def shell(self) -> str:
        options = ",".join((*self.options, *self.data))
        target, option = inside(self.target), f" -o {quote(options)}" if options else ""
        before = f"mkdir -p {target}\n"
        if self._takes_mode():
            before = f"mode=$(stat -c ,mode=%a {target} 2>/dev/null) || mode=\n{before}"
            option = f' -o {quote(options or "rw")}"$mode"'
        return f"{before}mount -t {self.fstype}{option} {quote(self.source or self.fstype)} {target}"

    def _takes_mode(self) -> bool:
        options = (*self.options, *self.data)
        return self.fstype == "tmpfs" and not any(option.startswith("mode=") for option in options)

    def hint(self, number: int) -> str:
        if number == errno.ENODEV:
            return f"this kernel has no {self.fstype}"
        if number == errno.ELOOP:
            return f"{self.target} is a symlink in the image"
        if number == errno.ENOTDIR:
            return f"{self.target} is, or lies below, a file in the image"
        return (
            f"an option that {self.fstype} does not know or takes no such value"
            if number == errno.EINVAL
            else ""
        )


class BindCgroups(Step, frozen=True):
    """v1: show the container its own cgroups: a small tmpfs at ``target`` with each hierarchy mounted in it
    from inside the container's cgroup namespace, and the symlinks that name one controller where a hierarchy
    has several (``cpu`` -> ``cpu,cpuacct``)."""

    target: str
    hierarchies: tuple[str, ...]
    """Controllers of each hierarchy, comma separated, or ``name=systemd``."""
    readonly: bool = True

    def execute(self, run: Execution) -> None:
        attributes, _, _ = _attributes(("nosuid", "nodev", "noexec"))
        tmpfs = new_mount("tmpfs", "tmpfs", attributes, ("mode=755",))
        target = root.make_directory(run.root, self.target)
        mounts.move_mount(tmpfs, "", target, "", _BOTH_EMPTY)
        readonly = mounts.MOUNT_ATTR_RDONLY if self.readonly else 0
        for hierarchy in self.hierarchies:
            data = tuple(("none", hierarchy) if hierarchy.startswith("name=") else hierarchy.split(","))
            mount = new_mount("cgroup", "cgroup", attributes | readonly, data)
            name = hierarchy.removeprefix("name=")
            os.mkdir(name, 0o755, dir_fd=tmpfs)
            mounts.move_mount(mount, "", tmpfs, name, mounts.MOVE_MOUNT_F_EMPTY_PATH)
            os.close(mount)
            for controller in name.split(",") if "," in name else ():
                os.symlink(name, controller, dir_fd=tmpfs)
        mounts.mount_setattr(tmpfs, "", mounts.AT_EMPTY_PATH, readonly)
        os.close(target)
        os.close(tmpfs)

    def describe(self) -> str:
        return f"{' '.join(self.hierarchies)} at {self.target}{' (ro)' if self.readonly else ''}"

    def shell(self) -> str:
        target, readonly = inside(self.target), ",ro" if self.readonly else ""
        common = "nosuid,nodev,noexec"
        lines = [f"mkdir -p {target}", f"mount -t tmpfs -o mode=755,{common} tmpfs {target}"]
        for hierarchy in self.hierarchies:
            name = hierarchy.removeprefix("name=")
            data = f"none,{hierarchy}" if name != hierarchy else hierarchy
            lines.append(f"mkdir {target}/{name}")
            lines.append(f"mount -t cgroup -o {common}{readonly},{data} cgroup {target}/{name}")
            if "," in name:
                lines += [f"ln -s {name} {target}/{controller}" for controller in name.split(",")]
        if self.readonly:
            lines.append(f"mount -o remount,bind,ro,{common} {target}")
        return "\n".join(lines)

    def hint(self, number: int) -> str:
        return "the controllers of a hierarchy must be named all together" if number == errno.EBUSY else ""


class PivotRoot(Step, frozen=True):
    """Make the root file system the root of the mount namespace and let go of the host's: pivot_root(".",
    "."), then a lazy unmount, without any directory for the old root. Standard streams that are the
    host's null device become the container's."""

    root: str

    def execute(self, run: Execution) -> None:
        if run.root < 0:
            run.root = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        _leave_null(run)
        os.fchdir(run.root)
        mounts.pivot_root(".", ".")
        # The old root now lies on top of the new one, at the same place.
        mounts.umount2(".", mounts.MNT_DETACH)
        os.chdir("/")

    def describe(self) -> str:
        return self.root

    def shell(self) -> str:
        return "enter_root"

    def hint(self, number: int) -> str:
        if number in (errno.ENOENT, errno.ENODEV):
            return "the container has no null device at /dev/null"
        if number in (errno.EINVAL, errno.EBUSY):
            return "the new root must be a mount of its own, and its parent mount private"
        return ""


def _release() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(minor)


def _leave_null(run: Execution) -> None:
    """Through /proc/self/fd/0 the container's root could change mode and owner of the host's /dev/null."""
    for number in (0, 1, 2):
        if root.is_null(number):
            own = root.open_null(run.root)
            # The host's /proc, hence before the change of root: the container's may be anything.
            null = os.open(f"/proc/self/fd/{own}", os.O_RDWR | os.O_CLOEXEC)
            os.dup2(null, number)
            os.close(null)
            os.close(own)


def new_mount(fstype: str, source: str, attributes: int, data: tuple[str, ...]) -> int:
    """A detached mount of a new file system."""
    context = mounts.fsopen(fstype)
    try:
        mounts.fsconfig_string(context, "source", source or fstype)
        _configure(context, data)
        mounts.fsconfig_create(context)
        return mounts.fsmount(context, attributes)
    finally:
        os.close(context)


def _mode_of(directory: int, path: str) -> tuple[str, ...]:
    try:
        target = root.open_path(directory, path)
    except FileNotFoundError:
        return ()
    mode = stat.S_IMODE(os.fstat(target).st_mode)
    os.close(target)
    return (f"mode={mode:o}",)


def _configure(context: int, data: tuple[str, ...]) -> None:
    for option in data:
        key, separator, value = option.partition("=")
        if separator:
            mounts.fsconfig_string(context, key, value)
        else:
            mounts.fsconfig_flag(context, key)


def _attributes(options: tuple[str, ...]) -> tuple[int, int, tuple[str, ...]]:
    """Mount attributes to set and to clear, and the options that are the file system's own."""
    to_set, to_clear, rest = 0, 0, []
    for option in options:
        if option in _SET:
            to_set |= _SET[option]
        elif option in _CLEAR:
            to_clear |= _CLEAR[option]
        elif option in _ACCESS_TIME:
            to_set |= _ACCESS_TIME[option]
            to_clear |= mounts.MOUNT_ATTR__ATIME
        else:
            rest.append(option)
    return to_set, to_clear & ~to_set | to_clear & mounts.MOUNT_ATTR__ATIME, tuple(rest)


def _propagation(name: str) -> tuple[int, int]:
    """The kind for mount_setattr(2) and whether it is for the whole tree."""
    kind = _PROPAGATION.get(name) or _PROPAGATION[name.removeprefix("r")]
    return kind, mounts.AT_RECURSIVE if name not in _PROPAGATION else 0


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
