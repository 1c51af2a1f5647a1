"""The contract of a cgroup hierarchy: limits in, file writes out.

Translation is pure (``writes``), detection reads /proc and /sys once (``detect`` in
``cloche.cgroups.layout``), and all effects are plan steps or the few verbs below.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Layout(msgspec.Struct, frozen=True):
    """How this machine mounts cgroups."""

    version: int
    """1 where any v1 controller is mounted (v1 and hybrid), 2 for the unified hierarchy alone."""
    mounts: dict[str, str]
    """v1: controller name -> directory of its hierarchy (co-mounted controllers share one). v2: ``{"":
    mountpoint}``."""
    controllers: tuple[str, ...]
    files: tuple[str, ...] = ()
    """Those of the files that depend on the kernel's build which this kernel has, e.g.
    ``memory.swap.max``."""


class DeviceRule(msgspec.Struct, frozen=True):
    """One line of the device allow-list; ``None`` is any number. ``type`` is ``a``, ``b`` or ``c``,
    ``access`` of ``rwm``."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class Resources(msgspec.Struct, frozen=True):
    """Limits in one shape for v1 and v2; ``None`` is not asked for. Bytes, microseconds, counts."""

    memory: int | None = None
    memory_reservation: int | None = None
    memory_swap: int | None = None
    """Memory plus swap, as Docker and v1 count; -1 unlimited."""
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids: int | None = None
    """-1 unlimited."""
    blkio_weight: int | None = None
    devices: tuple[DeviceRule, ...] = ()


class Write(msgspec.Struct, frozen=True):
    """One write to one cgroup file."""

    path: str
    value: str
    tolerate: tuple[int, ...] = ()
    """Errnos that do not matter here, each with a reason where the write is made."""


class Placement(msgspec.Struct, frozen=True):
    """Where a container's processes go and what limits them there."""

    version: int
    directories: tuple[str, ...]
    """To be made, in this order (parents first); the last of each hierarchy is the container's own."""
    leaves: tuple[str, ...]
    """The container's own directory in each hierarchy: processes are attached there."""
    writes: tuple[Write, ...]
    """Before any process is attached."""
    cpusets: tuple[str, ...] = ()
    """v1: those of ``directories`` in the cpuset hierarchy, which are born empty: filled from their
    parents."""
    hierarchies: tuple[str, ...] = ()
    """v1: the controllers of each leaf's hierarchy as mount(8) names them: ``cpu,cpuacct``,
    ``name=systemd``."""
    device_program: bytes = b""
    """v2: eBPF instructions for BPF_CGROUP_DEVICE, attached to the (one) leaf; empty on v1."""


class Planner(Protocol):
    """``cloche.cgroups.v1`` and ``cloche.cgroups.v2`` each have these."""

    def place(self, layout: Layout, parent: str, name: str, resources: Resources) -> Placement:
        """Pure. ``parent`` and ``name`` are joined below each hierarchy's mount. Raises
        ``InvalidArgument`` for a limit that this layout cannot express (its controller is missing): a
        limit that was asked for is never dropped."""

    def processes(self, leaves: tuple[str, ...]) -> list[int]: ...

    def kill(self, leaves: tuple[str, ...]) -> None:
        """Kill all processes in the cgroup (v2 ``cgroup.kill``; v1 freeze, SIGKILL, thaw)."""

    def remove(self, leaves: tuple[str, ...]) -> None:
        """rmdir leaves (retrying EBUSY for a bounded time while zombies go)."""
