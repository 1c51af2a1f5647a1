"""A container as ``inspect`` and ``ps`` show it. Every field that clients read is there, also where it never
varies."""

from __future__ import annotations

from typing import Any

import msgspec


class State(msgspec.Struct, frozen=True):
    Status: str
    Running: bool
    Paused: bool
    Restarting: bool
    OOMKilled: bool
    Dead: bool
    Pid: int
    ExitCode: int
    Error: str
    StartedAt: str
    FinishedAt: str


class LogConfig(msgspec.Struct, frozen=True):
    Type: str
    Config: dict[str, str]


class RestartPolicy(msgspec.Struct, frozen=True):
    Name: str
    MaximumRetryCount: int = 0


class Device(msgspec.Struct, frozen=True):
    PathOnHost: str
    PathInContainer: str
    CgroupPermissions: str


class Ulimit(msgspec.Struct, frozen=True):
    Name: str
    Hard: int
    Soft: int


class HostConfig(msgspec.Struct, frozen=True, kw_only=True):
    Binds: tuple[str, ...] | None
    ContainerIDFile: str = ""
    LogConfig: LogConfig
    NetworkMode: str
    PortBindings: dict[str, Any] = {}
    RestartPolicy: RestartPolicy
    AutoRemove: bool
    VolumeDriver: str = ""
    VolumesFrom: None = None
    ConsoleSize: tuple[int, int]
    CapAdd: tuple[str, ...] | None
    CapDrop: tuple[str, ...] | None
    CgroupnsMode: str
    Dns: tuple[str, ...]
    DnsOptions: tuple[str, ...]
    DnsSearch: tuple[str, ...]
    ExtraHosts: tuple[str, ...] | None
    GroupAdd: tuple[str, ...] | None
    IpcMode: str
    Cgroup: str = ""
    Links: None = None
    OomScoreAdj: int
    PidMode: str
    Privileged: bool
    PublishAllPorts: bool = False
    ReadonlyRootfs: bool
    SecurityOpt: tuple[str, ...] | None
    Tmpfs: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    UTSMode: str
    UsernsMode: str = ""
    ShmSize: int
    Sysctls: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    Runtime: str = "cloche"
    Isolation: str = ""
    CpuShares: int
    Memory: int
    NanoCpus: int
    CgroupParent: str
    BlkioWeight: int
    BlkioWeightDevice: tuple[()] = ()
    BlkioDeviceReadBps: tuple[()] = ()
    BlkioDeviceWriteBps: tuple[()] = ()
    BlkioDeviceReadIOps: tuple[()] = ()
    BlkioDeviceWriteIOps: tuple[()] = ()
    CpuPeriod: int
    CpuQuota: int
    CpuRealtimePeriod: int = 0
    CpuRealtimeRuntime: int = 0
    CpusetCpus: str
    CpusetMems: str
    Devices: tuple[Device, ...]
    DeviceCgroupRules: None = None
    DeviceRequests: None = None
    MemoryReservation: int
    MemorySwap: int
    MemorySwappiness: int | None
    OomKillDisable: bool
    Init: bool | msgspec.UnsetType = msgspec.UNSET
    PidsLimit: int | None
    Ulimits: tuple[Ulimit, ...]
    CpuCount: int = 0
    CpuPercent: int = 0
    IOMaximumIOps: int = 0
    IOMaximumBandwidth: int = 0
    MaskedPaths: tuple[str, ...] | None
    ReadonlyPaths: tuple[str, ...] | None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    Hostname: str
    Domainname: str
    User: str
    AttachStdin: bool
    AttachStdout: bool
    AttachStderr: bool
    ExposedPorts: dict[str, dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    Tty: bool
    OpenStdin: bool
    StdinOnce: bool
    Env: tuple[str, ...]
    Cmd: tuple[str, ...] | None
    Image: str
    Volumes: None = None
    WorkingDir: str
    Entrypoint: tuple[str, ...] | None
    OnBuild: None = None
    Labels: dict[str, str]
    StopSignal: str | msgspec.UnsetType = msgspec.UNSET
    StopTimeout: int | msgspec.UnsetType = msgspec.UNSET


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    IPAMConfig: None = None
    Links: None = None
    Aliases: None = None
    MacAddress: str = ""
    DriverOpts: None = None
    GwPriority: int = 0
    NetworkID: str = ""
    EndpointID: str = ""
    Gateway: str = ""
    IPAddress: str = ""
    IPPrefixLen: int = 0
    IPv6Gateway: str = ""
    GlobalIPv6Address: str = ""
    GlobalIPv6PrefixLen: int = 0
    DNSNames: None = None


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True):
    Bridge: str = ""
    SandboxID: str = ""
    SandboxKey: str = ""
    Ports: dict[str, Any] = {}
    HairpinMode: bool = False
    LinkLocalIPv6Address: str = ""
    LinkLocalIPv6PrefixLen: int = 0
    SecondaryIPAddresses: None = None
    SecondaryIPv6Addresses: None = None
    EndpointID: str = ""
    Gateway: str = ""
    GlobalIPv6Address: str = ""
    GlobalIPv6PrefixLen: int = 0
    IPAddress: str = ""
    IPPrefixLen: int = 0
    IPv6Gateway: str = ""
    MacAddress: str = ""
    Networks: dict[str, Endpoint]


class GraphDriver(msgspec.Struct, frozen=True):
    Name: str
    Data: dict[str, str] | None = None


class MountPoint(msgspec.Struct, frozen=True):
    Type: str
    Source: str
    Destination: str
    Mode: str
    RW: bool
    Propagation: str


class Inspect(msgspec.Struct, frozen=True, kw_only=True):
    Id: str
    Created: str
    Path: str
    Args: tuple[str, ...]
    State: State
    Image: str
    ResolvConfPath: str
    HostnamePath: str
    HostsPath: str
    LogPath: str
    Name: str
    RestartCount: int = 0
    Driver: str
    Platform: str = "linux"
    MountLabel: str = ""
    ProcessLabel: str = ""
    AppArmorProfile: str = ""
    ExecIDs: None = None
    HostConfig: HostConfig
    GraphDriver: GraphDriver
    SizeRw: int | msgspec.UnsetType = msgspec.UNSET
    SizeRootFs: int | msgspec.UnsetType = msgspec.UNSET
    Mounts: tuple[MountPoint, ...]
    Config: Config
    NetworkSettings: NetworkSettings


class SummaryHostConfig(msgspec.Struct, frozen=True):
    NetworkMode: str


class SummaryNetworks(msgspec.Struct, frozen=True):
    Networks: dict[str, Endpoint]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    Id: str
    Names: tuple[str, ...]
    Image: str
    ImageID: str
    Command: str
    Created: int
    Ports: tuple[dict[str, Any], ...] = ()
    SizeRw: int | msgspec.UnsetType = msgspec.UNSET
    SizeRootFs: int | msgspec.UnsetType = msgspec.UNSET
    Labels: dict[str, str]
    State: str
    Status: str
    HostConfig: SummaryHostConfig
    NetworkSettings: SummaryNetworks
    Mounts: tuple[MountPoint, ...]


class Created(msgspec.Struct, frozen=True):
    Id: str
    Warnings: list[str]


class WaitError(msgspec.Struct, frozen=True):
    Message: str


class Waited(msgspec.Struct, frozen=True, omit_defaults=True):
    StatusCode: int
    Error: WaitError | None = None


class Top(msgspec.Struct, frozen=True):
    Titles: list[str]
    Processes: list[list[str]]
