"""The spec's ``linux.resources`` as the one shape that cgroup v1 and v2 translate from."""

from __future__ import annotations

from cloche.cgroups.contract import DeviceRule, Resources
from cloche.cgroups.device_program import matches_everything
from cloche.errors import InvalidArgument, Unsupported
from cloche.runtime.defaults import DEVICE_RULES
from cloche.runtime.spec import DeviceCgroup, unwanted
from cloche.runtime.spec import Resources as SpecResources

_REFUSED = {
    "memory": ("kernel", "kernel_tcp"),
    "cpu": ("burst", "realtime_runtime", "realtime_period", "idle"),
    "block_io": (
        "leaf_weight",
        "weight_device",
        "throttle_read_bps_device",
        "throttle_write_bps_device",
        "throttle_read_iops_device",
        "throttle_write_iops_device",
    ),
    "": ("hugepage_limits", "network", "rdma", "unified"),
}


def convert(resources: SpecResources | None) -> Resources:
    """Raises ``Unsupported`` for a limit that Cloche does not set, ``InvalidArgument`` for a senseless
    one."""
    if resources is None:
        return Resources(devices=_devices(()))
    _refuse(resources)
    memory, cpu, block = resources.memory, resources.cpu, resources.block_io
    return Resources(
        memory=memory.limit if memory else None,
        memory_reservation=memory.reservation if memory else None,
        memory_swap=memory.swap if memory else None,
        memory_swappiness=memory.swappiness if memory else None,
        oom_kill_disable=memory.disable_oom_killer if memory else None,
        cpu_shares=cpu.shares or None if cpu else None,
        cpu_quota=cpu.quota or None if cpu else None,
        cpu_period=cpu.period or None if cpu else None,
        cpuset_cpus=cpu.cpus or None if cpu else None,
        cpuset_mems=cpu.mems or None if cpu else None,
        # The specification: 0 and below is no limit.
        pids=(resources.pids.limit if resources.pids.limit > 0 else -1) if resources.pids else None,
        blkio_weight=block.weight or None if block else None,
        devices=_devices(resources.devices),
    )


def _refuse(resources: SpecResources) -> None:
    for group, names in _REFUSED.items():
        for name in unwanted(getattr(resources, group) if group else resources, names):
            path = ".".join(part for part in ("linux.resources", group, name) if part)
            raise Unsupported(f"{path}: Cloche does not set this limit")


def _devices(rules: tuple[DeviceCgroup, ...]) -> tuple[DeviceRule, ...]:
    """Devices are denied unless a rule allows them; without any rule Docker's default ones hold."""
    converted = tuple(_device(rule) for rule in rules or DEVICE_RULES)
    if matches_everything(converted[0]):
        return converted
    return (DeviceRule(allow=False), *converted)


def _device(rule: DeviceCgroup) -> DeviceRule:
    kind = rule.type or "a"
    if kind not in ("a", "b", "c"):
        raise InvalidArgument(f"linux.resources.devices: type {kind!r} is not one of a, b, c")
    access = rule.access or "rwm"
    if not set(access) <= set("rwm"):
        raise InvalidArgument(f"linux.resources.devices: access {access!r} has other letters than r, w, m")
    return DeviceRule(rule.allow, kind, _number(rule.major), _number(rule.minor), access)


def _number(value: int | None) -> int | None:
    """-1 is Docker's word for any."""
    return None if value is None or value < 0 else value
