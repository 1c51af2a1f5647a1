"""Container side: mounts, devices and the root file system.

The root: a step that mounts a root file system (``MountOverlay``, ``BindRoot``) also makes it the one in
which every later target is resolved, with openat2(RESOLVE_IN_ROOT), so that a symlink of the image never
leads out of it. Targets that are missing are made. Sources are paths of the host, hence before
``PivotRoot``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloche.plan.step import Step

if TYPE_CHECKING:
    pass


class MakePrivate(Step, frozen=True):
    """Cut the new mount namespace off from the host's: no mount made here is seen there."""

    propagation: str = "rprivate"
    """``rprivate`` or ``rslave`` (then mounts made later on the host are seen here)."""


class MountOverlay(Step, frozen=True):
    """Mount an overlay as the root file system at ``target``, a directory of the host, and resolve later
    targets in it."""

    lower: tuple[str, ...]
    """Topmost first, absolute or relative to ``base``."""
    upper: str
    """Empty, with ``work``: a read-only view."""
    work: str
    target: str
    options: tuple[str, ...] = ()
    """More of overlay's options, ``key`` or ``key=value``, e.g. ``index=off``."""
    readonly: bool = False


class BindRoot(Step, frozen=True):
    """Bind a directory of the host as the root file system at ``target``, and resolve later targets in
    it."""

    source: str
    target: str
    readonly: bool = False


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


class MountFilesystem(Step, frozen=True):
    """Mount a new file system (proc, sysfs, tmpfs, devpts, mqueue, cgroup ...) in the container."""

    fstype: str
    source: str
    target: str
    options: tuple[str, ...] = ()
    """Mount flags by name (``nosuid``, ``ro`` ...)."""
    data: tuple[str, ...] = ()
    """The file system's own options, ``key`` or ``key=value``, e.g. ``mode=1777``."""


class BindCgroups(Step, frozen=True):
    """v1: show the container its own cgroups: a small tmpfs at ``target`` with each hierarchy mounted in it
    from inside the container's cgroup namespace, and Docker's symlinks (``cpu`` -> ``cpu,cpuacct``) where
    hierarchies are shared."""

    target: str
    hierarchies: tuple[str, ...]
    """Controllers of each hierarchy, comma separated, or ``name=systemd``."""
    readonly: bool = True


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


class MakeSymlink(Step, frozen=True):
    """A symlink in the container; one that exists at ``path`` is left."""

    path: str
    target: str


class MakeDirectory(Step, frozen=True):
    """A directory in the container, with its parents; one that exists is left as it is."""

    path: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


class PivotRoot(Step, frozen=True):
    """Make the root file system the root of the mount namespace and let go of the host's: pivot_root(".",
    "."), then a lazy unmount, without any directory for the old root."""

    root: str


class MaskPath(Step, frozen=True):
    """Hide a path of the container: /dev/null over a file, an empty read-only tmpfs over a directory. A
    missing path is nothing to hide."""

    path: str


class ReadonlyPath(Step, frozen=True):
    """Bind a path of the container over itself, read-only. A missing path is nothing to protect."""

    path: str


class ReadonlyRoot(Step, frozen=True):
    """Make the container's root mount read-only (not what is mounted below it)."""
