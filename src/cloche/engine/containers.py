"""The verbs on containers, in one place; each is its own module."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cloche.engine import attach, create, explain, logs, remove, rename, start, stop, top, waits
from cloche.engine.context import Context, is_running
from cloche.engine.ends import leaves_of
from cloche.engine.records import AttachRequest, Container, ContainerConfig, Explanation, LogLine
from cloche.errors import Conflict, InvalidArgument


class Containers:
    """``engine.containers``. ``ref`` is an id, a unique prefix of one, or a name."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, config: ContainerConfig, name: str | None) -> tuple[Container, list[str]]:
        """Second value: warnings. Raises ``NotFound`` (image), ``Conflict`` (name), ``InvalidArgument``,
        ``Unsupported``; then nothing was made."""
        return await create.create(self._context, config, name)

    async def start(self, ref: str) -> None:
        """Answers when the program's exec has succeeded. Raises ``NotModified`` when running. A failed
        step is an ``InvalidArgument`` with its text (Docker's 400), and leaves the container as it
        was, with exit code 126, 127 or 128."""
        await start.start(self._context, self.get(ref).id)

    async def stop(self, ref: str, timeout: int | None, signal: str | None) -> None:
        """Signal, then SIGKILL after ``timeout`` seconds (None: the container's own, -1: never). Raises
        ``NotModified`` when it does not run."""
        await stop.stop(self._context, ref, timeout, signal)

    async def kill(self, ref: str, signal: str) -> None:
        """Raises ``Conflict`` when it does not run, ``InvalidArgument`` for an unknown signal."""
        await stop.kill(self._context, ref, signal)

    async def restart(self, ref: str, timeout: int | None, signal: str | None) -> None:
        """Stop where it runs, then start."""
        await stop.restart(self._context, ref, timeout, signal)

    async def wait(self, ref: str, condition: str) -> AsyncIterator[tuple[int, str]]:
        """``not-running``, ``next-exit``, ``removed``. Returns as soon as the wait is registered (the API
        sends its response head then: the docker command depends on it); the iterator yields once,
        (code, error)."""
        return await waits.wait(self._context, ref, condition)

    async def remove(self, ref: str, force: bool, volumes: bool) -> None:
        """Raises ``Conflict`` while it runs, unless ``force``."""
        await remove.remove(self._context, ref, force)

    async def rename(self, ref: str, name: str) -> None:
        """Raises ``Conflict`` for a name in use, ``InvalidArgument`` for a bad one."""
        await rename.rename(self._context, ref, name)

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        """Raises ``Conflict`` when it does not run."""
        await attach.resize(self._context, ref, rows, columns)

    async def attach(self, ref: str, request: AttachRequest) -> None:
        """Hands the connection on (before or after the start) and returns at once."""
        await attach.attach(self._context, ref, request)

    async def top(self, ref: str, ps_args: str) -> tuple[list[str], list[list[str]]]:
        """Titles and rows of ``ps``. Raises ``Conflict`` when it does not run."""
        container = self.get(ref)
        if not is_running(container):
            raise Conflict(f"container {container.id} is not running")
        pids = self._context.cgroups.processes(leaves_of(self._context, container))
        return await top.processes(pids, ps_args)

    def get(self, ref: str) -> Container:
        """By id, unique id prefix or name (a leading slash is ignored). Raises ``NotFound``;
        ``InvalidArgument`` where ambiguous."""
        return self._context.registry.get(ref)

    async def size(self, ref: str) -> tuple[int, int]:
        """Bytes: of the writable layer, of the whole root file system."""
        container = self.get(ref)
        usage = await asyncio.to_thread(self._context.snapshots.usage, container.id)
        try:
            image = self._context.images.get(container.image_id).size
        except Exception:
            image = 0
        return usage.size, usage.size + image

    def logs(
        self, ref: str, *, follow: bool, tail: int | None, since: int, until: int, stdout: bool, stderr: bool
    ) -> AsyncIterator[list[LogLine]]:
        """Batches of lines; times in nanoseconds since the epoch, 0 is unbounded."""
        container = self.get(ref)
        if container.config.log.driver == "none":
            raise InvalidArgument("configured logging driver does not support reading")
        selection = logs.Selection(tail, since, until, stdout, stderr)
        over = self._context.supervision(container.id).over if follow else None
        return logs.read(self._context.paths.log(container.id), selection, over)

    async def explain(self, ref: str) -> Explanation:
        """The plan that ran, with its times; before the first start, the one that would run."""
        return await explain.explain(self._context, ref)

    async def explain_config(self, config: ContainerConfig) -> Explanation:
        """The plan that ``create`` and ``start`` would run; nothing is made."""
        return await explain.explain_config(self._context, config)

    def list(self) -> list[Container]:
        """All, newest first. Filtering by Docker's filters is ``cloche.engine.filters``."""
        return self._context.registry.all()
