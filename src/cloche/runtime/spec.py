"""The OCI runtime specification's ``config.json`` (1.2) as frozen structs.

Names are the specification's own, in snake case here and camel case in JSON. Types are strict: a wrong one
is an ``InvalidArgument`` that names the JSON path. Properties that the specification does not know are
ignored, as it asks for. Properties that it knows and Cloche does not enforce are kept as they are, so that
the planner can refuse them: nothing that was asked for is dropped silently."""

from __future__ import annotations

from typing import Any

import msgspec

from cloche.errors import InvalidArgument


class Object(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Base of all objects of the specification."""


class Box(Object, frozen=True):
    """``process.consoleSize``, in characters."""

    height: int
    width: int


class User(Object, frozen=True):
    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()


class Capabilities(Object, frozen=True):
    """Names as ``CAP_CHOWN``. A process without this object gets none, as from other runtimes."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Object, frozen=True):
    """``type`` as ``RLIMIT_NOFILE``; the largest unsigned 64-bit number is no limit."""

    type: str
    soft: int
    hard: int


class Process(Object, frozen=True):
    cwd: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    terminal: bool = False
    console_size: Box | None = None
    user: User = User()
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    apparmor_profile: str = ""
    selinux_label: str = ""
    scheduler: Any = None
    io_priority: Any = None
    exec_cpu_affinity: Any = msgspec.field(default=None, name="execCPUAffinity")


class Root(Object, frozen=True):
    path: str
    readonly: bool = False


class Mount(Object, frozen=True):
    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: Any = None
    gid_mappings: Any = None


class Namespace(Object, frozen=True):
    """``type``: pid network mount ipc uts user cgroup time. With a ``path`` it is joined, else made."""

    type: str
    path: str = ""


class Device(Object, frozen=True):
    """A node to be made; ``type`` c, b, u or p."""

    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int = 0
    gid: int = 0


class DeviceCgroup(Object, frozen=True):
    """``None`` or -1 is any number; an empty ``type`` or ``a`` is any type."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class Memory(Object, frozen=True):
    """Bytes; -1 is no limit. ``swap`` is memory plus swap."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = msgspec.field(default=None, name="kernelTCP")
    swappiness: int | None = None
    disable_oom_killer: bool | None = msgspec.field(default=None, name="disableOOMKiller")
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class Cpu(Object, frozen=True):
    """``quota`` and ``period`` in microseconds."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class Pids(Object, frozen=True):
    """``limit`` 0 or -1 is no limit."""

    limit: int


class BlockIO(Object, frozen=True):
    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: Any = None
    throttle_read_bps_device: Any = None
    throttle_write_bps_device: Any = None
    throttle_read_iops_device: Any = msgspec.field(default=None, name="throttleReadIOPSDevice")
    throttle_write_iops_device: Any = msgspec.field(default=None, name="throttleWriteIOPSDevice")


class Resources(Object, frozen=True):
    devices: tuple[DeviceCgroup, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = msgspec.field(default=None, name="blockIO")
    hugepage_limits: Any = None
    network: Any = None
    rdma: Any = None
    unified: dict[str, str] = {}


class SeccompArgument(Object, frozen=True):
    index: int
    value: int
    op: str
    value_two: int = 0


class SeccompSyscall(Object, frozen=True):
    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[SeccompArgument, ...] = ()


class Seccomp(Object, frozen=True):
    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[SeccompSyscall, ...] = ()


class Linux(Object, frozen=True):
    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[Device, ...] = ()
    cgroups_path: str = ""
    resources: Resources | None = None
    rootfs_propagation: str = ""
    seccomp: Seccomp | None = None
    sysctl: dict[str, str] = {}
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    uid_mappings: Any = None
    gid_mappings: Any = None
    time_offsets: Any = None
    net_devices: Any = None
    intel_rdt: Any = None
    memory_policy: Any = None
    personality: Any = None


class Spec(Object, frozen=True):
    """``config.json``."""

    oci_version: str
    root: Root
    process: Process
    mounts: tuple[Mount, ...] = ()
    hostname: str = ""
    domainname: str = ""
    hooks: Any = None
    annotations: dict[str, str] = {}
    linux: Linux = Linux()


def decode(data: bytes) -> Spec:
    """Parse ``config.json``. Raises ``InvalidArgument`` with the JSON path of what is wrong."""
    try:
        return msgspec.json.decode(data, type=Spec)
    except msgspec.ValidationError as error:
        raise InvalidArgument(
            f"config.json does not follow the OCI runtime specification: {error}"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"config.json is not JSON: {error}") from None


def encode(spec: Spec) -> bytes:
    """Indented JSON, defaults left out."""
    return msgspec.json.format(msgspec.json.encode(spec), indent=2)


def unwanted(holder: msgspec.Struct | None, names: tuple[str, ...]) -> list[str]:
    """Which of these properties (Python names) were given, by their names in JSON."""
    if holder is None:
        return []
    # Not ``msgspec.structs.fields``: that evaluates every annotation anew, 3 ms for each container.
    encoded = dict(zip(holder.__struct_fields__, holder.__struct_encode_fields__, strict=True))
    return [encoded[name] for name in names if name in encoded and getattr(holder, name)]
