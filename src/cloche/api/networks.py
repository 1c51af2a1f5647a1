"""``/networks``, ``/volumes`` and ``/plugins`` as far as they go: what there is can be looked at.

``docker inspect NAME`` asks each in turn whether it knows the name, so each has to say a plain no."""

from __future__ import annotations

import msgspec
from aiohttp import web

from cloche.api import render_network as render
from cloche.api.call import Call, json
from cloche.api.structs_network import Network
from cloche.errors import InvalidArgument, NotFound


def _networks(call: Call) -> list[Network]:
    containers = call.engine.containers.list()
    engine_id, settings = call.engine.info().id, call.service.settings
    subnet = settings.bridge_subnet or next(
        (f"{c.endpoint.gateway}/{c.endpoint.prefix}" for c in containers if c.endpoint), ""
    )
    return [
        render.network(name, engine_id, subnet, f"{settings.name}0", containers) for name in render.DRIVERS
    ]


async def list_(call: Call) -> web.StreamResponse:
    text = call.query.get("filters", "")
    try:
        wanted = msgspec.json.decode(text or "{}", type=dict[str, list[str] | dict[str, bool]])
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"invalid filter: {error}") from None
    return json([network for network in _networks(call) if _matches(network, wanted)])


def _matches(network: Network, wanted: dict[str, list[str] | dict[str, bool]]) -> bool:
    for key, values in wanted.items():
        if key == "name" and not any(value in network.Name for value in values):
            return False
        if key == "id" and not any(network.Id.startswith(value) for value in values):
            return False
        if key == "driver" and network.Driver not in values:
            return False
        # All three are built in.
        if key == "type" and "builtin" not in values:
            return False
        if key in ("label", "dangling") and values:
            return False
    return True


async def inspect(call: Call, ref: str) -> web.StreamResponse:
    for network in _networks(call):
        if ref == network.Name or network.Id.startswith(ref):
            return json(network)
    raise NotFound(f"network {ref} not found")


async def volumes(call: Call) -> web.StreamResponse:
    return json({"Volumes": [], "Warnings": None})


async def volume(call: Call, name: str) -> web.StreamResponse:
    raise NotFound(f"get {name}: no such volume")


async def plugins(call: Call) -> web.StreamResponse:
    return json([])


async def plugin(call: Call, name: str) -> web.StreamResponse:
    raise NotFound(f'plugin "{name}" not found')
