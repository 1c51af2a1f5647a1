"""``Image`` to Docker's JSON."""

from __future__ import annotations

import msgspec

from cloche.api import structs_image as s
from cloche.api.structs_container import GraphDriver
from cloche.api.times import NEVER, rfc3339
from cloche.images.model import Image, ImageRuntimeConfig
from cloche.images.reference import familiar


def inspect(image: Image, driver: str) -> s.Inspect:
    """``GET /images/{name}/json``."""
    config = image.config
    return s.Inspect(
        Id=image.id,
        RepoTags=[familiar(tag) for tag in image.tags],
        RepoDigests=[familiar(digest) for digest in image.digests],
        Comment=config.history[-1].comment if config.history else "",
        Created=config.created or NEVER,
        Author=config.author,
        Config=_config(config.config or ImageRuntimeConfig()),
        Architecture=config.architecture,
        Variant=config.variant or msgspec.UNSET,
        Os=config.os,
        Size=image.size,
        VirtualSize=image.size,
        GraphDriver=GraphDriver(driver, {}),
        RootFS=s.RootFS(config.rootfs.type, config.rootfs.diff_ids),
        Metadata=s.Metadata(rfc3339(image.last_tagged_at)),
    )


def _config(config: ImageRuntimeConfig) -> s.Config:
    return s.Config(
        User=config.User,
        ExposedPorts=config.ExposedPorts or msgspec.UNSET,
        Env=config.Env,
        Entrypoint=config.Entrypoint,
        Cmd=config.Cmd,
        Volumes=config.Volumes,
        WorkingDir=config.WorkingDir,
        Labels=config.Labels,
        StopSignal=config.StopSignal or msgspec.UNSET,
        Healthcheck=config.Healthcheck or msgspec.UNSET,
        ArgsEscaped=config.ArgsEscaped or msgspec.UNSET,
        OnBuild=config.OnBuild,
        Shell=config.Shell or msgspec.UNSET,
    )


def summary(image: Image, containers: int = -1) -> s.Summary:
    """A row of ``GET /images/json``. ``containers`` is -1 where nobody asked for the count."""
    return s.Summary(
        Id=image.id,
        RepoTags=[familiar(tag) for tag in image.tags],
        RepoDigests=[familiar(digest) for digest in image.digests],
        Created=image.created_at // 1_000_000_000,
        Size=image.size,
        VirtualSize=image.size,
        Labels=image.config.config.Labels if image.config.config else None,
        Containers=containers,
    )
