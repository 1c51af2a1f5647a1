"""Client connections to a container's streams: handed to its monitor, so that no byte passes the daemon."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

from cloche.engine import logs
from cloche.engine.context import Context, is_running
from cloche.engine.records import AttachRequest, Container, LogLine
from cloche.engine.supervision import Attached
from cloche.errors import Conflict, InvalidArgument, NotFound
from cloche.monitor.protocol import Attachment

DETACH_KEYS = b"\x10\x11"
"""ctrl-p, ctrl-q."""
_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse_keys(text: str) -> bytes:
    """Docker's syntax: letters, or ``ctrl-`` and a letter or one of ``@[\\]^_``, separated by commas."""
    if not text:
        return DETACH_KEYS
    keys = bytearray()
    for word in text.split(","):
        if len(word) == 1 and word.isascii():
            keys += word.encode()
            continue
        key = word.removeprefix("ctrl-")
        if len(word) != 6 or len(key) != 1 or not (key in _CONTROL or "a" <= key <= "z"):
            raise InvalidArgument(f"Invalid detach keys ({text}) provided")
        keys.append(_CONTROL.get(key, ord(key) - 96))
    return bytes(keys)


async def attach(context: Context, ref: str, request: AttachRequest) -> None:
    """See ``Containers.attach``."""
    try:
        container = context.registry.get(ref)
        keys = parse_keys(request.detach_keys)
        if request.logs:
            await _replay(context, container, request)
    except BaseException:
        os.close(request.descriptor)
        raise
    if not request.stream:
        os.close(request.descriptor)
        return
    attachment = Attachment(
        stdin=request.stdin and container.config.open_stdin,
        stdout=request.stdout,
        stderr=request.stderr,
        prefix=request.prefix,
        detach_keys=keys if container.config.terminal else b"",
        framed=not container.config.terminal,
    )
    supervision = context.supervision(container.id)
    await supervision.owner.run("attach", lambda: _hand_on(context, container.id, request, attachment))


async def _hand_on(context: Context, id: str, request: AttachRequest, attachment: Attachment) -> None:
    container = context.registry.by_id(id)
    if container is None:
        os.close(request.descriptor)
        raise NotFound(f"No such container: {id}")
    supervision = context.supervision(id)
    if supervision.monitor:
        await supervision.monitor.attach(request.descriptor, attachment)
    elif is_running(container):
        # It has ended, and is about to be told so: there is nothing to hear of this run any more.
        os.close(request.descriptor)
    else:
        supervision.waiting.append(Attached(request.descriptor, attachment))
    context.events.container("attach", container)


async def _replay(context: Context, container: Container, request: AttachRequest) -> None:
    """What was said so far, before what comes."""
    selection = logs.Selection(stdout=request.stdout, stderr=request.stderr)
    with socket.socket(fileno=os.dup(request.descriptor)) as connection:
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        async for batch in logs.read(context.paths.log(container.id), selection, None):
            try:
                await loop.sock_sendall(connection, _framed(batch, container.config.terminal))
            except OSError:
                return


def _framed(batch: list[LogLine], terminal: bool) -> bytes:
    if terminal:
        return b"".join(line.data for line in batch)
    heads = {"stdout": 1, "stderr": 2}
    return b"".join(
        struct.pack(">BxxxL", heads.get(line.stream, 1), len(line.data)) + line.data for line in batch
    )


async def resize(context: Context, ref: str, rows: int, columns: int) -> None:
    """See ``Containers.resize``."""
    container = context.registry.get(ref)
    if not (0 <= rows <= 65535 and 0 <= columns <= 65535):
        raise InvalidArgument(f"invalid terminal size: {rows} rows, {columns} columns")
    supervision = context.supervision(container.id)
    if supervision.monitor and is_running(container):
        await supervision.monitor.resize(rows, columns)
        context.events.container("resize", container, height=str(rows), width=str(columns))
    elif container.state.status == "created":
        supervision.size = (rows, columns)
    else:
        raise Conflict(f"Container {container.id} is not running")
