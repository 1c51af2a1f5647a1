"""The engine: what the doors call. Every verb is async, raises ``cloche.errors`` and returns frozen records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from cloche.engine.records import Container, ContainerConfig, Event
from cloche.images.model import Image
from cloche.plan.step import Trace


class AttachRequest(msgspec.Struct, frozen=True):
    """A hijacked client connection: its descriptor belongs to the engine from the call on."""

    descriptor: int
    stdin: bool
    stdout: bool
    stderr: bool
    stream: bool
    """False with ``logs`` True: replay only."""
    logs: bool
    prefix: bytes
    """What the client had sent behind the request head."""
    detach_keys: str
    """Docker's syntax, ``ctrl-p,ctrl-q``; empty is the default."""


class LogLine(msgspec.Struct, frozen=True):
    stream: str
    time: str
    """RFC 3339 with nanoseconds, as in the log."""
    data: bytes


class ContainerVerbs(Protocol):
    """``engine.containers``."""

    async def create(self, config: ContainerConfig, name: str | None) -> tuple[Container, list[str]]:
        """Second value: warnings. NotFound (image), Conflict (name), InvalidArgument."""

    async def start(self, ref: str) -> None:
        """Answers when the program's exec has succeeded. NotModified when running. A failed exec is InvalidArgument with
        the step failure's text (Docker's 400), and leaves the container ``created`` with exit code 126/127/128."""

    async def stop(self, ref: str, timeout: int | None, signal: str | None) -> None: ...
    async def kill(self, ref: str, signal: str) -> None: ...
    async def restart(self, ref: str, timeout: int | None, signal: str | None) -> None: ...
    async def wait(self, ref: str, condition: str) -> AsyncIterator[tuple[int, str]]:
        """``not-running``, ``next-exit``, ``removed``. Returns as soon as the wait is registered (the API sends its
        response head then: the docker command depends on it); the iterator yields once, (code, error)."""
        raise NotImplementedError

    async def remove(self, ref: str, force: bool, volumes: bool) -> None: ...
    async def rename(self, ref: str, name: str) -> None: ...
    async def resize(self, ref: str, rows: int, columns: int) -> None: ...
    async def attach(self, ref: str, request: AttachRequest) -> None:
        """Hands the connection on (before or after the start) and returns at once."""

    async def top(self, ref: str, ps_args: str) -> tuple[list[str], list[list[str]]]: ...
    def get(self, ref: str) -> Container:
        """By id, unique id prefix or name (a leading slash is ignored). NotFound; InvalidArgument where ambiguous."""

    def list(self) -> list[Container]:
        """All, newest first. Filtering by Docker's filters is ``cloche.engine.filters``."""

    async def size(self, ref: str) -> tuple[int, int]:
        """Bytes: of the writable layer, of the whole root file system."""

    def logs(
        self, ref: str, *, follow: bool, tail: int | None, since: int, until: int, stdout: bool, stderr: bool
    ) -> AsyncIterator[list[LogLine]]:
        """Batches of lines; times in nanoseconds since the epoch, 0 is unbounded."""

    async def explain(self, ref: str) -> Explanation: ...
    async def explain_config(self, config: ContainerConfig) -> Explanation:
        """The plan that ``create`` and ``start`` would run; nothing is made."""


class Explanation(msgspec.Struct, frozen=True):
    """A plan and, where it ran, its times. ``text``/``shell``/``data`` are renderings of the same steps."""

    container: Container | None
    text: str
    shell: str
    data: msgspec.Raw
    """JSON for programs: sides, steps (name, fields, description, shell), times."""
    trace: Trace | None


class ImageVerbs(Protocol):
    """``engine.images``."""

    def get(self, ref: str) -> Image:
        """By reference, id or unique id prefix. NotFound says how to get the image."""

    def list(self) -> list[Image]: ...
    async def load(self, archive: AsyncIterator[bytes]) -> AsyncIterator[str]:
        """``docker load`` (docker-archive and OCI layout tars, gzip/zstd/xz too); yields ``Loaded image: ...`` lines."""
        raise NotImplementedError

    async def import_(
        self, stream: AsyncIterator[bytes], ref: str, changes: list[str], message: str, platform: str
    ) -> Image: ...
    async def save(self, refs: list[str]) -> AsyncIterator[bytes]:
        raise NotImplementedError

    async def tag(self, ref: str, repository: str, tag: str) -> None: ...
    async def remove(self, ref: str, force: bool, prune: bool) -> list[tuple[str, str]]:
        """Pairs (``Untagged``|``Deleted``, what). Conflict while a container uses it."""

    async def history(self, ref: str) -> list[dict[str, object]]:
        """Docker's rows: Id, Created, CreatedBy, Tags, Size, Comment."""
        raise NotImplementedError

    async def from_host(self, name: str, commands: list[str]) -> Image:
        """An image of host commands with what they need, found by reading ELF headers."""
        raise NotImplementedError

    async def ensure_default(self) -> Image:
        """``busybox:latest`` from the host's static busybox where it is not there yet."""
        raise NotImplementedError


class EventStream(Protocol):
    """``engine.events``."""

    def subscribe(self, since: int, until: int) -> AsyncIterator[Event]:
        """Past ones (kept in a bounded ring) from ``since``, then live ones until ``until`` (0: for ever)."""
        raise NotImplementedError


class EngineProtocol(Protocol):
    containers: ContainerVerbs
    images: ImageVerbs
    events: EventStream

    async def start(self) -> None:
        """Open the state, start the launcher, find the running containers again."""

    async def close(self) -> None:
        """Let go; containers run on."""

    def info(self) -> EngineInfo: ...


class EngineInfo(msgspec.Struct, frozen=True):
    id: str
    root: str
    driver: str
    driver_status: tuple[tuple[str, str], ...]
    cgroup_driver: str
    cgroup_version: int
    memory_limit: bool
    swap_limit: bool
    pids_limit: bool
    cpu_quota: bool
    cpu_shares: bool
    cpuset: bool
    containers: int
    running: int
    stopped: int
    images: int
    ipv4_forwarding: bool
    security_options: tuple[str, ...]
    warnings: tuple[str, ...]
