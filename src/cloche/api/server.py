"""The API's server: requests on unix sockets, each to its handler, each error to its status."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket

import msgspec
from aiohttp import web

from cloche.api import routes, statuses, versions
from cloche.api.call import Call, Service, failure
from cloche.api.connection import MAX_HEAD, MAX_JSON, Connection, Connections
from cloche.errors import ClocheError

_VERSION = re.compile(r"/v([0-9]+\.[0-9]+)(?=/)")
_log = logging.getLogger("cloche.api")


class Server:
    """Listens early, answers when the engine is ready: a client that comes in between waits instead of
    failing."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ready = asyncio.get_running_loop().create_future()
        self._connections = Connections(
            self._answer,
            access_log=None,
            keepalive_timeout=3600,
            lingering_time=5,
            # As with Docker: how an archive is packed shows in its bytes, and no JSON comes compressed.
            auto_decompress=False,
            max_line_size=MAX_HEAD,
            max_field_size=MAX_HEAD,
        )
        self._servers: list[asyncio.Server] = []
        self._paths: list[str] = []

    def ready(self) -> None:
        """The engine has started."""
        if not self._ready.done():
            self._ready.set_result(None)

    async def listen(self, listener: socket.socket) -> None:
        """Take requests from a listening socket."""
        server = await asyncio.get_running_loop().create_unix_server(
            self._connections, sock=listener, backlog=1024
        )
        self._servers.append(server)
        self._paths.append(listener.getsockname())

    async def close(self) -> None:
        """Stop listening, remove the sockets, cut what is still streaming (a log that is followed,
        events)."""
        for server in self._servers:
            server.close()
        for path in self._paths:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
        await self._connections.shutdown(timeout=0.5)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        try:
            if not self._ready.done():
                await asyncio.shield(self._ready)
            return await self._dispatch(request)
        except ClocheError as error:
            response = failure(statuses.status(error), str(error))
        except msgspec.MsgspecError as error:
            response = failure(400, f"invalid JSON: {error}")
        except web.RequestPayloadError as error:
            response = failure(400, f"the body of the request is broken: {error}")
        except web.HTTPRequestEntityTooLarge:
            response = failure(413, f"the body of the request has more than {MAX_JSON >> 20} MiB")
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            _log.exception("%s %s failed", request.method, request.path_qs)
            response = failure(
                500, f"a fault of Cloche (its log has the details): {type(error).__name__}: {error}"
            )
        finally:
            assert isinstance(connection, Connection)
            connection.end_of_request()
        if request.writer.output_size:
            # The head is out: breaking off is the only way left to say that this is not the whole answer.
            raise ConnectionResetError("failed behind the head of the answer")
        return response

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        version = versions.CURRENT
        if prefix := _VERSION.match(path):
            path = path[prefix.end() :]
            version = versions.check(prefix[1])
        handler, arguments = routes.find(request.method, path)
        return await handler(Call(request, self._service, version, path), *arguments)
