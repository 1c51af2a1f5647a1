"""Starting a container: plan, launch, answer when the program runs; what needs no waiting comes after the
answer."""

from __future__ import annotations

import asyncio
import os
import signal

import msgspec
from msgspec.structs import replace

from cloche.cgroups.contract import Placement
from cloche.engine import ends, files, planning, remove
from cloche.engine.context import Context, is_running
from cloche.engine.networking import on_bridge
from cloche.engine.records import Container
from cloche.engine.supervision import Supervision
from cloche.engine.validation import parse_log
from cloche.errors import (
    ClocheError,
    Conflict,
    Internal,
    InvalidArgument,
    NotFound,
    NotModified,
    Unavailable,
)
from cloche.launcher.client import MonitorConnection
from cloche.monitor.protocol import LogConfig, MonitorConfig, OomWatch, Started, StartFailed
from cloche.plan import codec
from cloche.plan.plan import Plan
from cloche.plan.step import Trace

LIMIT = 100
"""Seconds for running the plan. A cold disk may take long to give the program's first pages."""
DEADLINE = 120.0
"""Seconds for a whole start: what comes first, and what the kernel does not end by SIGALRM either."""


async def start(context: Context, id: str) -> None:
    """See ``Containers.start``."""
    await context.supervision(id).owner.run("start", lambda: _start(context, id), DEADLINE)


async def _start(context: Context, id: str) -> None:
    container = context.registry.by_id(id)
    if container is None:
        raise NotFound(f"No such container: {id}")
    if is_running(container):
        raise NotModified(f"container {container.name} is running already")
    if container.state.status in ("removing", "dead"):
        raise Conflict("container is marked for removal and cannot be started")
    supervision = context.supervision(id)
    if supervision.watcher:
        # The last run's monitor still takes the cgroups away.
        await asyncio.wait([supervision.watcher])
    try:
        await _run(context, container, supervision)
    except ClocheError as error:
        await _failed(context, id, supervision, error)
        raise
    except asyncio.CancelledError:
        await _failed(
            context, id, supervision, Unavailable(f"the start was given up after {DEADLINE:.0f} s")
        )
        raise
    except OSError as error:
        failure = Unavailable(f"container {container.name} cannot be started: {error}")
        await _failed(context, id, supervision, failure)
        raise failure from error


async def _run(context: Context, container: Container, supervision: Supervision) -> None:
    id = container.id
    stored = None
    if on_bridge(container.config.network_mode):
        container = replace(container, endpoint=await context.networking.allocate(id))
        # From now on a failure gives the address back.
        stored = context.registry.put_soon(container)
    size = supervision.size if supervision.size != (0, 0) else container.config.console_size
    rootfs = context.snapshots.mounts(id, context.paths.rootfs)
    plan, placement = planning.plan(context, container, rootfs, size)
    _prepare_files(context, container)
    if stored:
        # A daemon that finds this container running must know its address, or gives it to another one too.
        # It was written while the plan was made, unless the disk is slow.
        await asyncio.wrap_future(stored)
    config = _monitor_config(context, container, supervision, placement, size)
    waiting, supervision.waiting = supervision.waiting, []
    descriptors = [attached.descriptor for attached in waiting]
    connection = await context.launcher.launch(config, plan.host, plan.container, descriptors)
    supervision.plan, supervision.trace = plan, None
    try:
        started = await outcome(connection)
    except asyncio.CancelledError:
        # The deadline has passed: nobody would follow what might still start.
        await connection.signal(signal.SIGKILL)
        connection.close()
        raise
    supervision.trace = started.trace
    ends.begin(context, container, connection, started)
    context.background(_keep_plan(context, id, plan, started.trace), "writing a plan and its trace")


async def outcome(connection: MonitorConnection) -> Started:
    """Wait until the program runs. Raises ``StartError`` with the step that failed; ``Internal`` when the
    start was killed, by its time limit or by somebody."""
    async for message in connection:
        if isinstance(message, Started):
            return message
        if isinstance(message, StartFailed):
            # The monitor undoes what was made before its connection ends; a next start must not meet that.
            async for _ in connection:
                pass
            raise (ProgramError if message.exit_code in (126, 127) else StartError)(message)
    raise Internal(
        "failed to create task for container: its start was killed before the program ran, by somebody or "
        "because it took too long"
    )


class StartError(ClocheError):
    """A step of the plan failed. The text has the words by which the docker command tells 126 and 127."""

    def __init__(self, failed: StartFailed) -> None:
        self.exit_code = failed.exit_code
        super().__init__(
            "failed to create task for container: OCI runtime create failed: "
            f"unable to start container process: {failed.failure.render()}"
        )


class ProgramError(StartError, InvalidArgument):
    """The program is not there or cannot be executed: for Docker the request's fault, unlike all else that
    can fail in a start."""


def _prepare_files(context: Context, container: Container) -> None:
    paths = context.paths
    paths.make_run()
    files.write(paths.container(container.id), container)
    if container.state.started_at:
        # The records of an earlier run must not be taken for this one's.
        for path in (paths.exit(container.id), paths.plan(container.id)):
            remove.unlink(path)
    for bind in container.config.binds:
        source = bind.partition(":")[0]
        if not os.path.lexists(source):
            os.makedirs(source, exist_ok=True)


def _monitor_config(
    context: Context,
    container: Container,
    supervision: Supervision,
    placement: Placement,
    size: tuple[int, int],
) -> MonitorConfig:
    config, paths, id = container.config, context.paths, container.id
    limits = parse_log(config.log)
    return MonitorConfig(
        id=id,
        socket_path=paths.socket(id),
        exit_path=paths.exit(id),
        terminal=config.terminal,
        rows=size[0],
        columns=size[1],
        open_stdin=config.open_stdin,
        stdin_once=config.stdin_once,
        log=LogConfig(config.log.driver, paths.log(id), limits.max_size, limits.max_file, limits.compress),
        oom=_oom(context, placement),
        cgroup_paths=placement.leaves,
        attach=tuple(attached.attachment for attached in supervision.waiting),
        start_limit=LIMIT,
    )


def _oom(context: Context, placement: Placement) -> OomWatch:
    if placement.version == 2:
        return OomWatch(2, f"{placement.leaves[0]}/memory.events")
    mount = context.layout.mounts.get("memory")
    leaf = next((leaf for leaf in placement.leaves if mount and leaf.startswith(mount + "/")), "")
    return OomWatch(1, f"{leaf}/memory.oom_control" if leaf else "")


async def _failed(context: Context, id: str, supervision: Supervision, error: ClocheError) -> None:
    """Record why; give back what the start took. A container to be removed at its end goes now."""
    container = context.registry.by_id(id)
    if container is None:
        return
    supervision.let_go()
    if not isinstance(error, StartError):
        # A start that was killed has not undone what it made.
        await asyncio.to_thread(ends.clear_cgroups, context, container)
        remove.unlink(context.paths.socket(id))
    context.networking.release(container)
    state = replace(
        container.state,
        exit_code=error.exit_code if isinstance(error, StartError) else 128,
        error=str(error),
    )
    container = replace(container, state=state, endpoint=None)
    await context.registry.put(container, durable=False)
    if container.config.auto_remove and not supervision.keep:
        await remove.take_away(context, container)


async def _keep_plan(context: Context, id: str, plan: Plan, trace: Trace) -> None:
    """For ``explain`` after a restart of the daemon."""
    sides = (msgspec.Raw(codec.encode(plan.host)), msgspec.Raw(codec.encode(plan.container)))
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        descriptor = os.open(context.paths.plan(id), flags, 0o600)
    except FileNotFoundError:
        # It has ended and was removed meanwhile.
        return
    with open(descriptor, "wb") as file:
        file.write(msgspec.msgpack.encode((*sides, trace)))
    supervision = context.supervision(id)
    if supervision.trace is trace:
        # Plans are large, and rarely asked for.
        supervision.plan = supervision.trace = None
