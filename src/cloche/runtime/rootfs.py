"""Planning of the root file system: mounts, devices, pivot_root, masks."""

from __future__ import annotations

import posixpath

import msgspec

from cloche.cgroups.contract import Placement
from cloche.errors import InvalidArgument, Unsupported
from cloche.plan.step import Step
from cloche.plan.steps.files import (
    MakeDevice,
    MakeDirectory,
    MakeSymlink,
    MaskPath,
    ReadonlyPath,
    ReadonlyRoot,
)
from cloche.plan.steps.mount import Bind, BindCgroups, MakePrivate, MountFilesystem, PivotRoot
from cloche.runtime.spec import Device, Mount, Spec

FLAGS = frozenset(
    (
        "ro",
        "nosuid",
        "nodev",
        "noexec",
        "noatime",
        "nodiratime",
        "relatime",
        "strictatime",
        "nosymfollow",
    )
)
"""Options that are flags of a mount, not data of its file system."""

_PROPAGATIONS = frozenset(("private", "rprivate", "slave", "rslave", "shared", "rshared"))

_NEUTRAL = frozenset(("rw", "defaults", "suid", "dev", "exec", "atime", "diratime", "async", "symfollow"))
"""Options that name the kernel's default."""

OPTIONS = FLAGS | _PROPAGATIONS | _NEUTRAL | {"bind", "rbind"}
"""All options of a mount that are not its file system's own."""

_DEVICES = (
    Device("/dev/null", "c", 1, 3, 0o666),
    Device("/dev/zero", "c", 1, 5, 0o666),
    Device("/dev/full", "c", 1, 7, 0o666),
    Device("/dev/random", "c", 1, 8, 0o666),
    Device("/dev/urandom", "c", 1, 9, 0o666),
    Device("/dev/tty", "c", 5, 0, 0o666),
)
"""runtime-spec, config-linux.md: default devices."""

_SYMLINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
)

_OVER_PROC = frozenset(
    (
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "net/dev",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    )
)
"""Files of /proc that lxcfs and its kin put their own over, as other runtimes let them."""


def propagation(spec: Spec) -> MakePrivate:
    """Mounts of the host are seen in the container only where the spec wants them to be."""
    wanted = spec.linux.rootfs_propagation or "rprivate"
    if wanted.removeprefix("r") == "shared":
        raise Unsupported(
            "a shared bind: Cloche lets no mount made in a container appear on the host; "
            "take rslave to see the host's later mounts in the container"
        )
    if wanted.removeprefix("r") not in ("private", "slave"):
        raise Unsupported(f"linux.rootfsPropagation: {wanted!r} is not one of private and slave")
    return MakePrivate("rprivate" if wanted.endswith("private") else "rslave")


class Mounts(msgspec.Struct, frozen=True):
    """The spec's mounts as steps, in the spec's order within each part."""

    early: list[Step]
    late: list[Step]
    """The cgroups' own mounts, and those that come later in the spec and lie over, under or at them."""
    late_targets: list[str]

    def touches(self, path: str) -> bool:
        """Whether a path has to do with the late ones."""
        return any(_overlap(path, target) for target in self.late_targets)

    def need_host(self) -> bool:
        """Whether the late ones have sources on the host, which are out of reach after ``PivotRoot``."""
        return any(isinstance(step, Bind) for step in self.late)


def mounts(spec: Spec, placement: Placement, *, cgroup_namespace: bool) -> Mounts:
    """Sort the mounts by whether they wait for the cgroups."""
    found = Mounts([], [], [])
    for mount in spec.mounts:
        _check_destination(mount)
        if mount.type in ("cgroup", "cgroup2"):
            found.late_targets.append(mount.destination)
            found.late.extend(_cgroup(mount, placement, cgroup_namespace))
        elif found.touches(mount.destination):
            found.late_targets.append(mount.destination)
            found.late.append(_mount(mount))
        else:
            found.early.append(_mount(mount))
    return found


def devices(spec: Spec) -> list[Step]:
    """Nodes and links in a /dev of the container's own; a /dev that is bound from elsewhere stays as it
    is."""
    own = [mount for mount in spec.mounts if mount.destination.rstrip("/") == "/dev"]
    if own and _is_bind(own[-1]):
        return []
    wanted = {device.path: device for device in _DEVICES} | {
        device.path: device for device in spec.linux.devices
    }
    steps: list[Step] = [_device(device) for device in wanted.values()]
    steps += [MakeSymlink(path, target) for path, target in _SYMLINKS]
    if any(mount.destination == "/dev/pts" for mount in spec.mounts):
        steps.append(MakeSymlink("/dev/ptmx", "pts/ptmx"))
    return steps


def enter(spec: Spec, target: str) -> list[Step]:
    """Make it the root. A working directory that is missing must be made before the root becomes
    read-only."""
    steps: list[Step] = []
    if spec.root.readonly:
        steps.append(MakeDirectory(spec.process.cwd))
    steps.append(PivotRoot(target))
    return steps


def protect(spec: Spec) -> list[ReadonlyPath | MaskPath]:
    """Read-only and masked paths, when nothing more is written there."""
    return [ReadonlyPath(path) for path in spec.linux.readonly_paths] + [
        MaskPath(path) for path in spec.linux.masked_paths
    ]


def close(spec: Spec) -> list[Step]:
    """The read-only root, when no target is made any more."""
    return [ReadonlyRoot()] if spec.root.readonly else []


def _check_destination(mount: Mount) -> None:
    """Nothing lies over the kernel's /proc but what stands in for single files of it (CVE-2019-16884)."""
    if not mount.destination.startswith("/"):
        raise InvalidArgument(f"mounts: destination {mount.destination!r} is not an absolute path")
    path = posixpath.normpath("/" + mount.destination.lstrip("/"))
    if path == "/proc":
        allowed = mount.type == "proc" or (_is_bind(mount) and mount.source.rstrip("/") == "/proc")
    else:
        allowed = not path.startswith("/proc/") or path.removeprefix("/proc/") in _OVER_PROC
    if not allowed:
        raise InvalidArgument(
            f"mounts: {mount.destination} cannot be mounted over, because it is inside /proc"
        )


def _mount(mount: Mount) -> Step:
    if mount.uid_mappings or mount.gid_mappings:
        raise Unsupported(f"mounts: {mount.destination}: Cloche makes no id-mapped mounts")
    flags = tuple(option for option in mount.options if option in FLAGS)
    propagations = [option for option in mount.options if option in _PROPAGATIONS]
    data = tuple(option for option in mount.options if option not in OPTIONS)
    if not _is_bind(mount):
        if propagations:
            raise Unsupported(
                f"mounts: {mount.destination}: propagation {propagations[-1]!r} of a {mount.type} mount"
            )
        return MountFilesystem(mount.type, mount.source or mount.type, mount.destination, flags, data)
    if data:
        raise InvalidArgument(f"mounts: {mount.destination}: a bind mount has no option {data[0]!r}")
    if not mount.source.startswith("/"):
        raise InvalidArgument(
            f"mounts: {mount.destination}: source {mount.source!r} is not an absolute path"
        )
    return Bind(
        mount.source,
        mount.destination,
        recursive="rbind" in mount.options,
        options=flags,
        propagation=propagations[-1] if propagations else "rprivate",
    )


def _is_bind(mount: Mount) -> bool:
    return mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options


def _cgroup(mount: Mount, placement: Placement, namespace: bool) -> list[Step]:
    """v2 is one mount. v1 is one for each hierarchy: without a cgroup namespace those would show the
    whole host, so there the container's own directories are bound; v2 shows the whole host there, as with
    other runtimes."""
    target = mount.destination
    flags = tuple(option for option in mount.options if option in FLAGS)
    if placement.version == 2 and namespace:
        return [MountFilesystem("cgroup2", "cgroup", target, flags)]
    if placement.version == 2:
        # A new mount from the host's own cgroup namespace would reset the options of the host's
        # (nsdelegate, memory_recursiveprot): the kernel takes its options for all of them.
        mountpoint = placement.directories[0].rpartition("/")[0]
        return [Bind(mountpoint, target, recursive=False, options=flags)]
    if namespace:
        return [BindCgroups(target, placement.hierarchies, readonly="ro" in flags)]
    steps: list[Step] = [
        MountFilesystem("tmpfs", "cgroup", target, ("nosuid", "nodev", "noexec"), ("mode=755", "size=64k"))
    ]
    for hierarchy, leaf in zip(placement.hierarchies, placement.leaves, strict=True):
        name = hierarchy.removeprefix("name=")
        steps.append(Bind(leaf, f"{target}/{name}", recursive=False, options=flags))
        if "," in name:
            steps += [MakeSymlink(f"{target}/{controller}", name) for controller in name.split(",")]
    return steps


def _device(device: Device) -> MakeDevice:
    kind = "c" if device.type == "u" else device.type
    if kind not in ("c", "b", "p"):
        raise InvalidArgument(f"linux.devices: {device.path}: type {device.type!r} is not one of c, b, u, p")
    mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
    return MakeDevice(device.path, kind, device.major, device.minor, mode, device.uid, device.gid)


def _overlap(one: str, other: str) -> bool:
    """One path is the other or lies below it."""
    shorter, longer = sorted((one.rstrip("/") + "/", other.rstrip("/") + "/"), key=len)
    return longer.startswith(shorter)
