"""The daemon's options: command line and ``daemon.json``, with Docker's names where Docker has them."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os.path
from collections.abc import Sequence
from typing import Any, NamedTuple

from cloche import __version__
from cloche.engine.settings import Settings
from cloche.errors import InvalidArgument

CONFIG_FILE = "/etc/cloche/daemon.json"
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
_MAX_NAME = 8
"""A link's name has 15 bytes at most: the engine's name and seven hex digits."""

_KINDS: dict[str, type] = {
    "bip": str,
    "data-root": str,
    "debug": bool,
    "exec-root": str,
    "hosts": list,
    "labels": list,
    "log-driver": str,
    "log-level": str,
    "log-opts": dict,
    "name": str,
}
"""The directives of the file, each also a flag (of the same name in the singular)."""


class Options(NamedTuple):
    """What the daemon is told: ``settings`` for the engine, the rest for itself."""

    settings: Settings
    hosts: tuple[str, ...]
    """Paths of unix sockets."""
    log_level: str


def parse(arguments: Sequence[str]) -> Options:
    """InvalidArgument with Docker's wording for unknown and doubled directives; exits on ``--help`` and bad
    flags."""
    given = vars(_parser().parse_args(arguments))
    path = given.pop("config-file")
    flags = {name: value for name, value in given.items() if value is not None}
    directives = _read(path or CONFIG_FILE, required=path is not None)
    doubled = sorted(flags.keys() & directives.keys())
    if doubled:
        listed = ", ".join(
            f"{n}: (from flag: {_show(flags[n])}, from file: {_show(directives[n])})" for n in doubled
        )
        raise InvalidArgument(
            f"unable to configure the daemon with file {path or CONFIG_FILE}: the following directives are "
            "specified "
            f"both as a flag and in the configuration file: {listed}"
        )
    return _options({**directives, **flags})


def _show(value: Any) -> str:
    return f"[{' '.join(value)}]" if isinstance(value, list) else str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cloched", description="The Cloche daemon.", allow_abbrev=False)
    add = parser.add_argument
    add("--root", "--data-root", dest="data-root", metavar="DIR", help="persistent state (/var/lib/cloche)")
    add("--run-dir", "--exec-root", dest="exec-root", metavar="DIR", help="state until reboot (/run/cloche)")
    add(
        "-H", "--host", dest="hosts", action="append", metavar="unix://PATH",
        help="socket to listen on, repeatable (RUN-DIR/cloche.sock)",
    )  # fmt: skip
    add("--name", metavar="NAME", help="prefix of links, cgroups and tables (cloche)")
    add("--bip", metavar="CIDR", help="address and prefix of the bridge (a free one)")
    add("-l", "--log-level", dest="log-level", choices=LOG_LEVELS, help="of the daemon's own log (info)")
    add("-D", "--debug", action="store_const", const=True, help="the same as --log-level debug")
    add("--label", dest="labels", action="append", metavar="KEY=VALUE", help="of the daemon, repeatable")
    add(
        "--log-driver",
        dest="log-driver",
        metavar="DRIVER",
        help="default for containers; json-file is the only one",
    )
    add(
        "--log-opt", dest="log-opts", action="append", metavar="KEY=VALUE",
        help="default for containers: max-size, max-file, compress; repeatable",
    )  # fmt: skip
    add(
        "--config-file",
        dest="config-file",
        metavar="FILE",
        help=f"JSON with the same options ({CONFIG_FILE})",
    )
    add("-v", "--version", action="version", version=f"Cloche version {__version__}")
    return parser


def _read(path: str, required: bool) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            directives = json.load(file)
    except FileNotFoundError:
        if required:
            raise InvalidArgument(
                f"unable to configure the daemon with file {path}: there is no such file"
            ) from None
        return {}
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"unable to configure the daemon with file {path}: {error}") from None
    if not isinstance(directives, dict):
        raise InvalidArgument(f"unable to configure the daemon with file {path}: it is no JSON object")
    unknown = sorted(directives.keys() - _KINDS.keys())
    if unknown:
        raise InvalidArgument(
            f"unable to configure the daemon with file {path}: the following directives don't match any "
            "configuration "
            f"option: {', '.join(unknown)}"
        )
    for name, value in directives.items():
        _check(path, name, value)
    return directives


def _check(path: str, name: str, value: Any) -> None:
    kind = _KINDS[name]
    items = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    if not isinstance(value, kind) or not all(isinstance(item, str) for item in items):
        wanted = {
            str: "a string",
            bool: "true or false",
            list: "a list of strings",
            dict: "an object of strings",
        }
        raise InvalidArgument(
            f"unable to configure the daemon with file {path}: {name} must be {wanted[kind]}"
        )


def _options(values: dict[str, Any]) -> Options:
    run_dir = _absolute("exec-root", values.get("exec-root", "/run/cloche"))
    hosts = values.get("hosts") or [f"unix://{run_dir}/cloche.sock"]
    if values.get("log-driver", "json-file") != "json-file":
        raise InvalidArgument(
            f"log-driver: {values['log-driver']!r}: json-file is the only default there is"
        )
    level = values.get("log-level", "info")
    if level not in LOG_LEVELS:
        raise InvalidArgument(f"log-level: {level!r}: use one of {', '.join(LOG_LEVELS)}")
    settings = Settings(
        root=_absolute("data-root", values.get("data-root", "/var/lib/cloche")),
        run_dir=run_dir,
        name=_name(values.get("name", "cloche")),
        bridge_subnet=_subnet(values.get("bip", "")),
        labels=tuple(values.get("labels", ())),
        log_options=_log_options(values.get("log-opts", {})),
    )
    return Options(
        settings, tuple(_socket(host) for host in hosts), "debug" if values.get("debug") else level
    )


def _absolute(name: str, path: str) -> str:
    if not path:
        raise InvalidArgument(f"{name}: empty path")
    return os.path.abspath(path)


def _name(name: str) -> str:
    plain = name.replace("-", "").isalnum() and name.isascii() and name[0] != "-"
    if not plain or len(name) > _MAX_NAME:
        raise InvalidArgument(
            f"name: {name!r}: use at most {_MAX_NAME} letters, digits and dashes: links are named after it"
        )
    return name


def _subnet(bip: str) -> str:
    if bip:
        try:
            interface = ipaddress.IPv4Interface(bip)
        except ValueError as error:
            raise InvalidArgument(
                f"bip: {bip!r} is not an address with its prefix, such as 172.30.0.1/16: {error}"
            ) from None
        if interface.network.prefixlen > 30 or interface.ip == interface.network.network_address:
            raise InvalidArgument(
                f"bip: {bip!r} is not a host's address in a network with room for containers"
            )
    return bip


def _log_options(given: dict[str, str] | list[str]) -> dict[str, str]:
    options = given if isinstance(given, dict) else dict(entry.partition("=")[::2] for entry in given)
    for name in options:
        if name not in ("max-size", "max-file", "compress"):
            raise InvalidArgument(f"unknown log opt '{name}' for json-file log driver")
    return options


def _socket(host: str) -> str:
    scheme, separator, path = host.partition("://")
    if not separator:
        raise InvalidArgument(f"host: {host!r} is not of the form unix://PATH")
    if scheme != "unix":
        raise InvalidArgument(f"host: {host!r}: Cloche listens on unix sockets only so far (unix://PATH)")
    if not path.startswith("/"):
        raise InvalidArgument(f"host: {host!r}: the socket's path must be absolute")
    return path
