"""Removing a container: the row goes first, then what it stood for; real deletion comes later."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from cloche.engine.context import Context, is_running
from cloche.engine.records import Container
from cloche.errors import ClocheError, Conflict, NotFound, Unavailable

_log = logging.getLogger(__name__)

KILL_DEADLINE = 10.0
"""Seconds that a killed container may take to end; a process in uninterruptible sleep takes as long as
its disk."""


async def remove(context: Context, ref: str, force: bool) -> None:
    """See ``Containers.remove``."""
    container = context.registry.get(ref)
    id = container.id
    owner = context.supervision(id).owner
    while True:
        if is_running(container):
            if not force:
                raise Conflict(
                    f'cannot remove container "/{container.name}": container is running: '
                    "stop the container before removing or force remove"
                )
            await _kill(context, container)
        # Somebody may have started it in between; then it is all to be done again.
        running = await owner.run("remove", lambda: _remove(context, id, force))
        if running is None:
            return
        container = running


async def _kill(context: Context, container: Container) -> None:
    supervision = context.supervision(container.id)
    ended = supervision.next_exit()
    monitor = supervision.monitor
    if monitor is None or not is_running(context.registry.by_id(container.id) or container):
        ended.cancel()
        return
    context.events.container("kill", container, signal=str(int(signal.SIGKILL)))
    try:
        await monitor.signal(signal.SIGKILL)
    except ClocheError:
        # The monitor is gone: whoever follows it will find out and settle the end.
        pass
    try:
        await asyncio.wait_for(ended, KILL_DEADLINE)
    except TimeoutError:
        raise Unavailable(
            f'cannot remove container "/{container.name}": could not kill container: it did not end within '
            f"{KILL_DEADLINE:.0f} s of SIGKILL"
        ) from None


async def _remove(context: Context, id: str, force: bool) -> Container | None:
    """Take it away, unless it runs: then it is returned."""
    container = context.registry.by_id(id)
    if container is None:
        if force:
            return None
        raise NotFound(f"No such container: {id}")
    if is_running(container):
        return container
    await take_away(context, container)
    return None


async def take_away(context: Context, container: Container, error: str = "") -> None:
    """Row, snapshot, directories and name of a container that does not run, in its owner's turn.

    ``error`` is for those who wait for its end: what went wrong in its run."""
    id = container.id
    supervision = context.supervision(id)
    try:
        await context.registry.forget(container)
    except Unavailable:
        # On a full disk what is to go makes the room for writing that it has gone.
        _discard(context, container)
        await context.trash.empty()
        await context.registry.forget(container)
    context.networking.release(container)
    _discard(context, container)
    context.trash.collect_soon()
    context.events.container("destroy", container)
    supervision.removed(container.state.exit_code, error)
    context.dismiss(id)


def _discard(context: Context, container: Container) -> None:
    try:
        context.snapshots.remove(container.id)
        context.trash.discard(context.paths.container(container.id))
        if container.state.started_at:
            unlink(context.paths.socket(container.id))
    except OSError as problem:
        # Nothing names it any more: the next start of the daemon collects it.
        _log.warning("remains of container %s: %s", container.id[:12], problem)


def unlink(path: str) -> None:
    """Remove a file that may not be there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
