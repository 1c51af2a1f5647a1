"""Commands on containers that only ask the daemon: lists, logs, ends."""

from __future__ import annotations

import os
import sys

from cloche.cli import tables, units, wire
from cloche.cli.arguments import parse
from cloche.cli.client import query, quote
from cloche.cli.errors import ApiError, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloche.cli.client import Client

PS = """
Usage: cloche ps [OPTIONS]

List containers

Options:
  -a, --all                Also those that do not run
  -f, --filter FILTER...   NAME=VALUE: status, name, id, label, ancestor, exited, before, since
      --format TEMPLATE    table, json, or a template such as '{{.ID}} {{.Names}}'
  -n, --last NUMBER        The last created ones, running or not
  -l, --latest             The last created one
      --no-trunc           Do not shorten
  -q, --quiet              Only ids
  -s, --size               Show sizes
"""

LOGS = """
Usage: cloche logs [OPTIONS] CONTAINER

Show a container's output

Options:
  -f, --follow         Go on with what comes
      --since TIME     From then on: a time stamp, or a duration such as 10m ago
  -n, --tail NUMBER    Only the last lines
  -t, --timestamps     With the time of each line
      --until TIME     Before then
"""

STOP = """
Usage: cloche stop [OPTIONS] CONTAINER [CONTAINER...]

Stop containers: the stop signal, and SIGKILL after the grace time

Options:
  -s, --signal SIGNAL     Instead of the container's stop signal
  -t, --time SECONDS      Grace time (10)
      --timeout SECONDS   The same
"""

RESTART = STOP.replace("stop [OPTIONS]", "restart [OPTIONS]").replace(
    "Stop containers:", "Restart containers:"
)

KILL = """
Usage: cloche kill [OPTIONS] CONTAINER [CONTAINER...]

Send a signal to containers

Options:
  -s, --signal SIGNAL   Which (SIGKILL)
"""

WAIT = """
Usage: cloche wait CONTAINER [CONTAINER...]

Wait for containers to end, print their exit status
"""

RM = """
Usage: cloche rm [OPTIONS] CONTAINER [CONTAINER...]

Remove containers

Options:
  -f, --force     Also one that runs, with SIGKILL
  -v, --volumes   Its anonymous volumes too
"""

RENAME = """
Usage: cloche rename CONTAINER NAME

Give a container another name
"""

TOP = """
Usage: cloche top CONTAINER [ARG...]

List a container's processes; ARG are options of ps
"""

INSPECT = """
Usage: cloche inspect [OPTIONS] NAME [NAME...]

Show everything about containers or images

Options:
  -f, --format TEMPLATE   json, or a template such as '{{.State.Status}}'
  -s, --size              With sizes (containers)
      --type TYPE         container or image
"""


def filters(items: list[str]) -> str | None:
    """``--filter`` as the API wants it: names to lists of values."""
    gathered: dict[str, list[str]] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"invalid filter {item!r}: NAME=VALUE is wanted")
        gathered.setdefault(name.strip().lower(), []).append(value.strip())
    return wire.encode(gathered) if gathered else None


def ps(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(PS, argv)
    limit = "1" if arguments.latest else arguments.last
    rows = connect().call(
        "GET",
        "/containers/json"
        + query(all=arguments.all, limit=limit, size=arguments.size, filters=filters(arguments.filter)),
    )
    fields = container_fields(full=bool(arguments.no_trunc))
    if arguments.quiet:
        for row in rows:
            print(fields["ID"](row))
        return 0
    columns = {
        "CONTAINER ID": "ID",
        "IMAGE": "Image",
        "COMMAND": "Command",
        "CREATED": "RunningFor",
        "STATUS": "Status",
        "PORTS": "Ports",
        "NAMES": "Names",
    }
    if arguments.size:
        columns["SIZE"] = "Size"
    tables.show(rows, fields, columns, arguments.format)
    return 0


def container_fields(full: bool) -> tables.Fields:
    return {
        "ID": lambda row: row["Id"] if full else row["Id"][:12],
        "Image": lambda row: row["Image"] if full else _short_image(row["Image"]),
        "Command": lambda row: f'"{row["Command"] if full else shortened(row["Command"], 20)}"',
        "CreatedAt": lambda row: date(row["Created"]),
        "RunningFor": lambda row: units.ago(row["Created"]),
        "Status": lambda row: row["Status"],
        "State": lambda row: row["State"],
        "Ports": lambda row: ", ".join(map(_port, row.get("Ports") or [])),
        "Names": lambda row: ",".join(name.removeprefix("/") for name in row["Names"]),
        "Labels": lambda row: ",".join(
            f"{name}={value}" for name, value in (row.get("Labels") or {}).items()
        ),
        "Mounts": lambda row: ",".join(mount.get("Source", "") for mount in row.get("Mounts") or []),
        "Networks": lambda row: ",".join((row.get("NetworkSettings") or {}).get("Networks") or {}),
        "Size": _size,
    }


def _size(row: dict[str, Any]) -> str:
    own, whole = row.get("SizeRw") or 0, row.get("SizeRootFs") or 0
    return f"{units.human_size(own)} (virtual {units.human_size(whole)})"


def _short_image(name: str) -> str:
    return name.removeprefix("sha256:")[:12] if name.startswith("sha256:") else name


def shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "\u2026"


def date(seconds: int) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def _port(port: dict[str, Any]) -> str:
    inside = f"{port['PrivatePort']}/{port['Type']}"
    return (
        f"{port.get('IP') or '0.0.0.0'}:{port['PublicPort']}->{inside}" if port.get("PublicPort") else inside
    )


def logs(connect: Callable[[], Client], argv: list[str]) -> int:
    from cloche.cli.attachment import Frames, write

    arguments = parse(LOGS, argv)
    options = query(
        stdout=True,
        stderr=True,
        follow=arguments.follow,
        tail=arguments.tail,
        since=units.moment(arguments.since),
        until=units.moment(arguments.until),
        timestamps=arguments.timestamps,
    )
    client = connect()
    name = arguments.operands[0]
    tty = client.call("GET", f"/containers/{quote(name)}/json")["Config"]["Tty"]
    response = client.open("GET", f"/containers/{quote(name)}/logs{options}").check()
    frames = Frames()
    for piece in response.stream():
        if tty:
            write(1, piece)
        else:
            frames.feed(piece)
    return 0


def _for_each(names: list[str], verb: Callable[[str], Any]) -> int:
    """Apply ``verb`` to each name and print the name; a failure is told, and the others still have their
    turn."""
    code = 0
    for name in names:
        try:
            verb(name)
            print(name)
        except ApiError as error:
            sys.stdout.flush()
            os.write(2, f"cloche: Error response from daemon: {error}\n".encode())
            code = 1
    return code


def _ended(connect: Callable[[], Client], help_text: str, verb: str, argv: list[str]) -> int:
    arguments = parse(help_text, argv)
    options = query(t=arguments.time or arguments.timeout, signal=arguments.signal)
    client = connect()
    return _for_each(
        arguments.operands, lambda name: client.call("POST", f"/containers/{quote(name)}/{verb}{options}")
    )


def stop(connect: Callable[[], Client], argv: list[str]) -> int:
    return _ended(connect, STOP, "stop", argv)


def restart(connect: Callable[[], Client], argv: list[str]) -> int:
    return _ended(connect, RESTART, "restart", argv)


def kill(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(KILL, argv)
    client = connect()
    options = query(signal=arguments.signal)
    return _for_each(
        arguments.operands, lambda name: client.call("POST", f"/containers/{quote(name)}/kill{options}")
    )


def wait(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(WAIT, argv)
    client = connect()
    for name in arguments.operands:
        print(client.call("POST", f"/containers/{quote(name)}/wait")["StatusCode"])
    return 0


def rm(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(RM, argv)
    client = connect()
    options = query(force=arguments.force, v=arguments.volumes)
    return _for_each(
        arguments.operands, lambda name: client.call("DELETE", f"/containers/{quote(name)}{options}")
    )


def rename(connect: Callable[[], Client], argv: list[str]) -> int:
    name, new = parse(RENAME, argv).operands
    connect().call("POST", f"/containers/{quote(name)}/rename" + query(name=new))
    return 0


def top(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(TOP, argv, interspersed=False)
    name, *options = arguments.operands
    listing = connect().call("GET", f"/containers/{quote(name)}/top" + query(ps_args=" ".join(options)))
    tables.print_columns([listing["Titles"], *listing["Processes"]])
    return 0


def inspect(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(INSPECT, argv)
    kinds = {"container": ["containers"], "image": ["images"], None: ["containers", "images"]}
    if arguments.type not in kinds:
        raise UsageError("--type takes container or image")
    client = connect()
    found: list[Any] = []
    missing: list[str] = []
    for name in arguments.operands:
        record = _find(client, name, kinds[arguments.type], query(size=arguments.size))
        if record is None:
            missing.append(name)
        else:
            found.append(record)
    print_records(found, arguments.format)
    if missing:
        sys.stdout.flush()
        raise CommandError(
            "\ncloche: ".join(f"no such {arguments.type or 'object'}: {name}" for name in missing)
        )
    return 0


def _find(client: Client, name: str, kinds: list[str], options: str) -> Any:
    for kind in kinds:
        try:
            return client.call("GET", f"/{kind}/{quote(name)}/json{options}")
        except ApiError as error:
            if error.status != 404:
                raise
    return None


def print_records(records: list[Any], template: str | None) -> None:
    """JSON for reading, or a line by ``template`` for each."""
    if template is None:
        import json

        print(json.dumps(records, indent=4, ensure_ascii=False))
    elif template == "json":
        print(wire.encode(records))
    else:
        parts = tables.parse(template)
        for record in records:
            print(tables.render(parts, record))


def container(connect: Callable[[], Client], argv: list[str]) -> int:
    """``cloche container VERB`` is ``cloche VERB``."""
    from cloche.cli import run

    if not argv:
        raise UsageError("cloche container wants a command, as in: cloche container ls")
    verb, *rest = argv
    verb = {"ls": "ps", "list": "ps", "remove": "rm"}.get(verb, verb)
    if verb in ("run", "create", "start", "attach"):
        return int(getattr(run, verb)(connect, rest))
    verbs = {f.__name__: f for f in (ps, logs, stop, restart, kill, wait, rm, rename, top)}
    if verb == "inspect":
        return inspect(connect, ["--type", "container", *rest])
    if verb not in verbs:
        raise UsageError(f"{verb!r} is not a cloche container command")
    return verbs[verb](connect, rest)
