"""Cgroup v2: one hierarchy for all controllers (Documentation/admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

import errno

from cloche.cgroups import tree
from cloche.cgroups.contract import Layout, Placement, Resources, Write
from cloche.cgroups.controllers import blkio, cpu, cpuset, devices, memory, pids
from cloche.cgroups.device_program import generate
from cloche.errors import InvalidArgument

_CONTROLLERS = {"memory": memory, "cpu": cpu, "cpuset": cpuset, "pids": pids, "io": blkio}

_STATISTICS = ("cpu", "io", "memory", "pids")
"""Enabled where there is no limit too, for what they count."""


def place(layout: Layout, parent: str, name: str, resources: Resources) -> Placement:
    """See ``contract.Planner``."""
    mountpoint = layout.mounts[""]
    chain = tree.chain(mountpoint, parent, name)
    leaf = chain[-1]
    needed = []
    limits: list[Write] = []
    for controller, module in _CONTROLLERS.items():
        if module.asked(resources):
            if controller not in layout.controllers:
                raise InvalidArgument(
                    f"a limit of the {controller} controller was asked for, which "
                    f"{mountpoint}/cgroup.controllers "
                    "lacks: a v1 hierarchy may hold it, or the kernel is built without it"
                )
            needed.append(controller)
            limits += module.v2(layout, leaf, resources)
    counting = [name for name in _STATISTICS if name in layout.controllers and name not in needed]
    return Placement(
        version=2,
        directories=chain,
        leaves=(leaf,),
        writes=(*_delegate((mountpoint, *chain[:-1]), needed, counting), *limits),
        device_program=generate(resources.devices) if devices.asked(resources) else b"",
    )


def processes(leaves: tuple[str, ...]) -> list[int]:
    """All processes of the cgroup and of those below it."""
    return [process for leaf in leaves for process in tree.processes(leaf)]


def kill(leaves: tuple[str, ...]) -> None:
    """``cgroup.kill``: every process at once, also those that are being forked (Linux 5.14)."""
    for leaf in leaves:
        try:
            tree.write(f"{leaf}/cgroup.kill", "1")
        except FileNotFoundError:
            pass


def remove(leaves: tuple[str, ...]) -> None:
    """See ``contract.Planner``."""
    tree.remove(leaves)


def _delegate(ancestors: tuple[str, ...], needed: list[str], counting: list[str]) -> list[Write]:
    """Enable the controllers for the children of each ancestor, from the root down."""
    writes = []
    for ancestor in ancestors:
        file = f"{ancestor}/cgroup.subtree_control"
        if needed:
            writes.append(Write(file, " ".join(f"+{controller}" for controller in needed)))
        # What only counts is worth no failure: realtime processes may hold cpu back, for one.
        tolerate = (errno.ENOENT, errno.EBUSY, errno.EINVAL, errno.EOPNOTSUPP)
        writes += [Write(file, f"+{controller}", tolerate) for controller in counting]
    return writes
