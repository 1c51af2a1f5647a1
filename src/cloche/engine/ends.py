"""From the start of a program to its end: following the monitor, and settling the exit."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import time
from functools import partial

import msgspec
from msgspec.structs import replace

from cloche.engine import remove
from cloche.engine.context import Context, is_running
from cloche.engine.records import Container, ContainerState
from cloche.errors import ClocheError
from cloche.kernel.process import pidfd_open, pidfd_send_signal, process_start_time
from cloche.launcher.client import MonitorConnection
from cloche.monitor.protocol import Detached, ExitRecord, OutOfMemory, Started

_log = logging.getLogger(__name__)

_exit_record = msgspec.json.Decoder(ExitRecord)
KILLED = 137


def begin(context: Context, container: Container, connection: MonitorConnection, started: Started) -> None:
    """The program runs: state, row, event, and a task that follows its monitor."""
    state = running(container.state, started)
    context.registry.put_soon(replace(container, state=state))
    context.events.container("start", container)
    follow(context, container.id, connection)


def running(previous: ContainerState, started: Started) -> ContainerState:
    """The state of a container whose program has been started."""
    return ContainerState(
        status="running",
        pid=started.pid,
        start_time=started.start_time,
        started_at=started.started_at,
        finished_at=previous.finished_at,
    )


def follow(context: Context, id: str, connection: MonitorConnection) -> None:
    """Listen to the monitor until it ends."""
    supervision = context.supervision(id)
    supervision.monitor = connection
    supervision.over.clear()
    supervision.watcher = context.background(_watch(context, id, connection), f"following {id[:12]}")


async def _watch(context: Context, id: str, connection: MonitorConnection) -> None:
    supervision = context.supervision(id)
    settled = False
    try:
        async for message in connection:
            if isinstance(message, ExitRecord):
                supervision.monitor = None
                stored = await supervision.owner.run("exit", partial(settle, context, id, message))
                settled = True
                if stored:
                    await _written(id, stored)
                try:
                    await connection.release()
                except ClocheError:
                    break
            else:
                _note(context, id, message)
    finally:
        connection.close()
        if supervision.monitor is connection:
            supervision.monitor = None
    if not settled:
        await supervision.owner.run("loss", partial(lost, context, id))


async def _written(id: str, row: concurrent.futures.Future[None]) -> None:
    """A row that cannot be written (a full disk) holds nothing up: the exit record tells a next daemon."""
    try:
        await asyncio.wrap_future(row)
    except ClocheError as error:
        _log.error("the end of container %s is not stored: %s", id[:12], error)


def _note(context: Context, id: str, message: object) -> None:
    container = context.registry.by_id(id)
    if container is None:
        return
    if isinstance(message, OutOfMemory):
        context.events.container("oom", container)
        context.registry.put_soon(replace(container, state=replace(container.state, oom_killed=True)))
    elif isinstance(message, Detached):
        context.events.container("detach", container)


async def settle(
    context: Context, id: str, record: ExitRecord, error: str = ""
) -> concurrent.futures.Future[None] | None:
    """The end of a run: state, event, those who wait; a container to be removed at its end goes.

    Runs in the owner's turn. Returned is the writing of the row: until it is done, the exit record on
    disk is what tells a next daemon, and the monitor is not released."""
    container = context.registry.by_id(id)
    if container is None or not is_running(container):
        return None
    supervision = context.supervision(id)
    supervision.monitor = None
    state = replace(
        container.state,
        status="exited",
        pid=0,
        start_time=0,
        exit_code=record.code,
        error=error,
        oom_killed=record.oom_killed,
        finished_at=record.finished_at,
    )
    context.networking.release(container)
    container = replace(container, state=state, endpoint=None)
    stored = context.registry.put_soon(container)
    seconds = max(0, record.finished_at - (record.started_at or record.finished_at)) // 1_000_000_000
    context.events.container("die", container, exitCode=str(record.code), execDuration=str(seconds))
    supervision.exited(record.code, error)
    if container.config.auto_remove and not supervision.keep:
        try:
            await remove.take_away(context, container, error)
        except ClocheError as problem:
            _log.error("container %s stays for now: %s", id[:12], problem)
            supervision.removed(record.code, error)
    return stored


def read_exit(context: Context, id: str) -> ExitRecord | None:
    """What a monitor wrote before it told anyone."""
    try:
        with open(context.paths.exit(id), "rb") as file:
            return _exit_record.decode(file.read())
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        _log.error("the exit record of container %s cannot be read: %s", id[:12], error)
        return None


async def lost(context: Context, id: str, rebooted: bool = False) -> None:
    """The monitor is gone. What it wrote is the truth; without that the program, which nobody watches any
    more, is killed. After a restart of the machine there is none: what has its pid is somebody else."""
    container = context.registry.by_id(id)
    if container is None or not is_running(container):
        return
    record = read_exit(context, id)
    # A power cut can bring back the record of the run before.
    if record and record.started_at == container.state.started_at:
        await settle(context, id, record)
        return
    if rebooted:
        error = "the machine was restarted while the container ran"
    else:
        error = "the container's monitor died; the container was killed"
        _kill_init(container.state)
        await asyncio.to_thread(clear_cgroups, context, container)
    record = ExitRecord(KILLED, container.state.oom_killed, container.state.started_at, time.time_ns())
    await settle(context, id, record, error)


def _kill_init(state: ContainerState) -> None:
    """By pidfd, and only if it is still the same process."""
    if not state.pid:
        return
    try:
        pidfd = pidfd_open(state.pid)
    except OSError:
        return
    try:
        if process_start_time(state.pid) == state.start_time:
            pidfd_send_signal(pidfd, 9)
    except OSError:
        return
    finally:
        os.close(pidfd)


def clear_cgroups(context: Context, container: Container) -> None:
    """Kill what is left in the container's cgroups and remove them. Waits for the kernel: in a thread."""
    leaves = leaves_of(context, container)
    try:
        context.cgroups.kill(leaves)
        context.cgroups.remove(leaves)
    except OSError as error:
        _log.warning("cgroups of container %s: %s", container.id[:12], error)


def leaves_of(context: Context, container: Container) -> tuple[str, ...]:
    """The container's existing cgroup directories."""
    parent = container.config.cgroup_parent.strip("/") or context.settings.name
    mounts = dict.fromkeys(context.layout.mounts.values())
    leaves = (f"{mount}/{parent}/{container.id}" for mount in mounts)
    return tuple(leaf for leaf in leaves if os.path.isdir(leaf))
