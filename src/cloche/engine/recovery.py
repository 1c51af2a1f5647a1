"""Finding everything again after a restart of the daemon, however the last one ended.

The rows say which containers there are; monitors and exit records say how they are. What belongs to no row
was left by a creation or a removal that a crash interrupted, and goes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from msgspec.structs import replace

from cloche.engine import ends, remove
from cloche.engine.context import Context, is_running
from cloche.engine.records import Container
from cloche.errors import ClocheError, Unavailable
from cloche.launcher.client import MonitorConnection
from cloche.monitor.protocol import Started, StartFailed, Status

_log = logging.getLogger(__name__)

STATUS_DEADLINE = 10.0
"""Seconds that a living monitor may take to greet."""


async def recover(context: Context) -> None:
    """Bring all records up to date; nothing is served before that. Raises ``Unavailable`` where the
    snapshots are elsewhere: containers without theirs would all be forgotten."""
    if not context.snapshots.keys() and any(image.chain_id for image in context.images.all()):
        raise Unavailable(
            f"{context.paths.snapshots} is empty, though images and containers were in it: mount its file "
            "system, or choose another --root"
        )
    boot = _boot()
    known = context.store.read(lambda queries: queries.fact("boot"))
    rebooted = known not in (None, boot)
    containers = context.registry.load()
    for container in containers:
        context.networking.recover(container)
    await asyncio.gather(*(_recover_one(context, container, rebooted) for container in containers))
    if known != boot:
        # Not before all rows say that nothing runs any more.
        await context.store.write(lambda transaction: transaction.set_fact("boot", boot))
    _collect(context)
    strays = _stray_cgroups(context, {each.id for each in context.registry.all() if is_running(each)})
    for id in strays.keys() & context.registry.ids():
        # Of a start that nobody saw through. Now: a next start of it makes them anew.
        await asyncio.to_thread(_clear, context, strays.pop(id))
    context.background(_collect_slowly(context, strays), "collecting what crashes left")


def _boot() -> str:
    """The kernel's own id of its present run: pids in rows of another one mean nothing."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


async def _recover_one(context: Context, container: Container, rebooted: bool) -> None:
    supervision = context.supervision(container.id)
    try:
        await supervision.owner.run("recovery", lambda: _find(context, container, rebooted))
    except Exception as error:
        _log.error("container %s cannot be recovered: %s", container.id[:12], error, exc_info=error)


async def _find(context: Context, container: Container, rebooted: bool) -> None:
    if not context.snapshots.exists(container.id):
        _log.warning("container %s is forgotten: its removal was interrupted", container.id[:12])
        await remove.take_away(context, container)
        return
    try:
        connection = await MonitorConnection.connect(context.paths.socket(container.id))
    except Unavailable:
        await _without_monitor(context, container, rebooted)
        return
    try:
        async with asyncio.timeout(STATUS_DEADLINE):
            found = await _greeting(connection)
    except TimeoutError:
        found = None
        # Its start hangs. Nobody would follow what might still come of it.
        await _give_up(connection)
    if found is None:
        connection.close()
        await _without_monitor(context, container, rebooted)
        return
    await _with_monitor(context, container, connection, found)


async def _give_up(connection: MonitorConnection) -> None:
    try:
        await connection.signal(signal.SIGKILL)
    except ClocheError:
        return


async def _greeting(connection: MonitorConnection) -> Status | None:
    """The monitor's status; where it is in the midst of a start, that start's outcome first."""
    status: Status | None = None
    async for message in connection:
        if isinstance(message, Status):
            status = message
            if status.started or status.exited:
                return status
        elif isinstance(message, Started) and status:
            return replace(status, started=message)
        elif isinstance(message, StartFailed):
            return None
    return None


async def _with_monitor(
    context: Context, container: Container, connection: MonitorConnection, found: Status
) -> None:
    if found.started and not is_running(container):
        container = replace(container, state=ends.running(container.state, found.started))
        await context.registry.put(container, durable=False)
    if found.exited:
        await ends.settle(context, container.id, found.exited)
        try:
            await connection.release()
        except ClocheError:
            pass
        connection.close()
        return
    ends.follow(context, container.id, connection)


async def _without_monitor(context: Context, container: Container, rebooted: bool) -> None:
    record = ends.read_exit(context, container.id)
    if is_running(container):
        await ends.lost(context, container.id, rebooted)
    elif record and record.finished_at > container.state.finished_at:
        # It was started and has ended before the last daemon could write either down.
        state = replace(container.state, status="running", started_at=record.started_at)
        await context.registry.put(replace(container, state=state), durable=False)
        await ends.settle(context, container.id, record)
    else:
        await _at_rest(context, container)


async def _at_rest(context: Context, container: Container) -> None:
    if container.config.auto_remove and container.state.status != "created":
        await remove.take_away(context, container)
    elif container.endpoint:
        # The last daemon died while it started this one.
        await asyncio.to_thread(ends.clear_cgroups, context, container)
        context.networking.release(container)
        await context.registry.put(replace(container, endpoint=None), durable=False)


# --- what belongs to nothing ----------------------------------------------------------------------


def _collect(context: Context) -> None:
    """Snapshots and directories without a row. Before anything is served: a creation has them before its
    row."""
    known = context.registry.ids()
    for key in sorted(context.snapshots.keys()):
        if len(key) == 64 and key not in known:
            context.snapshots.remove(key)
    for name in os.listdir(context.paths.containers):
        if name not in known:
            context.trash.discard(context.paths.container(name))
    short = {id[:12] for id in known}
    for name in os.listdir(context.paths.monitors):
        if name not in short:
            os.unlink(f"{context.paths.monitors}/{name}")


async def _collect_slowly(context: Context, strays: dict[str, list[str]]) -> None:
    """Cgroups without a container, images' own remains, and the trash."""
    for id, leaves in strays.items():
        _log.warning("cgroups of %s belong to no container and are removed", id[:12])
        await asyncio.to_thread(_clear, context, leaves)
    await context.images.collect()
    context.trash.collect_soon()


def _stray_cgroups(context: Context, running: set[str]) -> dict[str, list[str]]:
    """Those of no container that runs. Only below our own parent, and only what is named as a container
    is."""
    found: dict[str, list[str]] = {}
    for mount in dict.fromkeys(context.layout.mounts.values()):
        parent = f"{mount}/{context.settings.name}"
        try:
            names = os.listdir(parent)
        except OSError:
            continue
        for name in names:
            if len(name) == 64 and set(name) <= set("0123456789abcdef") and name not in running:
                found.setdefault(name, []).append(f"{parent}/{name}")
    return found


def _clear(context: Context, leaves: list[str]) -> None:
    try:
        context.cgroups.kill(tuple(leaves))
        context.cgroups.remove(tuple(leaves))
    except OSError as error:
        _log.warning("%s", error)
