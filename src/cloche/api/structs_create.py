"""The body of ``POST /containers/create``. Go clients send ``null`` for anything unset, hence the many
``None``."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class UlimitRequest(msgspec.Struct, frozen=True):
    Name: str
    Soft: Int64 = 0
    Hard: Int64 = 0


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
    SizeBytes: Int64 | None = None
    Mode: Int64 | None = None
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
    MaximumRetryCount: Int64 | None = None


class HostConfigRequest(msgspec.Struct, frozen=True):
    """The fields that mean something here; ``parse_create.UNSUPPORTED`` names those that do not yet."""

    AutoRemove: bool | None = None
    Binds: list[str] | None = None
    BlkioWeight: Int64 | None = None
    CapAdd: list[str] | None = None
    CapDrop: list[str] | None = None
    CgroupParent: str | None = None
    CgroupnsMode: str | None = None
    ConsoleSize: tuple[Int64, Int64] | None = None
    CpuPeriod: Int64 | None = None
    CpuQuota: Int64 | None = None
    CpuShares: Int64 | None = None
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
    Memory: Int64 | None = None
    MemoryReservation: Int64 | None = None
    MemorySwap: Int64 | None = None
    MemorySwappiness: Int64 | None = None
    Mounts: list[MountRequest] | None = None
    NanoCpus: Int64 | None = None
    NetworkMode: str | None = None
    OomKillDisable: bool | None = None
    OomScoreAdj: Int64 | None = None
    PidMode: str | None = None
    PidsLimit: Int64 | None = None
    Privileged: bool | None = None
    ReadonlyPaths: list[str] | None = None
    ReadonlyRootfs: bool | None = None
    RestartPolicy: RestartPolicyRequest | None = None
    SecurityOpt: list[str] | None = None
    ShmSize: Int64 | None = None
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
    StopTimeout: Int64 | None = None
    Tty: bool | None = None
    User: str | None = None
    Volumes: dict[str, Any] | None = None
    WorkingDir: str | None = None
