"""Deletion off the path of any answer: what is removed is renamed into the trash, and a worker empties it.

One thread of the lowest priority, woken some time after the last removal, so that it does not compete with
starts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import threading

from cloche.snapshots.contract import Snapshotter
from cloche.snapshots.deletion import delete

_log = logging.getLogger(__name__)

QUIET = 1.0
"""Seconds to wait for further removals, which put the work off."""
PATIENCE = 10.0
"""Seconds after which it is not put off any more."""


class Trash:
    def __init__(self, directory: str, snapshots: Snapshotter) -> None:
        self._directory = directory
        self._snapshots = snapshots
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._worker: asyncio.Future[None] | None = None

    def discard(self, path: str) -> None:
        """Take a directory away at once; a missing one is fine."""
        try:
            os.rename(path, f"{self._directory}/engine-{secrets.token_hex(8)}")
        except FileNotFoundError:
            return

    def collect_soon(self) -> None:
        """Empty the trash when it has become quiet, by a thread of its own."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._timer is None:
            self._due = now + PATIENCE
        else:
            self._timer.cancel()
        self._timer = loop.call_at(min(now + QUIET, self._due), self._begin)

    async def empty(self) -> None:
        """Now, and wait for it: somebody needs the room."""
        if self._worker and not self._worker.done():
            await asyncio.wait([self._worker])
        self._worker = asyncio.get_running_loop().run_in_executor(None, self._empty)
        await asyncio.shield(self._worker)

    def _begin(self) -> None:
        self._timer = None
        if self._worker and not self._worker.done():
            self.collect_soon()
            return
        self._worker = asyncio.get_running_loop().run_in_executor(None, self._empty)

    def _empty(self) -> None:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, 19)
        try:
            self._snapshots.collect()
            for name in os.listdir(self._directory):
                if name.startswith("engine-"):
                    delete(self._directory, name)
        except OSError as error:
            _log.warning("the trash in %s cannot be emptied: %s", self._directory, error)
        finally:
            os.setpriority(os.PRIO_PROCESS, thread, 0)

    async def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._worker:
            await asyncio.wait([self._worker])
