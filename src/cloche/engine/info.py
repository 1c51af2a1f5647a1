"""What an engine says of itself and of the machine."""

from __future__ import annotations

import secrets

from cloche.engine.context import Context, is_running
from cloche.engine.records import EngineInfo
from cloche.engine.validation import counts_swap
from cloche.state.store import Store


def engine_id(store: Store) -> str:
    """The engine's own id: made once, kept in the state."""
    found = store.read(lambda queries: queries.fact("engine-id"))
    if found:
        return found
    made = secrets.token_hex(16)
    store.submit(lambda transaction: transaction.set_fact("engine-id", made), durable=True).result()
    return made


def info(context: Context, id: str) -> EngineInfo:
    """See ``Engine.info``."""
    containers = context.registry.all()
    running = sum(is_running(container) for container in containers)
    layout = context.layout
    controllers = set(layout.controllers)
    swap = counts_swap(layout)
    forwarding = _forwarding()
    warnings = [] if swap else ["WARNING: No swap limit support"]
    return EngineInfo(
        id=id,
        root=context.paths.root,
        driver=context.snapshots.name,
        driver_status=context.snapshots.status(),
        cgroup_driver="cgroupfs",
        cgroup_version=layout.version,
        memory_limit="memory" in controllers,
        swap_limit=swap,
        pids_limit="pids" in controllers,
        cpu_quota="cpu" in controllers,
        cpu_shares="cpu" in controllers,
        cpuset="cpuset" in controllers,
        containers=len(containers),
        running=running,
        stopped=len(containers) - running,
        images=len(context.images.all()),
        ipv4_forwarding=forwarding,
        security_options=("name=seccomp,profile=builtin", "name=cgroupns"),
        warnings=tuple(warnings),
    )


def _forwarding() -> bool:
    try:
        with open("/proc/sys/net/ipv4/ip_forward") as file:
            return file.read().strip() == "1"
    except OSError:
        return False
