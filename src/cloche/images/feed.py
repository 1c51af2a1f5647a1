"""From an async stream of bytes to code that reads in a thread, and back.

Hashing and decompressing gigabytes belongs in a thread; what comes in belongs to the event loop. Pieces are
joined to about a megabyte, a few of them wait at most, and a failure on either side ends the other."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from cloche.errors import Unavailable
from cloche.launcher.compression import CHUNK, Read

T = TypeVar("T")
_WAITING = 4


class _Cut(Exception):
    """The stream ended before its end."""


async def in_thread(source: AsyncIterator[bytes], work: Callable[[Read], T]) -> T:
    """Run ``work`` in a thread with a function that reads ``source``. What ``source`` raises is raised
    here."""
    loop = asyncio.get_running_loop()
    waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    room = asyncio.Semaphore(_WAITING)
    rest = b""
    ended = False

    def read(length: int) -> bytes:
        nonlocal rest, ended
        if not rest and not ended:
            item = waiting.get()
            if item is None:
                raise _Cut
            rest, ended = item, not item
            loop.call_soon_threadsafe(room.release)
        data, rest = rest[:length], rest[length:]
        return data

    async def feed() -> None:
        pieces: list[bytes] = []
        size = 0
        async for piece in source:
            pieces.append(piece)
            size += len(piece)
            if size >= CHUNK:
                await room.acquire()
                waiting.put(b"".join(pieces))
                pieces, size = [], 0
        if size:
            waiting.put(b"".join(pieces))
        waiting.put(b"")

    worker = asyncio.ensure_future(asyncio.to_thread(work, read))
    feeder = asyncio.ensure_future(feed())
    try:
        await asyncio.wait({worker, feeder}, return_when=asyncio.FIRST_COMPLETED)
        if feeder.done():
            feeder.result()
        return await worker
    except _Cut:
        raise Unavailable("the stream was cut off") from None
    finally:
        feeder.cancel()
        waiting.put(None)
        if not worker.done():
            await asyncio.wait({worker})
            worker.exception()
