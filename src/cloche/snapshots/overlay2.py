"""The overlay2 driver: each snapshot is a directory of changes, stacked by the kernel's overlay file system.

    ROOT/overlay2/<name>/
    ├── diff      the changes: upper directory of an active snapshot, a lower one of a committed
    ├── work      overlay's own; only an active snapshot has it
    ├── key       symbolic link whose text is the key
    └── parent    symbolic link ../<name of the parent>; absent at the bottom

``<name>`` is 16 characters that follow from the key, because the kernel takes mount options of one page: a
hundred layers must fit. Key and parent are symbolic links because their text lies in the inode: the
directory is complete on disk with the journal's next commit, without an fsync of its own, and reading it
back opens no file.

Everything is known in memory too (only the daemon writes here), so that ``prepare`` costs a handful of
system calls."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import stat
import threading
import uuid
from collections.abc import Iterator
from typing import NamedTuple

from cloche.errors import Conflict, NotFound
from cloche.kernel.files import syncfs
from cloche.plan.step import Step
from cloche.plan.steps.mount import BindRoot, MountOverlay
from cloche.snapshots.contract import Usage
from cloche.snapshots.deletion import delete

_PARAMETERS = "/sys/module/overlay/parameters"


class _Entry(NamedTuple):
    name: str
    parent: str | None
    active: bool


class Overlay2:
    """The driver on ``root`` (``ROOT/overlay2``); ``trash`` is a directory on the same file system."""

    name = "overlay2"
    independent_layers = True

    def __init__(self, root: str, trash: str) -> None:
        os.makedirs(root, mode=0o710, exist_ok=True)
        os.makedirs(trash, mode=0o700, exist_ok=True)
        self._root = root
        self._trash = trash
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._options = _options()
        self._scan()

    def _scan(self) -> None:
        """Read back what is on disk; what a crash left half made goes to the trash."""
        parents: dict[str, str | None] = {}
        keys: dict[str, str] = {}
        for name in os.listdir(self._root):
            directory = os.path.join(self._root, name)
            try:
                key = os.readlink(os.path.join(directory, "key"))
            except OSError:
                key = ""
            if _name(key) != name or not os.path.isdir(os.path.join(directory, "diff")):
                self._discard(directory)
                continue
            keys[name] = key
            try:
                parents[name] = os.path.basename(os.readlink(os.path.join(directory, "parent")))
            except FileNotFoundError:
                parents[name] = None
        for name, key in keys.items():
            parent = parents[name]
            active = os.path.isdir(os.path.join(self._root, name, "work"))
            self._entries[key] = _Entry(name, keys.get(parent, "") if parent else None, active)

    def prepare(self, key: str, parent: str | None) -> None:
        with self._lock:
            if key in self._entries:
                raise Conflict(f"a snapshot {key} exists already")
            below = self._committed(parent) if parent is not None else None
            name = _name(key)
            building = os.path.join(self._root, f"new-{name}")
            try:
                self._build(building, key, below)
                os.rename(building, os.path.join(self._root, name))
            except BaseException:
                # A full disk, most likely: the same key must find nothing of it in its way.
                shutil.rmtree(building, ignore_errors=True)
                raise
            self._entries[key] = _Entry(name, parent, True)

    def _build(self, directory: str, key: str, below: _Entry | None) -> None:
        os.mkdir(directory, 0o710)
        os.mkdir(os.path.join(directory, "diff"), 0o755)
        os.mkdir(os.path.join(directory, "work"), 0o700)
        os.symlink(key, os.path.join(directory, "key"))
        if below is not None:
            os.symlink(f"../{below.name}", os.path.join(directory, "parent"))
            self._copy_root(below, os.path.join(directory, "diff"))

    def _copy_root(self, below: _Entry, diff: str) -> None:
        """Overlay shows the upper directory's own owner and mode at ``/``: they must be those of the layer
        below."""
        status = os.stat(self._path(below, "diff"))
        if status.st_uid or status.st_gid:
            os.chown(diff, status.st_uid, status.st_gid)
        if stat.S_IMODE(status.st_mode) != 0o755:
            os.chmod(diff, stat.S_IMODE(status.st_mode))

    def writable(self, key: str) -> str:
        return self._path(self._active(key), "diff")

    def commit(self, key: str, name: str, parent: str | None = None) -> None:
        entry = self._active(key)
        with self._lock:
            taken = name in self._entries
            below = self._committed(parent) if parent is not None else None
        if taken:
            self.remove(key)
            return
        old = self._path(entry)
        if below is not None and entry.parent is None:
            os.symlink(f"../{below.name}", os.path.join(old, "parent"))
            entry = entry._replace(parent=parent)
        _sync(old)
        os.rename(os.path.join(old, "work"), self._waste())
        os.symlink(name, os.path.join(old, "key.new"))
        os.rename(os.path.join(old, "key.new"), os.path.join(old, "key"))
        with self._lock:
            os.rename(old, os.path.join(self._root, _name(name)))
            del self._entries[key]
            self._entries[name] = _Entry(_name(name), entry.parent, False)
        self._sync_root()

    def _sync_root(self) -> None:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def mounts(self, key: str, target: str, readonly: bool = False) -> tuple[Step, ...]:
        entry = self._entry(key)
        lower = self._chain(entry.parent)
        diff = self._path(entry, "diff")
        if not lower:
            # Overlay wants a lower directory below an upper one, and two without an upper.
            return (BindRoot(source=diff, target=target, readonly=readonly or not entry.active),)
        if not entry.active:
            return (MountOverlay((diff, *lower), "", "", target, self._options, readonly=True),)
        work = self._path(entry, "work")
        return (MountOverlay(lower, diff, work, target, self._options, readonly=readonly),)

    def preview(self, key: str, parent: str | None, target: str) -> tuple[Step, ...]:
        directory = os.path.join(self._root, _name(key))
        lower = self._chain(parent)
        diff, work = os.path.join(directory, "diff"), os.path.join(directory, "work")
        if not lower:
            return (BindRoot(source=diff, target=target),)
        return (MountOverlay(lower, diff, work, target, self._options),)

    def layers(self, key: str) -> tuple[str, ...]:
        return self._chain(key)

    def exists(self, key: str) -> bool:
        return key in self._entries

    def keys(self) -> set[str]:
        return set(self._entries)

    def children(self, key: str) -> set[str]:
        with self._lock:
            return {child for child, entry in self._entries.items() if entry.parent == key}

    def remove(self, key: str) -> None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return
            for child, other in self._entries.items():
                if other.parent == key:
                    raise Conflict(f"snapshot {key} cannot be removed: {child} is made from it")
            self._discard(self._path(entry))
            del self._entries[key]

    def usage(self, key: str) -> Usage:
        size, inodes, seen = 0, 0, set()
        stack = [self._path(self._entry(key), "diff")]
        while stack:
            for path, status in _entries(stack.pop()):
                if stat.S_ISDIR(status.st_mode):
                    stack.append(path)
                elif status.st_nlink > 1:
                    if status.st_ino in seen:
                        continue
                    seen.add(status.st_ino)
                inodes += 1
                if stat.S_ISREG(status.st_mode):
                    size += status.st_size
        return Usage(size, inodes)

    def status(self) -> tuple[tuple[str, str], ...]:
        return (
            ("Backing Filesystem", _file_system(self._root)),
            ("Supports d_type", "true"),
            ("Using metacopy", "false"),
            ("Native Overlay Diff", "true"),
            ("userxattr", "false"),
        )

    def collect(self) -> None:
        for name in os.listdir(self._trash):
            if name.startswith("overlay2-"):
                delete(self._trash, name)

    def _entry(self, key: str) -> _Entry:
        try:
            return self._entries[key]
        except KeyError:
            raise NotFound(f"no snapshot {key}") from None

    def _active(self, key: str) -> _Entry:
        entry = self._entry(key)
        if not entry.active:
            raise Conflict(f"snapshot {key} is committed and cannot be changed")
        return entry

    def _committed(self, key: str) -> _Entry:
        entry = self._entry(key)
        if entry.active:
            raise Conflict(f"snapshot {key} is not committed and cannot be a parent")
        return entry

    def _path(self, entry: _Entry, *parts: str) -> str:
        return os.path.join(self._root, entry.name, *parts)

    def _chain(self, key: str | None) -> tuple[str, ...]:
        """``diff`` directories from ``key`` down."""
        chain = []
        while key is not None:
            entry = self._entry(key)
            chain.append(self._path(entry, "diff"))
            key = entry.parent
        return tuple(chain)

    def _waste(self) -> str:
        return os.path.join(self._trash, f"overlay2-{uuid.uuid4().hex}")

    def _discard(self, directory: str) -> None:
        os.rename(directory, self._waste())


def _entries(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """Paths and what they are. Passed over is what a running program has removed since it was seen, and what
    lies deeper than a path is long."""
    try:
        listing = os.scandir(directory)
    except OSError:
        return
    with listing:
        for entry in listing:
            try:
                yield entry.path, entry.stat(follow_symlinks=False)
            except OSError:
                continue


def _name(key: str) -> str:
    return base64.b32encode(hashlib.sha256(key.encode()).digest()[:10]).decode().lower()


def _options() -> tuple[str, ...]:
    """Turn off what would make a layer mean something only together with the layers below it, where this
    kernel has it on by default: a diff of the upper directory must be the whole change."""
    options = []
    for parameter in ("index", "metacopy", "redirect_dir"):
        try:
            with open(f"{_PARAMETERS}/{parameter}") as file:
                if file.read().strip() == "Y":
                    options.append(f"{parameter}=off")
        except FileNotFoundError:
            continue
    return tuple(options)


def _sync(directory: str) -> None:
    """All of the layer's files at once: an fsync for each of thousands would take minutes."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(descriptor)
    finally:
        os.close(descriptor)


def _file_system(path: str) -> str:
    """Type of the file system under ``path``, as ``docker info`` names it."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo") as table:
        for line in table:
            fields = line.split()
            if fields[2] == wanted:
                kind = fields[fields.index("-") + 1]
                return "extfs" if kind.startswith("ext") else kind
    return "unknown"
