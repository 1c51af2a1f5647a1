"""The engine's nouns: frozen records, one shape each. A change is a new record in the place of the old one.

Only ``cloche.api`` knows Docker's JSON names for these fields.
"""

from __future__ import annotations

import msgspec

from cloche.plan.step import Trace


class Ulimit(msgspec.Struct, frozen=True):
    name: str
    """Without ``RLIMIT_``, lower case: ``nofile``."""
    soft: int
    hard: int


class Device(msgspec.Struct, frozen=True):
    host_path: str
    container_path: str
    access: str = "rwm"


class LogSettings(msgspec.Struct, frozen=True):
    driver: str = "json-file"
    options: dict[str, str] = {}
    """Docker's: ``max-size``, ``max-file``, ``compress``. Bounded by default: 64 MiB, 4 files,
    compressed."""


class ContainerConfig(msgspec.Struct, frozen=True):
    """What the user asked for, before the image's own config is merged in. ``None`` is "the image's"."""

    image: str
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    environment: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    hostname: str = ""
    domainname: str = ""
    terminal: bool = False
    console_size: tuple[int, int] = (0, 0)
    """Rows and columns at the start of the program; (0, 0) is not known yet."""
    open_stdin: bool = False
    stdin_once: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout: int | None = None
    exposed_ports: tuple[str, ...] = ()
    published_ports: tuple[str, ...] = ()
    """As the user wrote them, e.g. ``8080:80/tcp``; refused until they are built."""

    # The host's side.
    network_mode: str = "default"
    """``default``/``bridge``, ``none``, ``host``, ``container:ID``."""
    pid_mode: str = ""
    ipc_mode: str = ""
    uts_mode: str = ""
    cgroupns_mode: str = ""
    privileged: bool = False
    readonly_rootfs: bool = False
    init: bool = False
    auto_remove: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    """``no-new-privileges``, ``seccomp=unconfined|PROFILE_JSON``."""
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    tmpfs: dict[str, str] = {}
    """Target -> mount options."""
    binds: tuple[str, ...] = ()
    """``HOST:CONTAINER[:OPTIONS]`` with absolute host paths; named volumes have their own issue."""
    devices: tuple[Device, ...] = ()
    group_add: tuple[str, ...] = ()
    sysctls: dict[str, str] = {}
    ulimits: tuple[Ulimit, ...] = ()
    shm_size: int = 64 << 20
    oom_score_adj: int = 0
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    cgroup_parent: str = ""
    log: LogSettings = LogSettings()

    # Limits; 0 is none, as in Docker's API.
    memory: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    blkio_weight: int = 0

    restart_policy: str = "no"
    """Recorded and shown; anything but ``no`` is refused until restart policies are built."""


class ContainerState(msgspec.Struct, frozen=True):
    """``status``: ``created``, ``running``, ``removing``, ``exited``, ``dead``."""

    status: str = "created"
    pid: int = 0
    start_time: int = 0
    """Of the pid, from /proc/PID/stat."""
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: int = 0
    """Nanoseconds since the epoch; 0 is never."""
    finished_at: int = 0


class EndpointRecord(msgspec.Struct, frozen=True):
    """A container's address on the default bridge."""

    address: str
    prefix: int
    gateway: str
    mac: str
    host_link: str
    """Name of the veth's host end."""


class Container(msgspec.Struct, frozen=True):
    id: str
    """64 hex digits."""
    name: str
    """Without the leading slash."""
    created_at: int
    image_id: str
    config: ContainerConfig
    entrypoint: tuple[str, ...]
    """Merged with the image's, as are the six below."""
    command: tuple[str, ...]
    environment: tuple[str, ...]
    working_dir: str
    user: str
    stop_signal: str
    labels: dict[str, str]
    hostname: str
    driver: str
    """Name of the storage driver."""
    state: ContainerState = ContainerState()
    endpoint: EndpointRecord | None = None


class AttachRequest(msgspec.Struct, frozen=True):
    """A hijacked client connection: its descriptor belongs to the engine from the call on."""

    descriptor: int
    stdin: bool
    stdout: bool
    stderr: bool
    stream: bool
    """False with ``logs`` True: replay only."""
    logs: bool
    prefix: bytes
    """What the client had sent behind the request head."""
    detach_keys: str
    """Docker's syntax, ``ctrl-p,ctrl-q``; empty is the default."""


class LogLine(msgspec.Struct, frozen=True):
    stream: str
    time: str
    """RFC 3339 with nanoseconds, as in the log."""
    data: bytes


class Explanation(msgspec.Struct, frozen=True):
    """A plan and, where it ran, its times. ``text``/``shell``/``data`` are renderings of the same steps."""

    container: Container | None
    text: str
    shell: str
    data: msgspec.Raw
    """JSON for programs: sides, steps (name, fields, description, shell), times."""
    trace: Trace | None


class EngineInfo(msgspec.Struct, frozen=True):
    id: str
    root: str
    driver: str
    driver_status: tuple[tuple[str, str], ...]
    cgroup_driver: str
    cgroup_version: int
    memory_limit: bool
    swap_limit: bool
    pids_limit: bool
    cpu_quota: bool
    cpu_shares: bool
    cpuset: bool
    containers: int
    running: int
    stopped: int
    images: int
    ipv4_forwarding: bool
    security_options: tuple[str, ...]
    warnings: tuple[str, ...]


class Event(msgspec.Struct, frozen=True):
    """``kind`` is ``container``, ``image``, ``network``, ``volume`` or ``daemon``."""

    kind: str
    action: str
    actor_id: str
    attributes: dict[str, str]
    at: int
    """Nanoseconds since the epoch."""
