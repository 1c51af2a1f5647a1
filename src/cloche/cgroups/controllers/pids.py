"""The pids controller."""

from __future__ import annotations

from cloche.cgroups.contract import Layout, Resources, Write


def asked(resources: Resources) -> bool:
    """Unlimited is what a new cgroup has: that needs no controller."""
    return resources.pids is not None and resources.pids > 0


def v1(layout: Layout, directory: str, resources: Resources) -> list[Write]:
    return v2(layout, directory, resources)


def v2(layout: Layout, directory: str, resources: Resources) -> list[Write]:
    if not asked(resources):
        return []
    return [Write(f"{directory}/pids.max", str(resources.pids))]
