"""The devices controller of v1 (Documentation/admin-guide/cgroup-v1/devices.rst); v2 has ``device_program``.

The kernel keeps a default and a list of exceptions from it, all of one kind, and takes an exception back
only by its exact numbers. So the rules are reduced to that form here, and what does not fit into it is
refused."""

from __future__ import annotations

from collections.abc import Container

from cloche.cgroups.contract import DeviceRule, Layout, Resources, Write
from cloche.cgroups.device_program import matches_everything
from cloche.errors import InvalidArgument

Numbers = tuple[str, int | None, int | None]
"""Type, major, minor."""


def asked(resources: Resources) -> bool:
    """Rules that end in "everything" are what a new cgroup has."""
    rules = resources.devices
    return bool(rules) and not (rules[-1].allow and matches_everything(rules[-1]))


def v1(layout: Layout, directory: str, resources: Resources) -> list[Write]:
    if not asked(resources):
        return []
    allow, exceptions = _reduce(resources.devices)
    names = ("devices.allow", "devices.deny")
    writes = [Write(f"{directory}/{names[not allow]}", "a")]
    writes += [Write(f"{directory}/{names[allow]}", _line(*entry)) for entry in exceptions.items()]
    return writes


def _reduce(rules: tuple[DeviceRule, ...]) -> tuple[bool, dict[Numbers, str]]:
    """The default, and the exceptions with their accesses. What no rule names is denied."""
    allow = False
    exceptions: dict[Numbers, str] = {}
    for rule in rules:
        if matches_everything(rule):
            allow, exceptions = rule.allow, {}
            continue
        for kind in "bc" if rule.type == "a" else rule.type:
            numbers = (kind, rule.major, rule.minor)
            if rule.allow != allow:
                exceptions[numbers] = _letters(exceptions.get(numbers, "") + rule.access)
            else:
                _take_back(exceptions, numbers, rule)
    return allow, exceptions


def _take_back(exceptions: dict[Numbers, str], numbers: Numbers, rule: DeviceRule) -> None:
    """Cut an exception's accesses, and those of the narrower ones. A part of a wider one cannot be cut."""
    for existing in list(exceptions):
        common = set(exceptions[existing]) & set(rule.access)
        if not common or not (_covers(numbers, existing) or _covers(existing, numbers)):
            continue
        if not _covers(numbers, existing):
            verb, line = "allow" if rule.allow else "deny", _line(numbers, rule.access)
            raise InvalidArgument(
                f"device rule {verb} '{line}': cgroup v1 cannot take it out of the wider earlier rule "
                f"'{_line(existing, exceptions[existing])}'; list the devices one by one"
            )
        left = set(exceptions.pop(existing)) - common
        if left:
            exceptions[existing] = _letters(left)


def _covers(wide: Numbers, narrow: Numbers) -> bool:
    return wide[0] == narrow[0] and wide[1] in (None, narrow[1]) and wide[2] in (None, narrow[2])


def _line(numbers: Numbers, access: str) -> str:
    kind, major, minor = numbers
    return f"{kind} {'*' if major is None else major}:{'*' if minor is None else minor} {access}"


def _letters(accesses: Container[str]) -> str:
    return "".join(letter for letter in "rwm" if letter in accesses)
