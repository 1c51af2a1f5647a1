"""``attach`` and ``logs``: a container's output on its way to a client."""

from __future__ import annotations

import os

from aiohttp import web

from cloche.api import query
from cloche.api.call import COMMON, Call
from cloche.api.connection import GivenAway
from cloche.engine.attach import parse_keys
from cloche.engine.records import AttachRequest, Container, LogLine
from cloche.errors import ClocheError, InvalidArgument

_RAW = "application/vnd.docker.raw-stream"
_MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}
_CHUNK = 256 << 10


def content_type(container: Container, version: tuple[int, int]) -> str:
    """Since API 1.42 the type tells whether the stream is framed; before, the client had to know."""
    return _RAW if container.config.terminal or version < (1, 42) else _MULTIPLEXED


def frame(stream: int, data: bytes) -> bytes:
    """Docker's framing: stream, three zero bytes, big-endian length, data."""
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


async def attach(call: Call, ref: str) -> web.StreamResponse:
    container = call.engine.containers.get(ref)
    flags = {name: query.flag(call.query, name) for name in ("stdin", "stdout", "stderr", "stream", "logs")}
    keys = call.query.get("detachKeys", "")
    # Refused while the answer can still be an error.
    parse_keys(keys)
    upgrade = call.request.headers.get("Upgrade")
    descriptor, prefix = await call.connection.give_away(
        _head(content_type(container, call.version), upgrade)
    )
    request = AttachRequest(descriptor=descriptor, prefix=prefix, detach_keys=keys, **flags)
    # The engine closes its descriptor, whose number may be another file's before an error is known here.
    own = os.dup(descriptor)
    try:
        await call.engine.containers.attach(container.id, request)
    except ClocheError as error:
        _apologise(own, container, error)
    finally:
        os.close(own)
    return GivenAway()


def _head(kind: str, upgrade: str | None) -> bytes:
    """With ``Upgrade`` the connection visibly changes its protocol; older clients just get a body without
    end."""
    lines = [f"{name}: {value}" for name, value in COMMON.items()] + [f"Content-Type: {kind}"]
    if upgrade:
        lines = ["HTTP/1.1 101 UPGRADED", *lines, "Connection: Upgrade", f"Upgrade: {upgrade}"]
    else:
        lines = ["HTTP/1.1 200 OK", *lines]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _apologise(descriptor: int, container: Container, error: ClocheError) -> None:
    """The head is out, so the error can only go where the output would."""
    text = f"{error}\n".encode()
    try:
        os.write(descriptor, text if container.config.terminal else frame(2, text))
    except OSError:
        pass


async def logs(call: Call, ref: str) -> web.StreamResponse:
    container = call.engine.containers.get(ref)
    stdout, stderr = query.flag(call.query, "stdout"), query.flag(call.query, "stderr")
    if not (stdout or stderr):
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    batches = call.engine.containers.logs(
        container.id,
        follow=query.flag(call.query, "follow"),
        tail=_tail(call.query.get("tail", "all")),
        since=query.time(call.query, "since"),
        until=query.time(call.query, "until"),
        stdout=stdout,
        stderr=stderr,
    )
    timestamps = query.flag(call.query, "timestamps")
    response = await call.stream(content_type(container, call.version))
    async for batch in batches:
        await _send(response, batch, container.config.terminal, timestamps)
    return response


def _tail(text: str) -> int | None:
    """A count of lines; ``None`` is all. Docker takes anything that is no number for all."""
    return int(text) if text.isdecimal() else None


async def _send(response: web.StreamResponse, batch: list[LogLine], raw: bool, timestamps: bool) -> None:
    parts: list[bytes] = []
    size = 0
    for entry in batch:
        data = f"{entry.time} ".encode() + entry.data if timestamps else entry.data
        if not raw:
            parts.append(bytes((_STREAMS[entry.stream], 0, 0, 0)) + len(data).to_bytes(4, "big"))
        parts.append(data)
        size += len(data)
        if size >= _CHUNK:
            await response.write(b"".join(parts))
            parts.clear()
            size = 0
    if parts:
        await response.write(b"".join(parts))
