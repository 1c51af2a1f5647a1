"""Clients on a container's streams, before and after its start."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from rig import Rig

from cloche.engine.attach import parse_keys
from cloche.engine.records import AttachRequest
from cloche.errors import Conflict, InvalidArgument


async def attach(rig: Rig, ref: str, prefix: bytes = b"", logs: bool = False) -> socket.socket:
    """The client's end of a connection to the container."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    request = AttachRequest(theirs.detach(), True, True, True, True, logs, prefix, "")
    await rig.engine.containers.attach(ref, request)
    return ours


async def all_of(connection: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    received = b""
    async with asyncio.timeout(10):
        while chunk := await loop.sock_recv(connection, 65536):
            received += chunk
    connection.close()
    return received


def unframed(data: bytes) -> list[tuple[int, bytes]]:
    frames = []
    while data:
        stream, size = struct.unpack(">BxxxL", data[:8])
        frames.append((stream, data[8 : 8 + size]))
        data = data[8 + size :]
    return frames


async def test_a_client_attached_before_the_start_misses_nothing(rig: Rig) -> None:
    created = await rig.create("sh", "-c", "echo out; echo err >&2")
    connection = await attach(rig, created.id)
    await rig.engine.containers.start(created.id)
    assert sorted(unframed(await all_of(connection))) == [(1, b"out\n"), (2, b"err\n")]
    await rig.remove(created.id)


async def test_stdin_with_what_came_with_the_request_and_half_close(rig: Rig) -> None:
    created = await rig.create("cat", open_stdin=True, stdin_once=True)
    connection = await attach(rig, created.id, prefix=b"one ")
    await rig.engine.containers.start(created.id)
    await asyncio.get_running_loop().sock_sendall(connection, b"two\n")
    connection.shutdown(socket.SHUT_WR)
    assert b"".join(data for _, data in unframed(await all_of(connection))) == b"one two\n"
    assert await rig.ended(created.id) == 0
    await rig.remove(created.id)


async def test_a_late_client_gets_the_log_first_when_it_asks(rig: Rig) -> None:
    id = await rig.start("sh", "-c", "echo early; sleep 0.4; echo late")
    await rig.until(id, "early")
    connection = await attach(rig, id, logs=True)
    assert b"".join(data for _, data in unframed(await all_of(connection))) == b"early\nlate\n"
    await rig.remove(id)


async def test_a_terminal_and_its_size(rig: Rig) -> None:
    command = ("sh", "-c", "trap 'stty size; exit 0' WINCH; stty size; while :; do sleep 0.05; done")
    created = await rig.create(*command, terminal=True, open_stdin=True)
    await rig.engine.containers.resize(created.id, 30, 100)
    connection = await attach(rig, created.id)
    await rig.engine.containers.start(created.id)
    await rig.until(created.id, "30 100")
    await rig.engine.containers.resize(created.id, 31, 101)
    assert await all_of(connection) == b"30 100\r\n31 101\r\n"
    assert await rig.ended(created.id) == 0
    with pytest.raises(Conflict):
        await rig.engine.containers.resize(created.id, 1, 1)
    await rig.remove(created.id)


async def test_detach_keys_leave_the_container_running(rig: Rig) -> None:
    created = await rig.create("sh", terminal=True, open_stdin=True)
    connection = await attach(rig, created.id)
    await rig.engine.containers.start(created.id)
    await asyncio.get_running_loop().sock_sendall(connection, b"\x10\x11")
    await all_of(connection)
    assert rig.engine.containers.get(created.id).state.status == "running"
    await rig.remove(created.id)


async def test_a_client_of_a_container_that_never_starts_is_let_go(rig: Rig) -> None:
    created = await rig.create("no-such-command")
    connection = await attach(rig, created.id)
    with pytest.raises(InvalidArgument):
        await rig.engine.containers.start(created.id)
    assert await all_of(connection) == b""
    other = await attach(rig, created.id)
    await rig.remove(created.id)
    assert await all_of(other) == b""


async def test_detach_keys_are_parsed_as_docker_writes_them(rig: Rig) -> None:
    assert parse_keys("") == b"\x10\x11"
    assert parse_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_keys("a,ctrl-],ctrl-@") == b"a\x1d\x00"
    with pytest.raises(InvalidArgument, match="Invalid detach keys"):
        parse_keys("ctrl-1")
