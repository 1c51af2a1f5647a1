"""Creating a container: name, snapshot, directory, row; each undone when a later one fails."""

from __future__ import annotations

import os
import time

from msgspec.structs import replace

from cloche.engine import merge, validation
from cloche.engine.context import Context
from cloche.engine.records import Container, ContainerConfig, LogSettings
from cloche.errors import InvalidArgument, NotFound, Unavailable
from cloche.images.model import Image

DEFAULT_STOP_SIGNAL = "SIGTERM"


async def create(context: Context, config: ContainerConfig, name: str | None) -> tuple[Container, list[str]]:
    """The new container, durable, and warnings. See ``Containers.create``."""
    image = context.images.get(config.image)
    warnings = validation.check(config, context.layout)
    container = describe(context, config, image)
    context.filters.get(config)
    # A start will follow: what the kernel is slow at begins while the row is made durable.
    context.background(context.launcher.warm(), "warming the launcher")
    reserved = context.registry.reserve(name, container.id)
    try:
        container = replace(container, name=reserved)
        await _make(context, container, image)
    except BaseException:
        context.registry.free(reserved)
        raise
    context.events.container("create", container)
    return container, warnings


def describe(context: Context, config: ContainerConfig, image: Image) -> Container:
    """The record of a container that is to be, without a name; nothing is made. Raises
    ``InvalidArgument``."""
    merged = merge.merge(config, image.config.config)
    id = context.registry.new_id()
    if config.log.driver == "json-file":
        options = {**context.settings.log_options, **config.log.options}
        config = replace(config, log=LogSettings("json-file", options))
    config = replace(
        config,
        network_mode=_by_id(context, "network", config.network_mode),
        pid_mode=_by_id(context, "PID", config.pid_mode),
    )
    container = Container(
        id=id,
        name="",
        created_at=time.time_ns(),
        image_id=image.id,
        config=config,
        entrypoint=merged.entrypoint,
        command=merged.command,
        environment=merged.environment,
        working_dir=merged.working_dir,
        user=merged.user,
        stop_signal=merged.stop_signal or DEFAULT_STOP_SIGNAL,
        labels=merged.labels,
        hostname=_hostname(context, config, id),
        driver=context.snapshots.name,
    )
    validation.check_strings(container)
    return container


def _by_id(context: Context, what: str, mode: str) -> str:
    """``container:NAME`` with the other container's id, which it keeps through a renaming. Not NotFound:
    on that the docker command goes and looks for the image."""
    kind, _, ref = mode.partition(":")
    if kind != "container":
        return mode
    try:
        return f"container:{context.registry.get(ref).id}"
    except NotFound as error:
        raise InvalidArgument(f"cannot share another container's {what} namespace: {error}") from None


def _hostname(context: Context, config: ContainerConfig, id: str) -> str:
    """The given one; the host's or another container's where their network or UTS namespace is shared."""
    if config.hostname:
        return config.hostname
    if config.network_mode == "host" or config.uts_mode == "host":
        return os.uname().nodename
    if config.network_mode.startswith("container:"):
        try:
            return context.registry.get(config.network_mode.partition(":")[2]).hostname
        except NotFound as error:
            # The docker command takes NotFound for a missing image, and pulls.
            raise InvalidArgument(str(error)) from None
    return id[:12]


async def _make(context: Context, container: Container, image: Image) -> None:
    directory = context.paths.container(container.id)
    try:
        context.snapshots.prepare(container.id, image.chain_id)
        os.mkdir(directory, 0o710)
        await context.registry.store(container)
    except OSError as error:
        _undo(context, container)
        raise Unavailable(f"container {container.name} cannot be created: {error}") from error
    except BaseException:
        _undo(context, container)
        raise


def _undo(context: Context, container: Container) -> None:
    context.snapshots.remove(container.id)
    context.trash.discard(context.paths.container(container.id))
    context.trash.collect_soon()
