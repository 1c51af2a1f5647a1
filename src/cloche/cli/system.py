"""``version``, ``info`` and ``events``."""

from __future__ import annotations

import os
import sys

from cloche import __version__
from cloche.cli import tables, units
from cloche.cli.arguments import parse
from cloche.cli.client import query
from cloche.cli.errors import Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from cloche.cli.client import Client

    class Connect(Protocol):
        def __call__(self, start: bool = True) -> Client: ...


VERSION = """
Usage: cloche version [OPTIONS]

Show the versions of command and daemon; no daemon is started for it

Options:
  -f, --format TEMPLATE   json, or a template such as '{{.Server.Version}}'
"""

INFO = """
Usage: cloche info [OPTIONS]

Describe the daemon and the machine

Options:
  -f, --format TEMPLATE   json, or a template such as '{{.Driver}}'
"""

EVENTS = """
Usage: cloche events [OPTIONS]

Show what happens, as it happens

Options:
  -f, --filter FILTER...   NAME=VALUE: type, event, container, image, label
      --format TEMPLATE    json, or a template such as '{{.Action}}'
      --since TIME         With what happened since then: a time stamp, or a duration such as 10m ago
      --until TIME         End then
"""


def version(connect: Connect, argv: list[str]) -> int:
    arguments = parse(VERSION, argv)
    client = {"Version": __version__, "Os": "linux", "Arch": os.uname().machine}
    try:
        server: dict[str, Any] | None = connect(start=False).call("GET", "/version")
    except Unreachable:
        server = None
    if arguments.format:
        _by_template({"Client": client, "Server": server}, arguments.format)
        return 0
    print(f"Client:\n Version:     {__version__}\n OS/Arch:     linux/{client['Arch']}\n")
    if server is None:
        print("Server:       none runs; the first command that needs one starts it")
        return 0
    print(f"Server:\n Version:     {server['Version']}\n API version: {server['ApiVersion']}", end="")
    print(f" (minimum {server['MinAPIVersion']})\n OS/Arch:     {server['Os']}/{server['Arch']}")
    print(f" Kernel:      {server['KernelVersion']}")
    return 0


def _by_template(record: Any, template: str) -> None:
    print(tables.render(tables.parse("{{json .}}" if template == "json" else template), record))


def info(connect: Connect, argv: list[str]) -> int:
    arguments = parse(INFO, argv)
    record = connect().call("GET", "/info")
    if arguments.format:
        _by_template(record, arguments.format)
        return 0
    lines = [
        ("Containers", record["Containers"]),
        (" Running", record["ContainersRunning"]),
        (" Paused", record["ContainersPaused"]),
        (" Stopped", record["ContainersStopped"]),
        ("Images", record["Images"]),
        ("Server Version", record["ServerVersion"]),
        ("Storage Driver", record["Driver"]),
        *((f" {name}", value) for name, value in record.get("DriverStatus") or []),
        ("Logging Driver", record["LoggingDriver"]),
        ("Cgroup Driver", record["CgroupDriver"]),
        ("Cgroup Version", record["CgroupVersion"]),
        ("Security Options", " ".join(record.get("SecurityOptions") or [])),
        ("Kernel Version", record["KernelVersion"]),
        ("Operating System", record["OperatingSystem"]),
        ("Architecture", record["Architecture"]),
        ("CPUs", record["NCPU"]),
        ("Total Memory", units.human_binary(record["MemTotal"])),
        ("Name", record["Name"]),
        ("ID", record["ID"]),
        ("Root Dir", record["DockerRootDir"]),
    ]
    for name, value in lines:
        print(f"{name}: {value}")
    for warning in record.get("Warnings") or []:
        print(warning)
    return 0


def events(connect: Callable[[], Client], argv: list[str]) -> int:
    from cloche.cli.containers import filters

    arguments = parse(EVENTS, argv)
    options = query(
        since=units.moment(arguments.since),
        until=units.moment(arguments.until),
        filters=filters(arguments.filter),
    )
    response = connect().open("GET", f"/events{options}").check()
    for event in response.values():
        if arguments.format:
            _by_template(event, arguments.format)
        else:
            print(_event(event))
        # Whoever reads this waits for the line.
        sys.stdout.flush()
    return 0


def _event(event: dict[str, Any]) -> str:
    import time

    seconds, nanoseconds = divmod(event["timeNano"], 10**9)
    zone = time.strftime("%z", time.localtime(seconds))
    stamp = (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))
        + f".{nanoseconds:09d}{zone[:3]}:{zone[3:]}"
    )
    actor = event["Actor"]
    attributes = ", ".join(f"{name}={value}" for name, value in sorted(actor["Attributes"].items()))
    return f"{stamp} {event['Type']} {event['Action']} {actor['ID']} ({attributes})"
