"""The shapes of images: OCI image-spec and Docker's older twins, as stored (names are the formats' own).

The canonical stored form is OCI/Docker: an image *is* its config blob; its id is the digest of that blob.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """image-spec descriptor.md."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}
    platform: dict[str, Any] | None = None


class ImageRuntimeConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """``config`` of an image config (image-spec config.md, plus Docker's own fields)."""

    User: str = ""
    ExposedPorts: dict[str, dict[str, Any]] | None = None
    Env: list[str] | None = None
    Entrypoint: list[str] | None = None
    Cmd: list[str] | None = None
    Volumes: dict[str, dict[str, Any]] | None = None
    WorkingDir: str = ""
    Labels: dict[str, str] | None = None
    StopSignal: str = ""
    Healthcheck: dict[str, Any] | None = None
    ArgsEscaped: bool = False
    OnBuild: list[str] | None = None
    Shell: list[str] | None = None


class History(msgspec.Struct, frozen=True, omit_defaults=True):
    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class RootFS(msgspec.Struct, frozen=True):
    type: str
    diff_ids: list[str]


class ImageConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """The config blob. Unknown fields of a loaded image are kept, since the blob itself is kept byte for
    byte."""

    architecture: str
    os: str
    rootfs: RootFS
    config: ImageRuntimeConfig | None = None
    created: str | None = None
    author: str = ""
    history: list[History] = []
    variant: str = ""


class Image(msgspec.Struct, frozen=True):
    """One image as the engine knows it."""

    id: str
    """``sha256:...`` of the config blob."""
    config: ImageConfig
    tags: tuple[str, ...]
    """Normalised references with tag, e.g. ``docker.io/library/busybox:latest``."""
    digests: tuple[str, ...]
    chain_id: str | None
    """Key of the top layer's committed snapshot; ``None`` for an image without layers."""
    size: int
    """Bytes of all layers, unpacked."""
    created_at: int
    """Nanoseconds since the epoch."""
    last_tagged_at: int
