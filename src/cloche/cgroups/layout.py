"""How this machine mounts cgroups, found once from /proc and /sys."""

from __future__ import annotations

import os

from cloche.cgroups import v1, v2
from cloche.cgroups.contract import Layout, Planner
from cloche.errors import Unavailable

_OPTIONAL_V1 = {
    "memory": ("memory.memsw.limit_in_bytes", "memory.swappiness", "memory.oom_control"),
    "cpu": ("cpu.shares", "cpu.cfs_quota_us"),
    "blkio": ("blkio.bfq.io_service_bytes",),
}
"""Files that depend on the kernel's build or its command line, and that the root of the hierarchy has as
well."""

_OPTIONAL_V2 = ("memory.swap.max", "io.weight", "io.bfq.weight")
"""Such files that only children of the root have."""


def detect(mountinfo: str = "/proc/self/mountinfo") -> Layout:
    """Read the mount table (proc_pid_mountinfo(5)) and the hierarchies' roots. Raises ``Unavailable``
    where no cgroup hierarchy is mounted."""
    version_1: dict[str, str] = {}
    unified = ""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            mount, _, filesystem = line.partition(" - ")
            mountpoint = _unescape(mount.split(" ")[4])
            kind, _, options = filesystem.rstrip("\n").split(" ", 2)
            if kind == "cgroup":
                for controller in _controllers(options):
                    version_1.setdefault(controller, mountpoint)
            elif kind == "cgroup2":
                unified = unified or mountpoint
    if version_1:
        return Layout(1, version_1, tuple(sorted(version_1)), _files_v1(version_1))
    if unified:
        with open(f"{unified}/cgroup.controllers", encoding="ascii") as file:
            controllers = tuple(sorted(file.read().split()))
        return Layout(2, {"": unified}, controllers, _files_v2(unified))
    raise Unavailable(
        "no cgroup hierarchy is mounted: mount one, e.g. `mount -t cgroup2 none /sys/fs/cgroup`"
    )


def planner(layout: Layout) -> Planner:
    """The implementation for this layout."""
    return v1 if layout.version == 1 else v2


def _controllers(options: str) -> list[str]:
    """The controllers among a v1 superblock's options; a named hierarchy counts as one
    (``name=systemd``)."""
    flags = {"rw", "ro", "xattr", "clone_children", "cpuset_v2_mode", "noprefix", "seclabel", "none"}
    return [
        word for word in options.split(",") if word not in flags and not word.startswith("release_agent=")
    ]


def _files_v1(mounts: dict[str, str]) -> tuple[str, ...]:
    return tuple(
        name
        for controller, names in _OPTIONAL_V1.items()
        if controller in mounts
        for name in names
        if os.path.exists(f"{mounts[controller]}/{name}")
    )


def _files_v2(mountpoint: str) -> tuple[str, ...]:
    """Without any child there is nothing to see: then a refusal can only come from the write itself."""
    with os.scandir(mountpoint) as entries:
        children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return tuple(
        name
        for name in _OPTIONAL_V2
        if not children or any(os.path.exists(f"{child}/{name}") for child in children)
    )


def _unescape(path: str) -> str:
    """Octal escapes of space, tab, newline and backslash in the mount table."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(escape, character)
    return path
