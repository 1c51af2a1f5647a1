"""Giving a connection away: nothing that the client sent may be lost, and it must stay open."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cloche.api.call import Service
from cloche.api.listener import bind
from cloche.api.server import Server
from cloche.engine.records import AttachRequest, Container, ContainerConfig
from cloche.engine.settings import Settings
from cloche.errors import NotFound

CONTAINER = Container(
    id="c" * 64,
    name="one",
    created_at=1,
    image_id="sha256:" + "1" * 64,
    config=ContainerConfig(image="busybox"),
    entrypoint=(),
    command=("cat",),
    environment=(),
    working_dir="",
    user="",
    stop_signal="",
    labels={},
    hostname="c",
    driver="overlay2",
)


class Containers:
    """Only what these tests ask of the engine: one container, and who attached to it."""

    def __init__(self) -> None:
        self.attached: asyncio.Queue[AttachRequest] = asyncio.Queue()

    def get(self, ref: str) -> Container:
        if ref not in ("one", CONTAINER.id):
            raise NotFound(f"No such container: {ref}")
        return CONTAINER

    async def attach(self, ref: str, request: AttachRequest) -> None:
        self.attached.put_nowait(request)


Door = tuple[str, Containers, Server]


@pytest.fixture
async def door(tmp_path: Any) -> AsyncIterator[Door]:
    path = str(tmp_path / "s")
    containers = Containers()
    server = Server(Service(cast(Any, SimpleNamespace(containers=containers)), Settings(), False))
    await server.listen(bind(path))
    server.ready()
    yield path, containers, server
    await server.close()
    assert not os.path.exists(path)


async def connect(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, path)
    return client


async def receive(client: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 65536), 5)


def head(upgrade: bool, ref: str = "one", version: str = "v1.51") -> bytes:
    lines = [f"POST /{version}/containers/{ref}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1", "Host: x"]
    if upgrade:
        lines += ["Connection: Upgrade", "Upgrade: tcp"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def hijacked(client: socket.socket, containers: Containers, upgrade: bool) -> AttachRequest:
    """The request as the engine got it, after the client has seen the head of the answer."""
    answer = await receive(client)
    assert answer.startswith(b"HTTP/1.1 101 UPGRADED\r\n" if upgrade else b"HTTP/1.1 200 OK\r\n")
    assert (b"Upgrade: tcp" in answer) == upgrade
    assert b"Content-Type: application/vnd.docker.multiplexed-stream\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")
    return await asyncio.wait_for(containers.attached.get(), 5)


@pytest.mark.parametrize("upgrade", [True, False])
async def test_stdin_in_the_packet_of_the_head(door: Door, upgrade: bool) -> None:
    path, containers, _ = door
    client = await connect(path)
    stdin = b"POST /v1.51/containers/one/attach HTTP/1.1\r\n\r\n\0\xff" * 3
    client.send(head(upgrade) + stdin)
    request = await hijacked(client, containers, upgrade)
    assert request.prefix == stdin
    assert (request.stdin, request.stdout, request.stderr, request.stream) == (True, True, False, True)
    os.close(request.descriptor)
    assert await receive(client) == b""
    client.close()


@pytest.mark.parametrize("upgrade", [True, False])
async def test_head_byte_by_byte(door: Door, upgrade: bool) -> None:
    path, containers, _ = door
    client = await connect(path)
    whole = head(upgrade)
    # The first packet shows what the request is; the rest dribbles in, the last one with stdin behind it.
    cut = whole.index(b"\r\n") + 2
    client.send(whole[:cut])
    for at in range(cut, len(whole) - 1):
        client.send(whole[at : at + 1])
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    client.send(whole[-1:] + b"tail")
    request = await hijacked(client, containers, upgrade)
    assert request.prefix == b"tail"
    os.close(request.descriptor)
    client.close()


async def test_connection_stays_open_both_ways(door: Door) -> None:
    path, containers, _ = door
    client = await connect(path)
    client.send(head(True))
    request = await hijacked(client, containers, True)
    # Long enough for the server to have forgotten the connection.
    await asyncio.sleep(0.05)
    theirs = socket.socket(fileno=request.descriptor)
    client.send(b"more stdin")
    client.shutdown(socket.SHUT_WR)
    theirs.setblocking(True)
    assert theirs.recv(100) == b"more stdin"
    assert theirs.recv(100) == b""
    theirs.send(b"output after half-close")
    assert await receive(client) == b"output after half-close"
    theirs.close()
    assert await receive(client) == b""
    client.close()


async def test_connection_outlives_the_server(door: Door) -> None:
    path, containers, server = door
    client = await connect(path)
    client.send(head(True))
    request = await hijacked(client, containers, True)
    await asyncio.sleep(0.05)
    theirs = socket.socket(fileno=request.descriptor)
    await server.close()
    theirs.send(b"still here")
    assert await receive(client) == b"still here"
    theirs.close()
    client.close()


async def test_unknown_container_leaves_http_going(door: Door) -> None:
    path, _, _ = door
    client = await connect(path)
    client.send(head(True, ref="two") + b"GET /v1.51/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await receive(client)
    while b"page not found" not in answer:
        answer += await receive(client)
    first, second = answer.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"404 ")
    assert b'{"message":"No such container: two"}' in first
    assert second.startswith(b"404 ")
    client.close()


async def test_old_api_has_the_raw_type(door: Door) -> None:
    path, containers, _ = door
    client = await connect(path)
    client.send(head(True, version="v1.41"))
    assert b"Content-Type: application/vnd.docker.raw-stream\r\n" in await receive(client)
    os.close((await containers.attached.get()).descriptor)
    client.close()


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("v1.52", "client version 1.52 is too new. Maximum supported API version is 1.51"),
        (
            "v1.23",
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your "
            "client to a "
            "newer version",
        ),
    ],
)
async def test_versions_out_of_range(door: Door, version: str, message: str) -> None:
    path, _, _ = door
    client = await connect(path)
    client.send(f"GET /{version}/containers/json HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = await receive(client)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert f'{{"message":"{message}"}}'.encode() in answer
    assert b"Api-Version: 1.51\r\n" in answer
    client.close()


async def test_what_is_no_http(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    path, _, _ = door
    client = await connect(path)
    client.send(b"\x16\x03\x01 hello\r\n\r\n")
    answer = await receive(client)
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert b'{"message": ' in answer
    assert caplog.records == []
    client.close()


async def test_nothing_follows_the_head_before_it_was_read(door: Door) -> None:
    path, containers, _ = door
    client = await connect(path)
    client.send(head(True))
    await asyncio.sleep(0.03)
    assert containers.attached.empty()
    os.close((await hijacked(client, containers, True)).descriptor)
    client.close()


async def test_client_that_never_reads_is_waited_for_a_moment_only(door: Door) -> None:
    path, containers, _ = door
    client = await connect(path)
    client.send(head(True))
    os.close((await asyncio.wait_for(containers.attached.get(), 2)).descriptor)
    client.close()
