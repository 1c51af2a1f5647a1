"""Signals to a container, and waiting for what they do: kill, stop, restart."""

from __future__ import annotations

import asyncio
import signal

from cloche.engine import signals
from cloche.engine.context import Context, is_running
from cloche.engine.records import Container
from cloche.engine.start import start
from cloche.errors import ClocheError, Conflict, NotModified, Unavailable

GRACE = 10
"""Docker's seconds between the stop signal and SIGKILL."""
KILL_DEADLINE = 10.0


async def kill(context: Context, ref: str, text: str) -> None:
    """See ``Containers.kill``. SIGKILL answers when the container has ended, as Docker does."""
    container = context.registry.get(ref)
    number = signals.number(text or "SIGKILL")
    if not is_running(container):
        raise Conflict(f"cannot kill container: {ref}: container {container.id} is not running")
    ended = context.supervision(container.id).next_exit()
    try:
        await _send(context, container, number)
        if number == signal.SIGKILL:
            await _within(ended, KILL_DEADLINE, container)
    finally:
        ended.cancel()


async def stop(context: Context, ref: str, timeout: int | None, text: str | None) -> None:
    """See ``Containers.stop``."""
    container = context.registry.get(ref)
    if not is_running(container):
        raise NotModified(f"container {container.name} is not running")
    await _stop(context, container, timeout, text)
    context.events.container("stop", container)


async def restart(context: Context, ref: str, timeout: int | None, text: str | None) -> None:
    """See ``Containers.restart``. A container to be removed at its end stays."""
    container = context.registry.get(ref)
    supervision = context.supervision(container.id)
    supervision.keep = True
    try:
        if is_running(container):
            await _stop(context, container, timeout, text)
            context.events.container("stop", container)
        try:
            await start(context, container.id)
        except NotModified:
            # Somebody else has started it in between.
            pass
    finally:
        supervision.keep = False
    context.events.container("restart", container)


async def _stop(context: Context, container: Container, timeout: int | None, text: str | None) -> None:
    number = signals.number(text or container.stop_signal)
    if timeout is None:
        configured = container.config.stop_timeout
        timeout = GRACE if configured is None else configured
    ended = context.supervision(container.id).next_exit()
    try:
        await _send(context, container, number)
        grace = None if timeout < 0 else float(timeout)
        done, _ = await asyncio.wait([ended], timeout=grace)
        if not done:
            await _send(context, container, signal.SIGKILL)
            await _within(ended, KILL_DEADLINE, container)
    finally:
        ended.cancel()


async def _send(context: Context, container: Container, number: int) -> None:
    monitor = context.supervision(container.id).monitor
    if monitor is None:
        # It has just ended; whoever waits for that is told in a moment.
        return
    context.events.container("kill", container, signal=str(int(number)))
    try:
        await monitor.signal(number)
    except ClocheError:
        # The monitor is gone: whoever follows it settles the end.
        return


async def _within(ended: asyncio.Future[tuple[int, str]], seconds: float, container: Container) -> None:
    done, _ = await asyncio.wait([ended], timeout=seconds)
    if not done:
        raise Unavailable(
            f"cannot kill container: {container.name}: it did not end within {seconds:.0f} s of SIGKILL; "
            "one of its processes may wait for a device"
        )
