"""Dockerfile instructions that change an image's config: ``docker import --change`` (and ``commit
--change``)."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import msgspec

from cloche.errors import InvalidArgument
from cloche.images.model import ImageRuntimeConfig

SHELL = ["/bin/sh", "-c"]


def apply(config: ImageRuntimeConfig, changes: list[str]) -> ImageRuntimeConfig:
    """The config with all instructions applied in order. Raises ``InvalidArgument``."""
    for change in changes:
        keyword, _, rest = change.strip().partition(" ")
        instruction = _INSTRUCTIONS.get(keyword.upper())
        if instruction is None:
            known = ", ".join(sorted(_INSTRUCTIONS))
            raise InvalidArgument(f"{keyword!r} is not a valid change command; these are: {known}")
        rest = rest.strip()
        if not rest:
            raise InvalidArgument(f"{keyword.upper()} requires an argument")
        config = msgspec.structs.replace(config, **instruction(config, rest))
    return config


def _list(text: str) -> list[str] | None:
    """The JSON form of an instruction's argument; ``None`` for the shell form."""
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        return None


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidArgument(f"{text!r}: {error}") from None


def _command(field: str) -> Callable[[ImageRuntimeConfig, str], dict[str, Any]]:
    def instruction(config: ImageRuntimeConfig, text: str) -> dict[str, Any]:
        exact = _list(text)
        return {field: exact if exact is not None else [*(config.Shell or SHELL), text]}

    return instruction


def _pairs(text: str) -> list[tuple[str, str]]:
    """``KEY=VALUE ...`` with quotes, or the old ``KEY the rest``."""
    first, _, rest = text.partition(" ")
    if "=" not in first:
        if not rest.strip():
            raise InvalidArgument(f"{text!r}: KEY=VALUE is wanted")
        return [(first, rest.strip())]
    pairs = []
    for word in _words(text):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InvalidArgument(f"{word!r}: KEY=VALUE is wanted")
        pairs.append((key, value))
    return pairs


def _env(config: ImageRuntimeConfig, text: str) -> dict[str, Any]:
    variables = dict(entry.partition("=")[::2] for entry in config.Env or [])
    variables.update(_pairs(text))
    return {"Env": [f"{key}={value}" for key, value in variables.items()]}


def _label(config: ImageRuntimeConfig, text: str) -> dict[str, Any]:
    return {"Labels": {**(config.Labels or {}), **dict(_pairs(text))}}


def _expose(config: ImageRuntimeConfig, text: str) -> dict[str, Any]:
    ports = dict(config.ExposedPorts or {})
    for word in _words(text):
        numbers, _, protocol = word.partition("/")
        first, _, last = numbers.partition("-")
        if (
            not first.isdigit()
            or (last and not last.isdigit())
            or protocol not in ("", "tcp", "udp", "sctp")
        ):
            raise InvalidArgument(f"invalid port {word!r}: NUMBER[-NUMBER][/tcp|/udp|/sctp] is wanted")
        if not int(first) <= int(last or first) <= 65535:
            raise InvalidArgument(f"invalid port range {word!r}")
        for number in range(int(first), int(last or first) + 1):
            ports[f"{number}/{protocol or 'tcp'}"] = {}
    return {"ExposedPorts": ports}


def _volume(config: ImageRuntimeConfig, text: str) -> dict[str, Any]:
    paths = _list(text)
    return {
        "Volumes": {**(config.Volumes or {}), **{p: {} for p in (_words(text) if paths is None else paths)}}
    }


def _workdir(config: ImageRuntimeConfig, text: str) -> dict[str, Any]:
    return {"WorkingDir": text if text.startswith("/") else f"{config.WorkingDir or ''}/{text}"}


def _shell(config: ImageRuntimeConfig, text: str) -> dict[str, Any]:
    exact = _list(text)
    if not exact:
        raise InvalidArgument('SHELL requires the JSON form: ["program", "argument"]')
    return {"Shell": exact}


def _onbuild(config: ImageRuntimeConfig, text: str) -> dict[str, Any]:
    return {"OnBuild": [*(config.OnBuild or []), text]}


def _healthcheck(config: ImageRuntimeConfig, text: str) -> dict[str, Any]:
    if text.upper() == "NONE":
        return {"Healthcheck": {"Test": ["NONE"]}}
    keyword, _, rest = text.partition(" ")
    if keyword.upper() != "CMD" or not rest.strip():
        raise InvalidArgument("HEALTHCHECK wants NONE or CMD and a command; options are for a Dockerfile")
    exact = _list(rest.strip())
    return {"Healthcheck": {"Test": ["CMD-SHELL", rest.strip()] if exact is None else ["CMD", *exact]}}


_INSTRUCTIONS: dict[str, Callable[[ImageRuntimeConfig, str], dict[str, Any]]] = {
    "CMD": _command("Cmd"),
    "ENTRYPOINT": _command("Entrypoint"),
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": lambda config, text: {"StopSignal": text},
    "USER": lambda config, text: {"User": text},
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
