"""The daemon itself: ping, version, info, events, disk use."""

from __future__ import annotations

from aiohttp import web

from cloche.api import containers, query
from cloche.api import render_image as images
from cloche.api import render_system as render
from cloche.api.call import COMMON, Call, json, line
from cloche.api.structs_system import DiskUsage
from cloche.engine import filters

_PING = COMMON.copy()
_PING.update(
    {
        # 1 is the classic builder; the docker command asks before it builds.
        "Builder-Version": "1",
        "Swarm": "inactive",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
    }
)


async def ping(call: Call) -> web.StreamResponse:
    return web.Response(text="OK", headers=_PING, content_type="text/plain")


async def version(call: Call) -> web.StreamResponse:
    return json(render.version())


async def info(call: Call) -> web.StreamResponse:
    return json(render.info(call.engine.info(), call.service.settings.labels, call.service.debug, 0))


async def events(call: Call) -> web.StreamResponse:
    """Events stream until ``until``; one in the past ends the answer after the past events."""
    wanted = filters.event_filters(call.query.get("filters", ""))
    since, until = query.time(call.query, "since"), query.time(call.query, "until")
    stream = call.engine.events.subscribe(since, until)
    try:
        response = await call.stream()
        async for event in stream:
            if filters.event_matches(event, wanted):
                await response.write(line(render.event(event)))
    finally:
        await stream.aclose()
    return response


async def disk_usage(call: Call) -> web.StreamResponse:
    everything = call.engine.images.list()
    rows = await containers.summaries(call)
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.ImageID] = counts.get(row.ImageID, 0) + 1
    return json(
        DiskUsage(
            LayersSize=sum(image.size for image in everything),
            Images=[images.summary(image, counts.get(image.id, 0)) for image in everything],
            Containers=rows,
        )
    )
