"""Memory of an engine's processes: proportional set size, which counts a shared page once."""

from __future__ import annotations

import os
from pathlib import Path


def pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def on_host(pid: int) -> bool:
    """Whether it is in our pid namespace: the engine's own, not a container's."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    except OSError:
        return False


def belongs(pid: int, directory: str, daemon: set[int]) -> bool:
    """Whether a process is an engine's: of the daemon's family, or called with the engine's directory."""
    try:
        return pid in daemon or directory in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def pss(pid: int) -> float:
    """MiB; 0 for a process that has gone."""
    return _field(f"/proc/{pid}/smaps_rollup", "Pss:")


def rss(pid: int) -> float:
    """MiB; 0 for a process that has gone."""
    return _field(f"/proc/{pid}/status", "VmRSS:")


def _field(path: str, name: str) -> float:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def family(pid: int) -> set[int]:
    """The process and its descendants."""
    parents = {}
    for other in pids():
        try:
            parents[other] = int(Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found
