"""Which system calls a container may use: Docker's default decisions and profiles in Docker's JSON, with
their conditions on capabilities, machine and kernel resolved to OCI's flat form."""

from __future__ import annotations

import os

import msgspec

from cloche.errors import InvalidArgument
from cloche.runtime.spec import Seccomp, SeccompArgument, SeccompSyscall

ALLOW = "SCMP_ACT_ALLOW"
ERRNO = "SCMP_ACT_ERRNO"

_EPERM = 1

ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}
"""What a machine's programs may be built for."""

_DOCKER_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of ``seccomp_default.json``: allow these calls, or answer ``errno``, where the conditions
    hold."""

    names: tuple[str, ...]
    machines: tuple[str, ...] = ()
    with_: str = msgspec.field(default="", name="with")
    """A capability that the container has ..."""
    without: str = ""
    """... or has not."""
    kernel: str = ""
    """The oldest kernel."""
    errno: int | None = None
    argument: SeccompArgument | None = None


class Conditions(msgspec.Struct, frozen=True, rename="camel"):
    """``includes`` and ``excludes`` of a Docker profile's rule."""

    caps: tuple[str, ...] | None = None
    arches: tuple[str, ...] | None = None
    min_kernel: str = ""


class Rule(msgspec.Struct, frozen=True, rename="camel"):
    action: str
    names: tuple[str, ...] | None = None
    name: str = ""
    errno_ret: int | None = None
    args: tuple[SeccompArgument, ...] | None = None
    includes: Conditions | None = None
    excludes: Conditions | None = None


class ArchitectureMap(msgspec.Struct, frozen=True, rename="camel"):
    architecture: str
    sub_architectures: tuple[str, ...] | None = None


class Profile(msgspec.Struct, frozen=True, rename="camel"):
    """A profile as ``docker run --security-opt seccomp=FILE`` takes it
    (docs.docker.com/engine/security/seccomp)."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] | None = None
    arch_map: tuple[ArchitectureMap, ...] | None = None
    flags: tuple[str, ...] | None = None
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[Rule, ...] | None = None


def resolve(
    profile: bytes | None, capabilities: tuple[str, ...], machine: str = "", kernel: str = ""
) -> Seccomp:
    """A Docker profile (``None``: the default) as what belongs into ``spec.linux.seccomp``, for these
    (bounding) capabilities. ``machine`` and ``kernel`` are this one's by default. Raises ``InvalidArgument``
    for a broken profile."""
    identity = os.uname()
    machine, kernel = machine or identity.machine, kernel or identity.release
    if profile is None:
        return _default(capabilities, machine, kernel)
    try:
        parsed = msgspec.json.decode(profile, type=Profile)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"the seccomp profile cannot be read: {error}") from None
    return _custom(parsed, capabilities, machine, kernel)


def _default(capabilities: tuple[str, ...], machine: str, kernel: str) -> Seccomp:
    with open(f"{os.path.dirname(__file__)}/seccomp_default.json", "rb") as file:
        decisions = msgspec.json.decode(file.read(), type=tuple[Decision, ...])
    return Seccomp(
        default_action=ERRNO,
        default_errno_ret=_EPERM,
        architectures=ARCHITECTURES.get(machine, ()),
        syscalls=tuple(
            SeccompSyscall(
                names=decision.names,
                action=ALLOW if decision.errno is None else ERRNO,
                errno_ret=decision.errno,
                args=(decision.argument,) if decision.argument else (),
            )
            for decision in decisions
            if _holds(decision, capabilities, machine, kernel)
        ),
    )


def _holds(decision: Decision, capabilities: tuple[str, ...], machine: str, kernel: str) -> bool:
    if decision.machines and machine not in decision.machines:
        return False
    if decision.with_ and decision.with_ not in capabilities:
        return False
    if decision.without and decision.without in capabilities:
        return False
    return not decision.kernel or _version(kernel) >= _version(decision.kernel)


def _custom(profile: Profile, capabilities: tuple[str, ...], machine: str, kernel: str) -> Seccomp:
    if profile.architectures and profile.arch_map:
        raise InvalidArgument(
            "the seccomp profile has 'architectures' and 'archMap': only one of them may be there"
        )
    return Seccomp(
        default_action=profile.default_action,
        default_errno_ret=profile.default_errno_ret,
        architectures=profile.architectures or _mapped(profile.arch_map or (), machine),
        flags=profile.flags or (),
        listener_path=profile.listener_path,
        listener_metadata=profile.listener_metadata,
        syscalls=tuple(
            SeccompSyscall(_names(rule), rule.action, rule.errno_ret, rule.args or ())
            for rule in profile.syscalls or ()
            if _included(rule.includes, capabilities, machine, kernel)
            and not _excluded(rule.excludes, capabilities, machine, kernel)
        ),
    )


def _mapped(entries: tuple[ArchitectureMap, ...], machine: str) -> tuple[str, ...]:
    native = ARCHITECTURES.get(machine, ("",))[0]
    for entry in entries:
        if entry.architecture == native:
            return (native, *(entry.sub_architectures or ()))
    return ()


def _names(rule: Rule) -> tuple[str, ...]:
    if bool(rule.name) == bool(rule.names):
        raise InvalidArgument(
            "the seccomp profile: each entry of 'syscalls' needs one of 'name' and 'names'"
        )
    return rule.names or (rule.name,)


def _included(
    conditions: Conditions | None, capabilities: tuple[str, ...], machine: str, kernel: str
) -> bool:
    """All conditions that are there must hold."""
    if conditions is None:
        return True
    if conditions.arches and _DOCKER_MACHINES.get(machine) not in conditions.arches:
        return False
    if conditions.caps and not set(conditions.caps) <= set(capabilities):
        return False
    return not conditions.min_kernel or _version(kernel) >= _version(conditions.min_kernel)


def _excluded(
    conditions: Conditions | None, capabilities: tuple[str, ...], machine: str, kernel: str
) -> bool:
    """One condition that holds is enough."""
    if conditions is None:
        return False
    if conditions.arches and _DOCKER_MACHINES.get(machine) in conditions.arches:
        return True
    if conditions.caps and set(conditions.caps) & set(capabilities):
        return True
    return bool(conditions.min_kernel) and _version(kernel) >= _version(conditions.min_kernel)


def _version(release: str) -> tuple[int, int]:
    """Major and minor number of a kernel's release."""
    parts = release.replace("-", ".").split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        raise InvalidArgument(f"the seccomp profile: {release!r} is no kernel version") from None
