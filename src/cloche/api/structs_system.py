"""``version``, ``info``, ``events`` and ``system df``."""

from __future__ import annotations

from typing import Any

import msgspec

from cloche.api.structs_container import Summary as ContainerSummary
from cloche.api.structs_image import Summary as ImageSummary


class Platform(msgspec.Struct, frozen=True):
    Name: str


class Component(msgspec.Struct, frozen=True):
    Name: str
    Version: str
    Details: dict[str, str]


class Version(msgspec.Struct, frozen=True, kw_only=True):
    Platform: Platform
    Components: tuple[Component, ...]
    Version: str
    ApiVersion: str
    MinAPIVersion: str
    GitCommit: str = ""
    GoVersion: str = ""
    Os: str
    Arch: str
    KernelVersion: str
    BuildTime: str = ""


class Runtime(msgspec.Struct, frozen=True):
    path: str


class Commit(msgspec.Struct, frozen=True):
    ID: str = ""


class Plugins(msgspec.Struct, frozen=True):
    Volume: tuple[str, ...] = ()
    Network: tuple[str, ...] = ("bridge", "host", "null")
    Authorization: None = None
    Log: tuple[str, ...] = ("json-file", "none")


class Swarm(msgspec.Struct, frozen=True):
    NodeID: str = ""
    NodeAddr: str = ""
    LocalNodeState: str = "inactive"
    ControlAvailable: bool = False
    Error: str = ""
    RemoteManagers: None = None


class RegistryConfig(msgspec.Struct, frozen=True):
    InsecureRegistryCIDRs: tuple[str, ...] = ()
    IndexConfigs: dict[str, Any] = {}
    Mirrors: tuple[str, ...] = ()


class Info(msgspec.Struct, frozen=True, kw_only=True):
    ID: str
    Containers: int
    ContainersRunning: int
    ContainersPaused: int = 0
    ContainersStopped: int
    Images: int
    Driver: str
    DriverStatus: tuple[tuple[str, str], ...]
    Plugins: Plugins = Plugins()
    MemoryLimit: bool
    SwapLimit: bool
    CpuCfsPeriod: bool
    CpuCfsQuota: bool
    CPUShares: bool
    CPUSet: bool
    PidsLimit: bool
    OomKillDisable: bool
    IPv4Forwarding: bool
    Debug: bool
    NFd: int
    NGoroutines: int
    SystemTime: str
    LoggingDriver: str = "json-file"
    CgroupDriver: str
    CgroupVersion: str
    NEventsListener: int = 0
    KernelVersion: str
    OperatingSystem: str
    OSVersion: str
    OSType: str = "linux"
    Architecture: str
    IndexServerAddress: str = "https://index.docker.io/v1/"
    RegistryConfig: RegistryConfig = RegistryConfig()
    NCPU: int
    MemTotal: int
    GenericResources: None = None
    DockerRootDir: str
    HttpProxy: str = ""
    HttpsProxy: str = ""
    NoProxy: str = ""
    Name: str
    Labels: tuple[str, ...]
    ExperimentalBuild: bool = False
    ServerVersion: str
    Runtimes: dict[str, Runtime]
    DefaultRuntime: str = "cloche"
    Swarm: Swarm = Swarm()
    LiveRestoreEnabled: bool = True
    Isolation: str = ""
    InitBinary: str = "cloche"
    ContainerdCommit: Commit = Commit()
    RuncCommit: Commit = Commit()
    InitCommit: Commit = Commit()
    SecurityOptions: tuple[str, ...]
    Warnings: tuple[str, ...]
    CDISpecDirs: tuple[str, ...] = ()


class Actor(msgspec.Struct, frozen=True):
    ID: str
    Attributes: dict[str, str]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``status``, ``id`` and ``from`` are the names of before API 1.22; scripts still read them."""

    status: str = ""
    id: str = ""
    from_: str = msgspec.field(default="", name="from")
    Type: str
    Action: str
    Actor: Actor
    scope: str
    time: int
    timeNano: int


class DiskUsage(msgspec.Struct, frozen=True, kw_only=True):
    LayersSize: int
    Images: list[ImageSummary]
    Containers: list[ContainerSummary]
    Volumes: tuple[()] = ()
    BuildCache: tuple[()] = ()
