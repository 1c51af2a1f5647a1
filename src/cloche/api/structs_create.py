"""The body of ``POST /containers/create``. Go clients send ``null`` for anything unset, hence the many
``None``."""

from __future__ import annotations

from typing import Any

import msgspec


class UlimitRequest(msgspec.Struct, frozen=True):
    Name: str
    Soft: int = 0
    Hard: int = 0


class DeviceRequest(msgspec.Struct, frozen=True):
    PathOnHost: str
    PathInContainer: str | None = None
    CgroupPermissions: str | None = None


class LogConfigRequest(msgspec.Struct, frozen=True):
    Type: str | None = None
    Config: dict[str, str] | None = None


class BindOptions(msgspec.Struct, frozen=True):
    Propagation: str | None = None
    NonRecursive: bool | None = None
    CreateMountpoint: bool | None = None


class TmpfsOptions(msgspec.Struct, frozen=True):
    SizeBytes: int | None = None
    Mode: int | None = None
    Options: list[list[str]] | None = None


class MountRequest(msgspec.Struct, frozen=True):
    Target: str
    Type: str = "volume"
    Source: str | None = None
    ReadOnly: bool | None = None
    BindOptions: BindOptions | None = None
    TmpfsOptions: TmpfsOptions | None = None


class RestartPolicyRequest(msgspec.Struct, frozen=True):
    Name: str | None = None
    MaximumRetryCount: int | None = None


class HostConfigRequest(msgspec.Struct, frozen=True):
    """The fields that mean something here; ``parse_create.UNSUPPORTED`` names those that do not yet."""

    AutoRemove: bool | None = None
    Binds: list[str] | None = None
    BlkioWeight: int | None = None
    CapAdd: list[str] | None = None
    CapDrop: list[str] | None = None
    CgroupParent: str | None = None
    CgroupnsMode: str | None = None
    ConsoleSize: tuple[int, int] | None = None
    CpuPeriod: int | None = None
    CpuQuota: int | None = None
    CpuShares: int | None = None
    CpusetCpus: str | None = None
    CpusetMems: str | None = None
    Devices: list[DeviceRequest] | None = None
    Dns: list[str] | None = None
    DnsOptions: list[str] | None = None
    DnsSearch: list[str] | None = None
    ExtraHosts: list[str] | None = None
    GroupAdd: list[str] | None = None
    Init: bool | None = None
    IpcMode: str | None = None
    LogConfig: LogConfigRequest | None = None
    MaskedPaths: list[str] | None = None
    Memory: int | None = None
    MemoryReservation: int | None = None
    MemorySwap: int | None = None
    MemorySwappiness: int | None = None
    Mounts: list[MountRequest] | None = None
    NanoCpus: int | None = None
    NetworkMode: str | None = None
    OomKillDisable: bool | None = None
    OomScoreAdj: int | None = None
    PidMode: str | None = None
    PidsLimit: int | None = None
    Privileged: bool | None = None
    ReadonlyPaths: list[str] | None = None
    ReadonlyRootfs: bool | None = None
    RestartPolicy: RestartPolicyRequest | None = None
    SecurityOpt: list[str] | None = None
    ShmSize: int | None = None
    Sysctls: dict[str, str] | None = None
    Tmpfs: dict[str, str] | None = None
    UTSMode: str | None = None
    Ulimits: list[UlimitRequest] | None = None


class NetworkingRequest(msgspec.Struct, frozen=True):
    EndpointsConfig: dict[str, dict[str, Any] | None] | None = None


class CreateRequest(msgspec.Struct, frozen=True):
    Image: str | None = None
    AttachStderr: bool | None = None
    AttachStdin: bool | None = None
    AttachStdout: bool | None = None
    Cmd: list[str] | str | None = None
    Domainname: str | None = None
    Entrypoint: list[str] | str | None = None
    Env: list[str] | None = None
    ExposedPorts: dict[str, Any] | None = None
    Healthcheck: dict[str, Any] | None = None
    HostConfig: msgspec.Raw = msgspec.Raw(b"{}")
    Hostname: str | None = None
    Labels: dict[str, str] | None = None
    MacAddress: str | None = None
    NetworkDisabled: bool | None = None
    NetworkingConfig: NetworkingRequest | None = None
    OpenStdin: bool | None = None
    StdinOnce: bool | None = None
    StopSignal: str | None = None
    StopTimeout: int | None = None
    Tty: bool | None = None
    User: str | None = None
    Volumes: dict[str, Any] | None = None
    WorkingDir: str | None = None
