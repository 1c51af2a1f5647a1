"""A client's connection: aiohttp's, but one that can be given away whole.

``attach`` turns the connection into a raw stream. What the client sends right behind the request head
belongs to that stream, and may come in the same packet: an HTTP parser would eat it. So the head of such a
request is cut off before the parser sees what follows, and reading stops until the handler has decided.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import termios
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

_log = logging.getLogger("cloche.api")
_HIJACKER = re.compile(rb"POST (?:/v[0-9.]+)?/containers/[^/ ]+/attach[? ]")
_START = b"POST "
MAX_HEAD = 1 << 20
"""Bytes of a request's head at most: as with Docker, a filter or a change to import may be long."""
_PATIENCE = 0.05
"""Seconds of the last pause while waiting for a client to read."""


class Connection(RequestHandler):
    """One connection of a client."""

    __slots__ = ("_head", "_held", "_holding", "_streaming")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = b""
        self._held = b""
        self._holding = False
        self._streaming: asyncio.Task[Any] | None = None

    def data_received(self, data: bytes) -> None:
        if self._holding:
            self._held += data
        elif self._head or (data.startswith(_START) and self._idle() and _HIJACKER.match(data)):
            self._cut(self._head + data)
        else:
            super().data_received(data)

    def _idle(self) -> bool:
        """Whether the next byte begins a request: it is no body of the one before."""
        return self._current_request is None and not self._messages and not self._request_in_progress

    def _cut(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        if end < 0 and len(data) < MAX_HEAD:
            self._head = data
            return
        self._head = b""
        head, self._held = (data[: end + 4], data[end + 4 :]) if end >= 0 else (data, b"")
        self._holding = True
        if self.transport is not None:
            self.transport.pause_reading()
        super().data_received(head)

    def end_of_request(self) -> None:
        """The handler is through. Where the request did not become a stream, go on with HTTP."""
        self._streaming = None
        if self._holding:
            held, self._held, self._holding = self._held, b"", False
            if self.transport is not None:
                self.transport.resume_reading()
                if held:
                    super().data_received(held)

    async def give_away(self, head: bytes) -> tuple[int, bytes]:
        """Send ``head``, then part with the connection: a descriptor of the socket, which is the caller's to
        close, and the bytes that the client has sent behind its request. The connection itself stays
        open."""
        transport = self.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        transport.write(head)
        while transport.get_write_buffer_size():
            await asyncio.sleep(0.001)
        descriptor = os.dup(transport.get_extra_info("socket").fileno())
        try:
            await _until_read(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        held = self._held + self._message_tail
        self._held = self._message_tail = b""
        # Closes the transport's own descriptor only: asyncio shuts no socket down.
        self.force_close()
        return descriptor, held

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP: a client's fault, so nothing for the daemon's log."""
        if request.writer.output_size:
            raise ConnectionResetError("part of an answer is out already")
        _log.debug("broken request: %s", message or exc)
        response = web.json_response({"message": message or str(exc)}, status=status)
        response.force_close()
        return response

    def cancel_when_lost(self) -> None:
        """End the present task when the client goes: for answers that last as long as the client listens."""
        self._streaming = asyncio.current_task()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._streaming is not None:
            self._streaming.cancel()
            self._streaming = None
        super().connection_lost(exc)


async def _until_read(descriptor: int) -> None:
    """Wait, for a moment at most, until the client has taken all that was sent. docker-py loses output that
    its HTTP reader happens to read together with the head, so none may follow too soon."""
    pause = 0.0001
    while pause < _PATIENCE and any(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))):
        await asyncio.sleep(pause)
        pause *= 1.5


class Connections(web.Server):
    """aiohttp's server with ``Connection`` for its connections."""

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def _make_request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any
    ) -> web.BaseRequest:
        return web.BaseRequest(
            message, payload, protocol, writer, task, self._loop, client_max_size=MAX_JSON
        )


MAX_JSON = 16 << 20
"""Bytes of a JSON body at most; archives are streamed."""


class GivenAway(web.StreamResponse):
    """The answer of a handler that gave its connection away: nothing to send."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> Any:
        return None

    async def write_eof(self, data: Any = b"") -> None:
        return None
