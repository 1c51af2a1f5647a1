"""From an async stream of bytes to code that reads in a thread.

Hashing and decompressing gigabytes belongs in a thread; what comes in belongs to the event loop. Pieces are
joined to about a megabyte, a few of them wait at most, and a failure on either side ends the other. Each
stream has a thread of its own: clients that send slowly cannot use up a pool that others wait for.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from cloche.launcher.compression import CHUNK, Read

T = TypeVar("T")
_WAITING = 4


class _Cut(Exception):
    """The stream ended before its end; only the thread sees it."""


async def in_thread(source: AsyncIterator[bytes], work: Callable[[Read], T]) -> T:
    """Run ``work`` in a thread with a function that reads ``source``. What either of them raises is raised
    here, when both have ended."""
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

    with ThreadPoolExecutor(1, "feed") as thread:
        worker = asyncio.ensure_future(loop.run_in_executor(thread, work, read))
        feeder = asyncio.ensure_future(feed())
        both: set[asyncio.Future[Any]] = {worker, feeder}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if feeder.done():
                feeder.result()
            return await asyncio.shield(worker)
        finally:
            feeder.cancel()
            waiting.put(None)
            await asyncio.wait(both)
            worker.exception()
