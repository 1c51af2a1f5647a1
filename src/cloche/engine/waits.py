"""Waiting for a container's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cloche.engine.context import Context, is_running
from cloche.engine.supervision import Exit
from cloche.errors import InvalidArgument


async def wait(context: Context, ref: str, condition: str) -> AsyncIterator[Exit]:
    """See ``Containers.wait``: registered when this returns."""
    container = context.registry.get(ref)
    supervision = context.supervision(container.id)
    match condition:
        case "" | "not-running":
            if not is_running(container):
                return _yield(_known((container.state.exit_code, container.state.error)))
            return _yield(supervision.next_exit())
        case "next-exit":
            return _yield(supervision.next_exit())
        case "removed":
            return _yield(supervision.removal())
    raise InvalidArgument(f'invalid condition: "{condition}"')


def _known(exit: Exit) -> asyncio.Future[Exit]:
    future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
    future.set_result(exit)
    return future


async def _yield(future: asyncio.Future[Exit]) -> AsyncIterator[Exit]:
    try:
        yield await future
    finally:
        future.cancel()
