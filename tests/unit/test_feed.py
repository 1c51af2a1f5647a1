import asyncio
from collections.abc import AsyncIterator

import pytest

from cloche.images.feed import in_thread
from cloche.launcher.compression import Read


async def source(*pieces: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if error:
        raise error


def everything(read: Read) -> bytes:
    data = b""
    while piece := read(1000):
        assert len(piece) <= 1000
        data += piece
    return data


async def test_all_bytes_arrive_in_order() -> None:
    pieces = [bytes([n % 256]) * (n * 37 % 5000) for n in range(1000)]
    assert await in_thread(source(*pieces), everything) == b"".join(pieces)
    assert await in_thread(source(), everything) == b""


async def test_what_the_stream_raises_ends_the_thread() -> None:
    with pytest.raises(ConnectionResetError):
        await in_thread(source(b"x" * 10, error=ConnectionResetError()), everything)


async def test_what_the_thread_raises_ends_the_stream() -> None:
    ended = False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal ended
        try:
            while True:
                yield b"x" * 100_000
                await asyncio.sleep(0)
        finally:
            ended = True

    def refuse(read: Read) -> None:
        read(10)
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        await in_thread(endless(), refuse)
    await asyncio.sleep(0)
    assert ended


async def test_cancellation_ends_both() -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    task = asyncio.create_task(in_thread(stalled(), everything))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_slow_streams_do_not_use_up_the_threads_of_others() -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    tasks = [asyncio.create_task(in_thread(stalled(), everything)) for _ in range(40)]
    await asyncio.sleep(0.05)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 2) == "free"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
