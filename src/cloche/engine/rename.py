"""Giving a container another name."""

from __future__ import annotations

from msgspec.structs import replace

from cloche.engine.context import Context
from cloche.errors import Conflict, InvalidArgument, NotFound


async def rename(context: Context, ref: str, name: str) -> None:
    """See ``Containers.rename``."""
    container = context.registry.get(ref)
    await context.supervision(container.id).owner.run("rename", lambda: _rename(context, container.id, name))


async def _rename(context: Context, id: str, name: str) -> None:
    container = context.registry.by_id(id)
    if container is None:
        raise NotFound(f"No such container: {id}")
    name = name.removeprefix("/")
    if not name:
        raise InvalidArgument("Neither old nor new names may be empty")
    if name == container.name:
        raise InvalidArgument(f"Renaming a container with the same name as its current name: {name}")
    try:
        context.registry.reserve(name, id)
    except (Conflict, InvalidArgument) as error:
        # Docker's words, which tell a rename from a creation.
        raise type(error)(f"Error when allocating new name: {error}") from None
    try:
        renamed = replace(container, name=name)
        await context.registry.put(renamed, durable=True)
    except BaseException:
        context.registry.put_soon(replace(context.registry.by_id(id) or container, name=container.name))
        context.registry.free(name)
        raise
    context.registry.free(container.name)
    context.events.container("rename", renamed, oldName=f"/{container.name}")
