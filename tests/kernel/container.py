"""A busybox root file system, plans for it, and a daemon's view of what becomes of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from pathlib import Path

from cloche.cgroups import layout
from cloche.cgroups.contract import Resources
from cloche.launcher.client import Launcher, MonitorConnection
from cloche.monitor.protocol import (
    Attachment,
    ExitRecord,
    FromMonitor,
    LogConfig,
    MonitorConfig,
    OomWatch,
    Started,
    StartFailed,
    Status,
)
from cloche.plan.plan import Plan
from cloche.plan.steps import MountOverlay
from cloche.runtime import defaults, planner
from cloche.runtime.spec import Capabilities, Linux, Process, Root, Spec

PARENT = "cloche-test-launcher"
NO_LIMITS = Resources()
PATIENCE = 10.0
"""Seconds after which a test that waits has failed."""


class Box:
    """Containers of one test: made below ``directory``, gone with ``close``."""

    def __init__(self, directory: Path, launcher: Launcher) -> None:
        self.directory = directory
        self.launcher = launcher
        self.layout = layout.detect()
        self.planner = layout.planner(self.layout)
        self._leaves: list[tuple[str, ...]] = []
        self._count = 0
        binaries = directory / "lower/bin"
        binaries.mkdir(parents=True)
        busybox = shutil.which("busybox")
        assert busybox, "install busybox-static"
        shutil.copy(busybox, binaries / "busybox")
        for name in [
            "sh",
            "cat",
            "echo",
            "sleep",
            "yes",
            "head",
            "true",
            "stty",
            "kill",
            "ls",
            "seq",
            "dd",
            "tail",
            "grep",
            "base64",
        ]:
            (binaries / name).symlink_to("busybox")
        for name in ("proc", "sys", "dev", "etc", "tmp"):
            (directory / "lower" / name).mkdir()

    def plan(self, *args: str, terminal: bool = False, resources: Resources = NO_LIMITS) -> tuple[Plan, str]:
        """A plan with Docker's defaults (no seccomp) for ``args``, and the container's id."""
        self._count += 1
        name = f"c{self._count}-{os.getpid()}"
        base = self.directory / name
        for part in ("upper", "work", "rootfs", "run"):
            (base / part).mkdir(parents=True)
        placement = self.planner.place(self.layout, PARENT, name, resources)
        self._leaves.append(placement.leaves)
        capabilities = Capabilities(*[defaults.CAPABILITIES] * 2, (), defaults.CAPABILITIES)
        spec = Spec(
            "1.2.0",
            Root("rootfs"),
            Process("/", args, (defaults.ENVIRONMENT_PATH,), terminal, capabilities=capabilities),
            defaults.mounts(),
            "box",
            linux=Linux(
                defaults.NAMESPACES,
                masked_paths=defaults.MASKED_PATHS,
                readonly_paths=defaults.READONLY_PATHS,
            ),
        )
        target = str(base / "rootfs")
        overlay = MountOverlay(
            (str(self.directory / "lower"),), str(base / "upper"), str(base / "work"), target
        )
        inputs = planner.Inputs(
            id=name, rootfs=(overlay,), rootfs_target=target, placement=placement, user="0"
        )
        return planner.plan(spec, inputs), name

    def config(self, name: str, *attach: Attachment, **changes: object) -> MonitorConfig:
        base = self.directory / name
        values: dict[str, object] = {
            "id": name,
            "socket_path": str(base / "run/monitor.sock"),
            "exit_path": str(base / "exit"),
            "terminal": False,
            "rows": 24,
            "columns": 80,
            "open_stdin": False,
            "stdin_once": False,
            "log": LogConfig("json-file", str(base / "log"), 64 << 20, 4, True),
            "oom": OomWatch(self.layout.version, self._oom_path()),
            "cgroup_paths": self._leaves[-1],
            "attach": attach,
            "start_limit": 100,
        }
        return MonitorConfig(**(values | changes))  # type: ignore[arg-type]

    def _oom_path(self) -> str:
        leaves = self._leaves[-1]
        if self.layout.version == 2:
            return f"{leaves[0]}/memory.events"
        memory = self.layout.mounts.get("memory", "")
        return next(
            (f"{leaf}/memory.oom_control" for leaf in leaves if memory and leaf.startswith(memory)), ""
        )

    async def launch(
        self,
        *args: str,
        attach: tuple[Attachment, ...] = (),
        descriptors: tuple[int, ...] = (),
        terminal: bool = False,
        resources: Resources = NO_LIMITS,
        **changes: object,
    ) -> tuple[Running, str]:
        """Launch and see it started."""
        plan, name = self.plan(*args, terminal=terminal, resources=resources)
        config = self.config(name, *attach, terminal=terminal, **changes)
        monitor = await self.launcher.launch(config, plan.host, plan.container, descriptors)
        running = Running(monitor)
        await running.until(Started, StartFailed)
        return running, name

    def log(self, name: str) -> str:
        return (self.directory / name / "log").read_text()

    def cgroups(self) -> list[str]:
        """Containers' cgroup directories that are there."""
        return [leaf for leaves in self._leaves for leaf in leaves if os.path.exists(leaf)]

    def close(self) -> None:
        for leaves in self._leaves:
            try:
                self.planner.kill(leaves)
                self.planner.remove(leaves)
            except FileNotFoundError:
                # A monitor was quicker.
                pass
            for leaf in leaves:
                try:
                    os.rmdir(os.path.dirname(leaf))
                except OSError:
                    pass


class Running:
    """A monitor's connection, and what it has told."""

    def __init__(self, monitor: MonitorConnection) -> None:
        self.monitor = monitor
        self.told: list[FromMonitor] = []

    async def until(self, *kinds: type) -> FromMonitor:
        """The next message of one of these kinds; fails where the connection ends before."""
        async with asyncio.timeout(PATIENCE):
            async for message in self.monitor:
                self.told.append(message)
                if isinstance(message, kinds):
                    return message
        raise AssertionError(f"the monitor ended after {self.told}")

    @property
    def started(self) -> Started:
        return next(message for message in self.told if isinstance(message, Started))

    @property
    def status(self) -> Status:
        return next(message for message in self.told if isinstance(message, Status))

    async def exit(self) -> ExitRecord:
        """See it end, and let the monitor go."""
        record = await self.until(ExitRecord)
        assert isinstance(record, ExitRecord)
        await self.monitor.release()
        async with asyncio.timeout(PATIENCE):
            async for _ in self.monitor:
                pass
        self.monitor.close()
        return record


class Client:
    """The far end of an attached connection."""

    def __init__(self) -> None:
        self.socket, near = socket.socketpair()
        self.descriptor = near.detach()
        """To be handed to the monitor."""
        self.socket.setblocking(False)

    async def read(self, until: bytes | None = None) -> bytes:
        """Up to the end of the connection, or until ``until`` came by."""
        data = b""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while until is None or until not in data:
                if not (part := await loop.sock_recv(self.socket, 1 << 16)):
                    break
                data += part
        return data

    def send(self, data: bytes, end: bool = False) -> None:
        self.socket.sendall(data)
        if end:
            self.socket.shutdown(socket.SHUT_WR)


def unframe(data: bytes) -> dict[int, bytes]:
    """Docker's multiplexed stream, by stream number."""
    streams = {1: b"", 2: b""}
    while data:
        size = int.from_bytes(data[4:8], "big")
        streams[data[0]] += data[8 : 8 + size]
        data = data[8 + size :]
    return streams
