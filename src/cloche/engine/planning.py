"""From a container to its plan: what the machine has to say is looked up here, then all is pure."""

from __future__ import annotations

import os
from functools import cache

from cloche.cgroups.contract import Placement
from cloche.engine import devices
from cloche.engine.context import Context, is_running
from cloche.engine.records import Container
from cloche.engine.specification import Surroundings, specify
from cloche.engine.validation import counts_swap
from cloche.errors import Conflict, Unavailable
from cloche.plan.plan import Plan
from cloche.plan.step import Step
from cloche.runtime import planner, resources
from cloche.runtime.defaults import throttle_paths

_INITS = ("/usr/bin/docker-init", "/usr/bin/tini-static", "/usr/libexec/docker/docker-init")


def plan(
    context: Context, container: Container, rootfs: tuple[Step, ...], size: tuple[int, int]
) -> tuple[Plan, Placement]:
    """The plan and where its processes go. Raises ``InvalidArgument``, ``Unsupported``, ``Conflict``."""
    config = container.config
    filtered = context.filters.get(config)
    joined = _joined(context, container)
    around = _surroundings(context, container, size, {kind: path for kind, (path, _) in joined.items()})
    spec = specify(container, around, filtered[0] if filtered else None)
    limits = resources.convert(spec.linux.resources)
    parent = config.cgroup_parent.strip("/") or context.settings.name
    placement = context.cgroups.place(context.layout, parent, container.id, limits)
    network = context.networking.attachment(container.endpoint)
    inputs = planner.Inputs(
        id=container.id,
        rootfs=rootfs,
        rootfs_target=context.paths.rootfs,
        placement=placement,
        user=container.user,
        groups=config.group_add,
        seccomp=filtered[1] if filtered else None,
        holders=dict(joined.values()),
        network_host=network.host,
        network_container=network.container,
    )
    return planner.plan(spec, inputs), placement


def _surroundings(
    context: Context, container: Container, size: tuple[int, int], joined: dict[str, str]
) -> Surroundings:
    nodes, rules = devices.find(container.config)
    return Surroundings(
        rootfs=context.paths.rootfs,
        files=context.paths.container(container.id),
        joined=joined,
        devices=nodes,
        device_rules=rules,
        counts_swap=counts_swap(context.layout),
        init=_init() if container.config.init else "",
        throttle=_throttle(),
        rows=size[0],
        columns=size[1],
    )


def _joined(context: Context, container: Container) -> dict[str, tuple[str, int]]:
    """Namespaces of other containers that this one shares: path, and start time of the process that holds
    it. Raises ``Conflict`` where the other does not run."""
    joined = {}
    asked = (("network", "net", container.config.network_mode), ("pid", "pid", container.config.pid_mode))
    for kind, link, mode in asked:
        prefix, _, ref = mode.partition(":")
        if prefix != "container" or not ref:
            continue
        other = context.registry.get(ref)
        if not is_running(other):
            raise Conflict(f"cannot join {kind} namespace of a non running container: {other.id}")
        joined[kind] = f"/proc/{other.state.pid}/ns/{link}", other.state.start_time
    return joined


def _init() -> str:
    for path in _INITS:
        if os.path.exists(path):
            return path
    raise Unavailable("--init needs a static init program on the host: install tini")


@cache
def _throttle() -> tuple[str, ...]:
    return throttle_paths()
