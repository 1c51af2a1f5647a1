"""The cpuset controller. A new v1 cpuset is empty and takes no process: it is filled from its parent first
(``Placement.cpusets``)."""

from __future__ import annotations

from cloche.cgroups.contract import Layout, Resources, Write


def asked(resources: Resources) -> bool:
    return resources.cpuset_cpus is not None or resources.cpuset_mems is not None


def v1(layout: Layout, directory: str, resources: Resources) -> list[Write]:
    return v2(layout, directory, resources)


def v2(layout: Layout, directory: str, resources: Resources) -> list[Write]:
    writes = []
    if resources.cpuset_cpus is not None:
        writes.append(Write(f"{directory}/cpuset.cpus", resources.cpuset_cpus))
    if resources.cpuset_mems is not None:
        writes.append(Write(f"{directory}/cpuset.mems", resources.cpuset_mems))
    return writes
