"""Images as ``docker images``, ``image inspect`` and ``history`` show them."""

from __future__ import annotations

from typing import Any

import msgspec

from cloche.api.structs_container import GraphDriver


class Config(msgspec.Struct, frozen=True, kw_only=True):
    User: str = ""
    ExposedPorts: dict[str, dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    Env: list[str] | None = None
    Entrypoint: list[str] | None = None
    Cmd: list[str] | None = None
    Volumes: dict[str, dict[str, Any]] | None = None
    WorkingDir: str = ""
    Labels: dict[str, str] | None = None
    StopSignal: str | msgspec.UnsetType = msgspec.UNSET
    Healthcheck: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    ArgsEscaped: bool | msgspec.UnsetType = msgspec.UNSET
    OnBuild: list[str] | None = None
    Shell: list[str] | msgspec.UnsetType = msgspec.UNSET


class RootFS(msgspec.Struct, frozen=True):
    Type: str
    Layers: list[str]


class Metadata(msgspec.Struct, frozen=True):
    LastTagTime: str


class Inspect(msgspec.Struct, frozen=True, kw_only=True):
    Id: str
    RepoTags: list[str]
    RepoDigests: list[str]
    Parent: str = ""
    Comment: str
    Created: str
    DockerVersion: str = ""
    Author: str
    Config: Config
    Architecture: str
    Variant: str | msgspec.UnsetType = msgspec.UNSET
    Os: str
    Size: int
    VirtualSize: int
    GraphDriver: GraphDriver
    RootFS: RootFS
    Metadata: Metadata


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    Id: str
    ParentId: str = ""
    RepoTags: list[str]
    RepoDigests: list[str]
    Created: int
    Size: int
    VirtualSize: int
    SharedSize: int = -1
    Labels: dict[str, str] | None
    Containers: int = -1


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the JSON stream of load, import and pull."""

    stream: str = ""
    status: str = ""
    id: str = ""


class ErrorDetail(msgspec.Struct, frozen=True):
    message: str


class StreamError(msgspec.Struct, frozen=True):
    """How a stream whose head is already sent tells of a failure."""

    errorDetail: ErrorDetail
    error: str
