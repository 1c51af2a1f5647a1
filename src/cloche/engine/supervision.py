"""What the engine holds of one container beside its record: none of it is stored, all of it can be found
again."""

from __future__ import annotations

import asyncio
import os

import msgspec

from cloche.engine.owner import Owner
from cloche.launcher.client import MonitorConnection
from cloche.monitor.protocol import Attachment
from cloche.plan.plan import Plan
from cloche.plan.step import Trace

Exit = tuple[int, str]
"""Exit code, and the error text where there is one."""


class Attached(msgspec.Struct, frozen=True):
    """A client that attached before the start and goes with the launch."""

    descriptor: int
    attachment: Attachment


class Supervision:
    """One container's owner, its monitor while it runs, and who waits for it."""

    def __init__(self, id: str) -> None:
        self.owner = Owner(id[:12])
        self.monitor: MonitorConnection | None = None
        self.watcher: asyncio.Task[None] | None = None
        self.waiting: list[Attached] = []
        self.size = (0, 0)
        """Rows and columns that a client asked for before the start."""
        self.keep = False
        """A restart is under way: the end of this run must not remove the container."""
        self.plan: Plan | None = None
        self.trace: Trace | None = None
        self.over = asyncio.Event()
        """Set while it does not run and its log is whole."""
        self.over.set()
        self._exits: set[asyncio.Future[Exit]] = set()
        self._removals: set[asyncio.Future[Exit]] = set()

    def next_exit(self) -> asyncio.Future[Exit]:
        """Done at the end of the present run, or of the next one."""
        return _register(self._exits)

    def removal(self) -> asyncio.Future[Exit]:
        return _register(self._removals)

    def exited(self, code: int, error: str) -> None:
        self.over.set()
        _answer(self._exits, (code, error))

    def removed(self, code: int, error: str) -> None:
        """Nobody waits in vain for the next exit of a container that is gone."""
        self.let_go()
        _answer(self._exits, (code, error))
        _answer(self._removals, (code, error))

    def let_go(self) -> None:
        """Close the connections of clients that waited for a start that will not come."""
        for attached in self.waiting:
            os.close(attached.descriptor)
        self.waiting.clear()


def _register(waiters: set[asyncio.Future[Exit]]) -> asyncio.Future[Exit]:
    future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
    waiters.add(future)
    future.add_done_callback(waiters.discard)
    return future


def _answer(waiters: set[asyncio.Future[Exit]], exit: Exit) -> None:
    for future in list(waiters):
        if not future.done():
            future.set_result(exit)
