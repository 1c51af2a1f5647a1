"""The memory controller: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst."""

from __future__ import annotations

from cloche.cgroups.contract import Layout, Resources, Write
from cloche.errors import InvalidArgument


def asked(resources: Resources) -> bool:
    return any(
        value is not None
        for value in (
            resources.memory,
            resources.memory_reservation,
            resources.memory_swap,
            resources.memory_swappiness,
            resources.oom_kill_disable or None,
        )
    )


def v1(layout: Layout, directory: str, resources: Resources) -> list[Write]:
    _check(resources)
    writes = []
    if resources.memory is not None:
        writes.append(Write(f"{directory}/memory.limit_in_bytes", str(resources.memory)))
    if resources.memory_swap is not None:
        # In a new cgroup memory+swap is unlimited and may never be below memory: memory goes first.
        _need(layout, "memory.memsw.limit_in_bytes", "--memory-swap", "boot with swapaccount=1")
        writes.append(Write(f"{directory}/memory.memsw.limit_in_bytes", str(resources.memory_swap)))
    if resources.memory_reservation is not None:
        writes.append(Write(f"{directory}/memory.soft_limit_in_bytes", str(resources.memory_reservation)))
    if resources.memory_swappiness is not None:
        _need(layout, "memory.swappiness", "--memory-swappiness", "")
        writes.append(Write(f"{directory}/memory.swappiness", str(resources.memory_swappiness)))
    if resources.oom_kill_disable:
        _need(layout, "memory.oom_control", "--oom-kill-disable", "")
        writes.append(Write(f"{directory}/memory.oom_control", "1"))
    return writes


def v2(layout: Layout, directory: str, resources: Resources) -> list[Write]:
    _check(resources)
    if resources.memory_swappiness is not None:
        raise InvalidArgument(
            "--memory-swappiness: cgroup v2 has no swappiness of a cgroup; leave the option out"
        )
    if resources.oom_kill_disable:
        raise InvalidArgument(
            "--oom-kill-disable: cgroup v2 cannot switch the OOM killer off; leave the option out"
        )
    writes = []
    if resources.memory is not None:
        writes.append(Write(f"{directory}/memory.max", _amount(resources.memory)))
    if resources.memory_swap is not None:
        _need(layout, "memory.swap.max", "--memory-swap", "boot with swapaccount=1")
        writes.append(Write(f"{directory}/memory.swap.max", _swap(resources)))
    if resources.memory_reservation is not None:
        protected = max(resources.memory_reservation, 0)
        writes.append(Write(f"{directory}/memory.low", str(protected)))
    return writes


def _check(resources: Resources) -> None:
    """Docker's rules, which the kernel would answer with EINVAL alone."""
    memory, swap = resources.memory, resources.memory_swap
    if swap is not None and swap != -1:
        if memory is None or memory < 0:
            raise InvalidArgument("--memory-swap needs --memory: it is the sum of memory and swap")
        if swap < memory:
            raise InvalidArgument(f"--memory-swap {swap} is below --memory {memory}: it is the sum of both")
    swappiness = resources.memory_swappiness
    if swappiness is not None and not 0 <= swappiness <= 100:
        raise InvalidArgument(f"--memory-swappiness {swappiness} is not between 0 and 100")


def _need(layout: Layout, file: str, option: str, advice: str) -> None:
    if file not in layout.files:
        raise InvalidArgument(
            f"{option}: this kernel's memory controller has no {file}" + (f"; {advice}" if advice else "")
        )


def _amount(value: int) -> str:
    return "max" if value < 0 else str(value)


def _swap(resources: Resources) -> str:
    """v2 counts swap alone, Docker memory and swap together."""
    if resources.memory_swap == -1:
        return "max"
    return str((resources.memory_swap or 0) - (resources.memory or 0))
