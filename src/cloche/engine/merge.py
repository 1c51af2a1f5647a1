"""What the user asked for, completed by what the image says."""

from __future__ import annotations

import msgspec

from cloche.engine.records import ContainerConfig
from cloche.errors import InvalidArgument
from cloche.images.model import ImageRuntimeConfig


class Merged(msgspec.Struct, frozen=True):
    """The fields of a container that come from both."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: tuple[str, ...]
    working_dir: str
    user: str
    stop_signal: str
    labels: dict[str, str]


def merge(config: ContainerConfig, image: ImageRuntimeConfig | None) -> Merged:
    """By Docker's rules: a user's entrypoint also puts the image's command aside; an entrypoint of one
    empty word is none. Raises ``InvalidArgument`` where there is nothing to run."""
    image = image or ImageRuntimeConfig()
    entrypoint, command = config.entrypoint, config.command
    if not entrypoint:
        command = command or tuple(image.Cmd or ())
        if entrypoint is None:
            entrypoint = tuple(image.Entrypoint or ())
    if entrypoint == ("",):
        entrypoint = ()
    command = command or ()
    if not entrypoint and not command:
        raise InvalidArgument("no command specified")
    return Merged(
        entrypoint,
        command,
        environment(config.environment, tuple(image.Env or ())),
        config.working_dir or image.WorkingDir,
        config.user or image.User,
        config.stop_signal or image.StopSignal,
        {**(image.Labels or {}), **config.labels},
    )


def environment(given: tuple[str, ...], image: tuple[str, ...]) -> tuple[str, ...]:
    """The user's variables, then the image's that the user has not set. ``NAME`` without a value takes a
    variable away."""
    names = {variable.partition("=")[0] for variable in given}
    return given + tuple(variable for variable in image if variable.partition("=")[0] not in names)
