"""One request on its way through a handler, and the answers a handler gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aiohttp import web
from multidict import CIMultiDict, istr

from cloche import __version__
from cloche.api import versions
from cloche.api.connection import Connection

if TYPE_CHECKING:
    from cloche.engine.engine import Engine
    from cloche.engine.settings import Settings

_encode = msgspec.json.Encoder().encode

COMMON: CIMultiDict[str] = CIMultiDict(
    {
        istr("Server"): f"Cloche/{__version__} (linux)",
        istr("Api-Version"): versions.text(versions.CURRENT),
        istr("Docker-Experimental"): "false",
        istr("Ostype"): "linux",
    }
)
"""On every answer: clients negotiate by them."""


class Service(msgspec.Struct, frozen=True):
    """What the handlers stand on."""

    engine: Engine
    settings: Settings
    debug: bool


class Call:
    """One request."""

    __slots__ = ("engine", "path", "query", "request", "service", "version")

    def __init__(
        self, request: web.BaseRequest, service: Service, version: tuple[int, int], path: str
    ) -> None:
        self.request = request
        self.service = service
        self.engine = service.engine
        self.version = version
        self.path = path
        self.query: Mapping[str, str] = request.query

    @property
    def connection(self) -> Connection:
        return cast(Connection, self.request.protocol)

    async def body(self) -> bytes:
        """The whole body; for JSON. What is not UTF-8 in it becomes U+FFFD, as Go's decoder makes it."""
        body = await self.request.read()
        return body.decode(errors="replace").encode()

    async def upload(self) -> AsyncIterator[bytes]:
        """The body as it comes; for archives."""
        if self.request.headers.get("Expect", "").lower() == "100-continue" and self.request.transport:
            self.request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for chunk in self.request.content.iter_any():
            yield chunk

    async def stream(self, content_type: str = "application/json") -> web.StreamResponse:
        """Send the head at once; the body follows as it comes. Ends when the client goes."""
        self.connection.cancel_when_lost()
        response = web.StreamResponse(headers=COMMON)
        response.content_type = content_type
        await response.prepare(self.request)
        return response


def json(value: Any, status: int = 200) -> web.Response:
    """``value`` as JSON on a line of its own, as Docker sends it."""
    return raw_json(_encode(value), status)


def raw_json(encoded: bytes, status: int = 200) -> web.Response:
    return web.Response(body=encoded + b"\n", status=status, headers=COMMON, content_type="application/json")


def line(value: Any) -> bytes:
    """One value of a JSON stream. Docker ends each with CRLF on some streams and LF on others; clients take
    both."""
    return _encode(value) + b"\n"


def text(value: str, status: int = 200) -> web.Response:
    return web.Response(text=value, status=status, headers=COMMON, content_type="text/plain")


def empty(status: int = 204) -> web.Response:
    return web.Response(status=status, headers=COMMON)


def failure(status: int, message: str) -> web.Response:
    """Docker's shape of an error."""
    return empty(status) if status == 304 else json({"message": message}, status)
