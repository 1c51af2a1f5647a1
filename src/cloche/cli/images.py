"""Commands on images."""

from __future__ import annotations

import os
import sys

from cloche.cli import containers, tables, units
from cloche.cli.arguments import parse
from cloche.cli.client import query, quote
from cloche.cli.errors import ApiError, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO

    from cloche.cli.client import Client

IMAGES = """
Usage: cloche images [OPTIONS] [REPOSITORY]

List images

Options:
  -a, --all                Also those that only others stand on
      --digests            Show digests
  -f, --filter FILTER...   NAME=VALUE: dangling, label, reference, before, since
      --format TEMPLATE    table, json, or a template such as '{{.ID}} {{.Repository}}'
      --no-trunc           Do not shorten
  -q, --quiet              Only ids
"""

LOAD = """
Usage: cloche load [OPTIONS]

Load images from a tar archive (docker save's, or an OCI layout)

Options:
  -i, --input FILE   Read it from a file, not from stdin
  -q, --quiet        Say nothing
"""

IMPORT = """
Usage: cloche import [OPTIONS] FILE [NAME]

Make an image from a tar archive of a root file system; - is stdin

Options:
  -c, --change INSTRUCTION...   A Dockerfile's instruction: CMD, ENV, USER, ...
  -m, --message TEXT            Comment
      --platform PLATFORM       os/architecture
"""

SAVE = """
Usage: cloche save [OPTIONS] IMAGE [IMAGE...]

Write images to a tar archive

Options:
  -o, --output FILE   Write it to a file, not to stdout
"""

TAG = """
Usage: cloche tag IMAGE NAME

Give an image another name
"""

RMI = """
Usage: cloche rmi [OPTIONS] IMAGE [IMAGE...]

Remove images

Options:
  -f, --force      Also one with several names, or that a stopped container uses
      --no-prune   Keep parents without names
"""

HISTORY = """
Usage: cloche history [OPTIONS] IMAGE

Show how an image was made

Options:
      --format TEMPLATE   table, json, or a template such as '{{.CreatedBy}}'
      --no-trunc          Do not shorten
  -q, --quiet             Only ids
"""

FROM_HOST = """
Usage: cloche image from-host NAME COMMAND [COMMAND...]

Make an image of commands of this machine, with the libraries that they need
"""

NONE = "<none>"


def images(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(IMAGES, argv)
    selection = [*arguments.filter, *(f"reference={name}" for name in arguments.operands)]
    rows = connect().call(
        "GET", "/images/json" + query(all=arguments.all, filters=containers.filters(selection))
    )
    records = [{**row, "Name": name} for row in rows for name in row.get("RepoTags") or [f"{NONE}:{NONE}"]]
    fields: tables.Fields = {
        "Repository": lambda row: row["Name"].rpartition(":")[0],
        "Tag": lambda row: row["Name"].rpartition(":")[2],
        "Digest": lambda row: next((item.partition("@")[2] for item in row.get("RepoDigests") or []), NONE),
        "ID": lambda row: row["Id"] if arguments.no_trunc else row["Id"].removeprefix("sha256:")[:12],
        "CreatedSince": lambda row: units.ago(row["Created"]),
        "CreatedAt": lambda row: containers.date(row["Created"]),
        "Size": lambda row: units.human_size(row["Size"]),
    }
    if arguments.quiet:
        for identity in dict.fromkeys(fields["ID"](record) for record in records):
            print(identity)
        return 0
    columns = {"REPOSITORY": "Repository", "TAG": "Tag", "DIGEST": "Digest", "IMAGE ID": "ID"}
    columns |= {"CREATED": "CreatedSince", "SIZE": "Size"}
    if not arguments.digests:
        del columns["DIGEST"]
    tables.show(records, fields, columns, arguments.format)
    return 0


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(1 << 18):
        yield piece


def _opened(name: str | None) -> BinaryIO:
    if name in (None, "-"):
        if os.isatty(0):
            raise CommandError("stdin is a terminal: name a file, or pipe the archive in")
        return sys.stdin.buffer
    try:
        return open(name or "", "rb")
    except OSError as error:
        raise CommandError(f"open {name}: {error.strerror}") from None


def _progress(values: Iterator[Any]) -> Iterator[str]:
    """Lines of a streamed answer. Raises ``ApiError`` for the failure that it may end with."""
    for value in values:
        if "error" in value:
            raise ApiError(500, value["error"])
        text = value.get("stream") or value.get("status") or ""
        if text.strip():
            yield text.rstrip("\n")


def load(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(LOAD, argv)
    with _opened(arguments.input) as file:
        response = connect().upload("POST", "/images/load" + query(quiet=True), _pieces(file)).check()
        for line in _progress(response.values()):
            if not arguments.quiet:
                print(line)
    return 0


def import_(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(IMPORT, argv)
    file, name = [*arguments.operands, ""][:2]
    options = query(
        fromSrc="-",
        repo=name,
        message=arguments.message,
        changes=arguments.change,
        platform=arguments.platform,
    )
    with _opened(file) as source:
        response = connect().upload("POST", f"/images/create{options}", _pieces(source)).check()
        for line in _progress(response.values()):
            print(line)
    return 0


def save(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(SAVE, argv)
    if not arguments.output and os.isatty(1):
        raise CommandError("stdout is a terminal: use -o FILE, or redirect")
    response = connect().open("GET", "/images/get" + query(names=arguments.operands)).check()
    if not arguments.output:
        for piece in response.stream():
            sys.stdout.buffer.write(piece)
        return 0
    # The file has its name when it is whole.
    partial = f"{arguments.output}.{os.getpid()}.part"
    try:
        with open(partial, "wb") as file:
            for piece in response.stream():
                file.write(piece)
        os.replace(partial, arguments.output)
    except OSError as error:
        raise CommandError(f"save {arguments.output}: {error.strerror}") from None
    finally:
        if os.path.exists(partial):
            os.unlink(partial)
    return 0


def tag(connect: Callable[[], Client], argv: list[str]) -> int:
    source, target = parse(TAG, argv).operands
    head, slash, last = target.rpartition("/")
    name, _, label = last.partition(":")
    connect().call(
        "POST", f"/images/{quote(source)}/tag" + query(repo=head + slash + name, tag=label or "latest")
    )
    return 0


def rmi(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(RMI, argv)
    client = connect()
    options = query(force=arguments.force, noprune=arguments.no_prune)
    code = 0
    for name in arguments.operands:
        try:
            for row in client.call("DELETE", f"/images/{quote(name)}{options}"):
                for verb, what in row.items():
                    print(f"{verb}: {what}")
        except ApiError as error:
            sys.stdout.flush()
            os.write(2, f"cloche: Error response from daemon: {error}\n".encode())
            code = 1
    return code


def history(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(HISTORY, argv)
    rows = connect().call("GET", f"/images/{quote(arguments.operands[0])}/history")
    full = arguments.no_trunc
    fields: tables.Fields = {
        "ID": lambda row: row["Id"] if full else row["Id"].removeprefix("sha256:")[:12],
        "CreatedSince": lambda row: units.ago(row["Created"]) if row["Created"] > 0 else "N/A",
        "CreatedBy": lambda row: row["CreatedBy"] if full else containers.shortened(row["CreatedBy"], 45),
        "Size": lambda row: units.human_size(row["Size"]),
        "Comment": lambda row: row["Comment"],
    }
    if arguments.quiet:
        for row in rows:
            print(fields["ID"](row))
        return 0
    columns = {"IMAGE": "ID", "CREATED": "CreatedSince", "CREATED BY": "CreatedBy"}
    tables.show(rows, fields, columns | {"SIZE": "Size", "COMMENT": "Comment"}, arguments.format)
    return 0


def from_host(connect: Callable[[], Client], argv: list[str]) -> int:
    name, *commands = parse(FROM_HOST, argv).operands
    made = connect().call("POST", "/images/from-host" + query(name=name), {"commands": commands})
    print(made["Id"])
    return 0


def image(connect: Callable[[], Client], argv: list[str]) -> int:
    """``cloche image VERB``: ``from-host``, and the other image commands under Docker's second name for
    them."""
    verbs: dict[str, Callable[[Callable[[], Client], list[str]], int]] = {
        "from-host": from_host,
        "ls": images,
        "list": images,
        "rm": rmi,
        "remove": rmi,
        "history": history,
        "load": load,
        "import": import_,
        "save": save,
        "tag": tag,
        "inspect": lambda connect, rest: containers.inspect(connect, ["--type", "image", *rest]),
    }
    if not argv or argv[0] not in verbs:
        raise UsageError(f"cloche image wants one of: {', '.join(verbs)}")
    return verbs[argv[0]](connect, argv[1:])
