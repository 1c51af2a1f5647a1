"""The devices controller of v1 (Documentation/admin-guide/cgroup-v1/devices.rst); v2 has
``device_program``."""

from __future__ import annotations

from cloche.cgroups.contract import DeviceRule, Layout, Resources, Write
from cloche.cgroups.device_program import matches_everything


def asked(resources: Resources) -> bool:
    """Rules that end in "everything" are what a new cgroup has."""
    return bool(resources.devices) and not _everything(resources.devices)


def v1(layout: Layout, directory: str, resources: Resources) -> list[Write]:
    if not asked(resources):
        return []
    return [
        Write(f"{directory}/devices.{'allow' if rule.allow else 'deny'}", line)
        for rule in resources.devices
        for line in _lines(rule)
    ]


def _everything(rules: tuple[DeviceRule, ...]) -> bool:
    return rules[-1].allow and matches_everything(rules[-1])


def _lines(rule: DeviceRule) -> list[str]:
    """The kernel takes ``a`` for everything and ignores what follows: a narrower rule for both types is
    two."""
    if matches_everything(rule):
        return ["a"]
    kinds = "bc" if rule.type == "a" else rule.type
    major = "*" if rule.major is None else rule.major
    minor = "*" if rule.minor is None else rule.minor
    return [f"{kind} {major}:{minor} {rule.access}" for kind in kinds]
