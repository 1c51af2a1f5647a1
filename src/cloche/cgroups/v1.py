"""Cgroup v1: one hierarchy for each controller (Documentation/admin-guide/cgroup-v1/). A container has a
directory in every mounted one, with limits or without, so that its cgroup namespace has a root of its own
everywhere."""

from __future__ import annotations

import os
import signal
import time

from cloche.cgroups import tree
from cloche.cgroups.contract import Layout, Placement, Resources, Write
from cloche.cgroups.controllers import blkio, cpu, cpuset, devices, memory, pids
from cloche.errors import InvalidArgument

_CONTROLLERS = {
    "memory": memory,
    "cpu": cpu,
    "cpuset": cpuset,
    "pids": pids,
    "blkio": blkio,
    "devices": devices,
}


def place(layout: Layout, parent: str, name: str, resources: Resources) -> Placement:
    """See ``contract.Planner``."""
    shared: dict[str, list[str]] = {}
    for controller, mountpoint in sorted(layout.mounts.items()):
        shared.setdefault(mountpoint, []).append(controller)
    chains = {mountpoint: tree.chain(mountpoint, parent, name) for mountpoint in shared}
    writes: list[Write] = []
    for controller, module in _CONTROLLERS.items():
        if controller in layout.mounts:
            writes += module.v1(layout, chains[layout.mounts[controller]][-1], resources)
        elif module.asked(resources):
            raise InvalidArgument(
                f"a limit of the {controller} controller was asked for, and that controller is not mounted: "
                f"mount -t cgroup -o {controller} {controller} /sys/fs/cgroup/{controller}"
            )
    return Placement(
        version=1,
        directories=tuple(directory for chain in chains.values() for directory in chain),
        leaves=tuple(chain[-1] for chain in chains.values()),
        writes=tuple(writes),
        cpusets=chains[layout.mounts["cpuset"]] if "cpuset" in layout.mounts else (),
        hierarchies=tuple(",".join(controllers) for controllers in shared.values()),
    )


def processes(leaves: tuple[str, ...]) -> list[int]:
    """All processes of the cgroup and of those below it, from its pids hierarchy or the first that is
    there."""
    path = _file(leaves, "pids.max") or _file(leaves, "cgroup.procs")
    return tree.processes(os.path.dirname(path)) if path else []


def kill(leaves: tuple[str, ...]) -> None:
    """Freeze, SIGKILL every process, thaw: what is frozen cannot fork away."""
    freezer = bool(_file(leaves, "freezer.state"))
    try:
        if freezer:
            _freeze(leaves, True)
    except OSError:
        # A task that hangs in the kernel does not freeze: all others are to be killed nevertheless.
        pass
    try:
        for process in processes(leaves):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
    finally:
        if freezer:
            _freeze(leaves, False)


def remove(leaves: tuple[str, ...]) -> None:
    """See ``contract.Planner``."""
    tree.remove(leaves)


def _freeze(leaves: tuple[str, ...], frozen: bool) -> None:
    """Freeze or thaw, and wait until the kernel says so. Raises ``TimeoutError`` after ten seconds."""
    path = _file(leaves, "freezer.state")
    wanted = "FROZEN" if frozen else "THAWED"
    deadline = time.monotonic() + 10
    while True:
        # FREEZING can last for ever when a task forks in between: asking again is the kernel's own advice.
        tree.write(path, wanted)
        if tree.read(path).strip() == wanted:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} did not become {wanted} within ten seconds")
        time.sleep(0.002)


def _file(leaves: tuple[str, ...], name: str) -> str:
    """The file of this name in the first leaf that has it, or ``""``."""
    return next((path for leaf in leaves if os.path.exists(path := f"{leaf}/{name}")), "")
