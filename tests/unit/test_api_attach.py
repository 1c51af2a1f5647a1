"""The connection that an attach gave away, when the engine then says no."""

from __future__ import annotations

import os
import socket
import tempfile
from types import SimpleNamespace
from typing import Any, cast

from cloche.api import streams
from cloche.api.call import Call
from cloche.engine.records import AttachRequest
from cloche.errors import NotFound


async def test_an_error_goes_to_the_client_and_to_no_file_that_was_opened_since() -> None:
    client, server = socket.socketpair()
    opened = []

    class Containers:
        def get(self, ref: str) -> Any:
            return SimpleNamespace(id=ref, config=SimpleNamespace(terminal=True))

        async def attach(self, ref: str, request: AttachRequest) -> None:
            os.close(request.descriptor)
            file = tempfile.TemporaryFile()
            opened.append(file)
            os.dup2(file.fileno(), request.descriptor)
            raise NotFound(f"No such container: {ref}")

    async def give_away(head: bytes) -> tuple[int, bytes]:
        return server.detach(), b""

    call = SimpleNamespace(
        engine=SimpleNamespace(containers=Containers()),
        connection=SimpleNamespace(give_away=give_away),
        request=SimpleNamespace(headers={}),
        query={},
        version=(1, 51),
    )
    await streams.attach(cast(Call, call), "c")
    assert os.fstat(opened[0].fileno()).st_size == 0
    assert client.recv(1000) == b"No such container: c\n"
    assert client.recv(1000) == b""
    opened[0].close()
