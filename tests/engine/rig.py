"""An engine under test, with the few verbs that tests use again and again."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from cloche.engine.engine import Engine
from cloche.engine.records import Container, ContainerConfig, Event
from cloche.engine.settings import Settings
from cloche.errors import ClocheError, NotFound
from cloche.launcher.client import MonitorConnection
from cloche.monitor.protocol import Status
from cloche.network import bridge

IMAGE = "busybox"


class Rig:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = Engine(settings)

    async def open(self) -> None:
        await self.engine.start()
        await self.engine.images.ensure_default()

    async def reopen(self) -> None:
        """The daemon is stopped and started; containers run on."""
        await self.engine.close()
        self.engine = Engine(self.settings)
        await self.engine.start()

    async def create(self, *command: str, name: str | None = None, **config: Any) -> Container:
        config.setdefault("network_mode", "none")
        config.setdefault("image", IMAGE)
        container, _ = await self.engine.containers.create(ContainerConfig(command=command, **config), name)
        return container

    async def start(self, *command: str, name: str | None = None, **config: Any) -> str:
        container = await self.create(*command, name=name, **config)
        await self.engine.containers.start(container.id)
        return container.id

    async def ended(self, ref: str, condition: str = "not-running") -> int:
        async with asyncio.timeout(20):
            async for code, _ in await self.engine.containers.wait(ref, condition):
                return code
        raise AssertionError("the wait had no answer")

    async def run(self, *command: str, **config: Any) -> tuple[int, str]:
        """Exit code and output, both streams; the container is removed."""
        id = await self.start(*command, **config)
        code = await self.ended(id)
        output = await self.output(id)
        await self.engine.containers.remove(id, False, False)
        return code, output

    async def output(self, ref: str, **selection: Any) -> str:
        wanted = {"follow": False, "tail": None, "since": 0, "until": 0, "stdout": True, "stderr": True}
        batches = self.engine.containers.logs(ref, **{**wanted, **selection})
        return b"".join([line.data async for batch in batches for line in batch]).decode()

    async def remove(self, ref: str) -> None:
        await self.engine.containers.remove(ref, True, False)

    async def until(self, ref: str, text: str) -> None:
        """Wait until the container has said something."""
        async with asyncio.timeout(10):
            while text not in await self.output(ref):
                await asyncio.sleep(0.02)

    async def events(self, since: int, until: int) -> list[Event]:
        return [event async for event in self.engine.events.subscribe(since, until)]

    async def monitor(self, id: str) -> int:
        """Pid of the container's monitor, as it says itself."""
        connection = await MonitorConnection.connect(f"{self.settings.run_dir}/c/{id[:12]}")
        async for message in connection:
            assert isinstance(message, Status)
            break
        connection.close()
        return message.monitor_pid

    async def clean(self) -> None:
        """Nothing is left of containers that are gone: what takes a moment has one."""
        for _ in range(100):
            if not self.left_over():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(self.left_over())

    def left_over(self) -> list[str]:
        """Directories and cgroups that belong to no container."""
        known = {container.id for container in self.engine.containers.list()}
        short = {id[:12] for id in known}
        found = [name for name in os.listdir(f"{self.settings.root}/containers") if name not in known]
        found += [name for name in os.listdir(f"{self.settings.run_dir}/c") if name not in short]
        for directory in self._parents():
            found += [name for name in os.listdir(directory) if len(name) == 64 and name not in known]
        return found

    def _parents(self) -> list[str]:
        mounts = [f"/sys/fs/cgroup/{name}" for name in os.listdir("/sys/fs/cgroup")] + ["/sys/fs/cgroup"]
        parents = (f"{mount}/{self.settings.name}" for mount in mounts)
        return [parent for parent in parents if os.path.isdir(parent)]

    async def tear_down(self) -> None:
        # A test that failed may have left the engine closed.
        await self.reopen()
        context = self.engine._context
        for container in self.engine.containers.list():
            try:
                await self.remove(container.id)
            except NotFound:
                continue
        if os.path.exists(f"/sys/class/net/{self.settings.name}0"):
            await context.launcher.run_plan(bridge.find(self.settings.name, "").teardown())
        await self.engine.close()
        for parent in self._parents():
            await _gone(parent)


async def _gone(parent: str) -> None:
    """The last container's cgroups go a moment after its end."""
    for _ in range(100):
        try:
            os.rmdir(parent)
            return
        except OSError:
            await asyncio.sleep(0.05)
    raise ClocheError(f"{parent} is still in use: {os.listdir(parent)}")
