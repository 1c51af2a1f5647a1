"""``explain``: the plan of a container, that ran or that would run."""

from __future__ import annotations

from cloche.cli import creation
from cloche.cli.arguments import parse
from cloche.cli.attachment import write
from cloche.cli.client import query, quote
from cloche.cli.errors import ApiError, UsageError
from cloche.cli.run import RUN, make_default_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloche.cli.client import Client

EXPLAIN = """
Usage: cloche explain [OPTIONS] CONTAINER [ARG...]

Show a container's plan: each step, and where the milliseconds went.
'cloche explain run ARGS' shows the plan of 'cloche run ARGS' and makes nothing.

Options:
      --json    For programs
      --shell   As a script that makes the same container with util-linux, iproute2 and sh
"""


def explain(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(EXPLAIN, argv, interspersed=False)
    name, *rest = arguments.operands
    # Options may stand behind the container's name too; behind `run` they are the container's own.
    if name != "run":
        arguments = parse(EXPLAIN, argv)
        if len(arguments.operands) != 1:
            raise UsageError("cloche explain wants one container, or: cloche explain run ARGS")
    if arguments.json and arguments.shell:
        raise UsageError("--json and --shell exclude each other")
    kind = "json" if arguments.json else "shell" if arguments.shell else "text"
    client = connect()
    if name == "run":
        text = _planned(client, rest, kind)
    else:
        path = f"/containers/{quote(name)}/explain" + query(format=kind)
        text = client.request("GET", path).check().read()
    write(1, text if text.endswith(b"\n") else text + b"\n")
    return 0


def _planned(client: Client, argv: list[str], kind: str) -> bytes:
    arguments = parse(RUN, argv, interspersed=False)
    body: dict[str, Any] = creation.body(arguments, attached=not arguments.detach)
    path = "/explain" + query(format=kind)
    try:
        return client.request("POST", path, body).check().read()
    except ApiError as error:
        if not make_default_image(client, body["Image"], error):
            raise
        return client.request("POST", path, body).check().read()
