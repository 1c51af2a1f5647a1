"""From a container's OCI spec to its plan: a pure function, without I/O, clock or randomness.

The order of things, and why:

* Host side: ``Clone`` comes first, so that init mounts while this side makes and fills the cgroups and the
  links. On cgroup v2 the cgroup is first, because init is born in it.
* Container side: what waits for the cgroups (their namespace and their mounts) comes as late as it can,
  since the kernel's first attach after quiet takes 12 ms; addresses come after that.
* A filter without no-new-privileges needs CAP_SYS_ADMIN to be loaded, hence comes before the capabilities
  go. With no-new-privileges it comes last, so that it sees as little of our own calls as possible.
"""

from __future__ import annotations

import msgspec

from cloche.cgroups.contract import Placement
from cloche.errors import InvalidArgument, Unsupported
from cloche.plan.plan import Plan
from cloche.plan.step import Step
from cloche.plan.steps.cgroup import (
    AttachCgroups,
    AttachDeviceProgram,
    MakeCgroups,
    SetOomScore,
    WriteCgroup,
)
from cloche.plan.steps.network import BringUpLoopback
from cloche.plan.steps.process import Await, Clone, JoinNamespace, Signal, UnshareCgroup
from cloche.runtime import process, rootfs
from cloche.runtime.seccomp import Filter
from cloche.runtime.spec import Linux, Namespace, Spec, unwanted


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan needs beside the spec: all that somebody else has already decided or made."""

    id: str
    """The container's."""
    rootfs: tuple[Step, ...]
    """Mount the root file system at ``rootfs_target`` (the snapshotter's steps, or ``BindRoot``)."""
    rootfs_target: str
    placement: Placement
    """From ``cloche.cgroups``, for ``resources.convert(spec.linux.resources)``."""
    user: str | None = None
    """Docker's ``USER[:GROUP]``, resolved in the container; ``None`` takes the numbers of
    ``spec.process.user``."""
    groups: tuple[str, ...] = ()
    """Docker's ``--group-add``: names or numbers, resolved in the container (only with ``user``)."""
    seccomp: Filter | None = None
    """The program for ``spec.linux.seccomp``."""
    holders: dict[str, int] = {}
    """Of the spec's namespaces that are joined, path to start time of the process that has to hold it."""
    network_host: tuple[Step, ...] = ()
    """Between ``Signal("attached")`` and ``Signal("linked")``."""
    network_container: tuple[Step, ...] = ()
    """After ``Await("linked")``."""


_NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "cgroup")

_REFUSED = {
    "": ("hooks",),
    "process": ("apparmor_profile", "selinux_label", "scheduler", "io_priority", "exec_cpu_affinity"),
    "linux": (
        "uid_mappings",
        "gid_mappings",
        "time_offsets",
        "net_devices",
        "intel_rdt",
        "memory_policy",
        "personality",
        "mount_label",
    ),
}


def plan(spec: Spec, inputs: Inputs) -> Plan:
    """Plan the container. Raises ``InvalidArgument`` for what contradicts itself, ``Unsupported`` for
    what the spec asks for and Cloche does not enforce."""
    _refuse(spec)
    namespaces = _namespaces(spec.linux)
    process.check(spec, namespaces)
    if (spec.linux.seccomp is None) != (inputs.seccomp is None):
        raise InvalidArgument("linux.seccomp and the compiled filter come together: one of them is missing")
    return Plan(host=_host(spec, inputs, namespaces), container=_container(spec, inputs, namespaces))


def _host(spec: Spec, inputs: Inputs, namespaces: dict[str, str]) -> tuple[Step, ...]:
    placement = inputs.placement
    made = tuple(kind for kind, path in namespaces.items() if not path and kind != "cgroup")
    steps: list[Step] = []
    if namespaces.get("pid"):
        # A pid namespace takes in the children of who joins it, so the host side joins before it forks.
        steps.append(_join("pid", namespaces["pid"], inputs))
    cgroups: list[Step] = [MakeCgroups(placement.directories, placement.cpusets)]
    cgroups += [WriteCgroup(write.path, write.value, write.tolerate) for write in placement.writes]
    if placement.device_program:
        cgroups.append(AttachDeviceProgram(placement.leaves[0], placement.device_program))
    if placement.version == 2:
        steps += [*cgroups, Clone(made, placement.leaves[0])]
    else:
        steps += [Clone(made), *cgroups, AttachCgroups(placement.leaves)]
    if spec.process.oom_score_adj is not None:
        steps.append(SetOomScore(spec.process.oom_score_adj))
    steps.append(Signal("attached"))
    if inputs.network_host:
        steps += [*inputs.network_host, Signal("linked")]
    return tuple(steps)


def _container(spec: Spec, inputs: Inputs, namespaces: dict[str, str]) -> tuple[Step, ...]:
    mounts = rootfs.mounts(spec, inputs.placement, cgroup_namespace="cgroup" in namespaces)
    cgroups = [Await("attached"), *_cgroup_namespace(namespaces, inputs), *mounts.late]
    # After ``PivotRoot`` neither sources nor namespaces of the host can be reached.
    from_host = mounts.need_host() or bool(namespaces.get("cgroup"))
    hidden = rootfs.protect(spec)
    steps: list[Step] = [
        _join(kind, path, inputs)
        for kind, path in namespaces.items()
        if path and kind not in ("pid", "cgroup")
    ]
    if namespaces.get("network") == "":
        steps.append(BringUpLoopback())
    steps += process.names(spec)
    steps.append(rootfs.propagation(spec))
    steps += inputs.rootfs
    steps += mounts.early
    steps += rootfs.devices(spec)
    steps += process.terminal(spec)
    if from_host:
        steps += cgroups
    steps += rootfs.enter(spec, inputs.rootfs_target)
    steps += process.sysctls(spec)
    steps += [step for step in hidden if not mounts.touches(step.path)]
    if not from_host:
        steps += cgroups
    steps += [step for step in hidden if mounts.touches(step.path)]
    steps += rootfs.close(spec)
    if inputs.network_host:
        steps.append(Await("linked"))
    steps += inputs.network_container
    steps += process.identity(spec, inputs.id, inputs.user, inputs.groups, inputs.seccomp)
    return tuple(steps)


def _join(kind: str, path: str, inputs: Inputs) -> JoinNamespace:
    return JoinNamespace(kind, path, inputs.holders.get(path, 0))


def _cgroup_namespace(namespaces: dict[str, str], inputs: Inputs) -> list[Step]:
    if "cgroup" not in namespaces:
        return []
    path = namespaces["cgroup"]
    return [_join("cgroup", path, inputs) if path else UnshareCgroup()]


def _namespaces(linux: Linux) -> dict[str, str]:
    """Kind to path (``""`` is a new one), in the order of the spec."""
    found: dict[str, str] = {}
    for namespace in linux.namespaces:
        _check_namespace(namespace)
        if namespace.type in found:
            raise InvalidArgument(f"linux.namespaces: {namespace.type} is there twice")
        found[namespace.type] = namespace.path
    if found.get("mount") != "":
        raise Unsupported("linux.namespaces: a container without a mount namespace of its own")
    return found


def _check_namespace(namespace: Namespace) -> None:
    if namespace.type in ("user", "time"):
        raise Unsupported(f"linux.namespaces: Cloche makes no {namespace.type} namespaces")
    if namespace.type not in _NAMESPACES:
        raise InvalidArgument(f"linux.namespaces: {namespace.type!r} is not one of {', '.join(_NAMESPACES)}")
    if namespace.path and not namespace.path.startswith("/"):
        raise InvalidArgument(f"linux.namespaces: {namespace.path!r} is not an absolute path")


def _refuse(spec: Spec) -> None:
    """What the specification knows and Cloche does not enforce."""
    for group, names in _REFUSED.items():
        for name in unwanted(getattr(spec, group) if group else spec, names):
            path = f"{group}.{name}" if group else name
            raise Unsupported(f"{path}: Cloche does not do that; leave it out")
    if spec.process.user.umask is not None:
        raise Unsupported("process.user.umask: Cloche does not set it; leave it out")
