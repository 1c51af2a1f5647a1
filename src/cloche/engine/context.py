"""What every verb works with: the parts below the engine, and the tables of the present."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from typing import Any

from cloche.cgroups.contract import Layout, Planner
from cloche.cgroups.layout import detect, planner
from cloche.engine.events import Events
from cloche.engine.networking import Networking
from cloche.engine.records import Container
from cloche.engine.registry import Registry
from cloche.engine.seccomp import FilterCache
from cloche.engine.settings import Settings
from cloche.engine.supervision import Supervision
from cloche.engine.trash import Trash
from cloche.images.store import ImageStore
from cloche.launcher.client import Launcher
from cloche.snapshots.contract import Snapshotter
from cloche.state.store import Store

_log = logging.getLogger(__name__)

GRACE = 3.0
"""Seconds that verbs have to end when the engine closes."""


class Paths:
    """Where things are, below the root and the run directory."""

    def __init__(self, settings: Settings) -> None:
        self.root = os.path.abspath(settings.root)
        self.run = os.path.abspath(settings.run_dir)
        self.state = f"{self.root}/state.db"
        self.content = f"{self.root}/content"
        self.snapshots = f"{self.root}/overlay2"
        self.containers = f"{self.root}/containers"
        self.trash = f"{self.root}/trash"
        self.seccomp = f"{self.root}/seccomp"
        self.monitors = f"{self.run}/c"
        self.rootfs = f"{self.run}/rootfs"
        """Where each container mounts its root file system, in its own mount namespace."""

    def make(self) -> None:
        os.makedirs(self.root, 0o711, exist_ok=True)
        for path in (self.containers, self.trash, self.seccomp):
            os.makedirs(path, 0o710, exist_ok=True)
        self.make_run()

    def make_run(self) -> None:
        """What a start needs of the run directory, which somebody may have cleaned since the last one."""
        if not (os.path.isdir(self.rootfs) and os.path.isdir(self.monitors)):
            os.makedirs(self.run, 0o711, exist_ok=True)
            os.makedirs(self.rootfs, 0o711, exist_ok=True)
            os.makedirs(self.monitors, 0o710, exist_ok=True)

    def container(self, id: str) -> str:
        return f"{self.containers}/{id}"

    def log(self, id: str) -> str:
        return f"{self.containers}/{id}/{id}-json.log"

    def exit(self, id: str) -> str:
        return f"{self.containers}/{id}/exit"

    def plan(self, id: str) -> str:
        """The plan of the last run, and its trace."""
        return f"{self.containers}/{id}/plan"

    def socket(self, id: str) -> str:
        """Of the container's monitor. Short: the path of a unix socket has at most 107 bytes."""
        return f"{self.monitors}/{id[:12]}"


class Context:
    def __init__(
        self,
        settings: Settings,
        paths: Paths,
        store: Store,
        snapshots: Snapshotter,
        images: ImageStore,
        launcher: Launcher,
    ) -> None:
        self.settings = settings
        self.paths = paths
        self.store = store
        self.snapshots = snapshots
        self.images = images
        self.launcher = launcher
        self.layout: Layout = detect()
        self.cgroups: Planner = planner(self.layout)
        self.registry = Registry(store)
        self.events = Events()
        self.networking = Networking(settings.name, settings.bridge_subnet, launcher)
        self.filters = FilterCache(paths.seccomp)
        self.trash = Trash(paths.trash, snapshots)
        self._supervisions: dict[str, Supervision] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def supervision(self, id: str) -> Supervision:
        found = self._supervisions.get(id)
        if found is None:
            found = self._supervisions[id] = Supervision(id)
        return found

    def dismiss(self, id: str) -> None:
        self._supervisions.pop(id, None)

    def background(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Let something run beside; what goes wrong in it is logged."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("%s: %s", task.get_name(), error, exc_info=error)

    async def close(self) -> None:
        """Let go of the monitors and of all that runs beside; containers run on."""
        await self._finish_verbs()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for supervision in self._supervisions.values():
            supervision.let_go()
            if supervision.monitor:
                supervision.monitor.close()
        await self.trash.close()

    async def _finish_verbs(self) -> None:
        """What clients were not told of may as well be done, or undone: not for ever, the next daemon copes
        with whatever it finds."""
        owners = [supervision.owner for supervision in self._supervisions.values()]
        try:
            async with asyncio.timeout(GRACE):
                for owner in owners:
                    await owner.idle()
                async with self.images.lock:
                    return
        except TimeoutError:
            _log.warning("the engine closes in the midst of something that takes long")


def is_running(container: Container) -> bool:
    return container.state.status == "running"
