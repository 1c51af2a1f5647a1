"""``/containers``: the verbs of containers."""

from __future__ import annotations

import time

from aiohttp import web

from cloche.api import parse_create, query
from cloche.api import render_container as render
from cloche.api.call import Call, empty, json, line
from cloche.api.structs_container import Created, Summary, Top, Waited, WaitError
from cloche.engine import filters
from cloche.engine.records import Container
from cloche.errors import InvalidArgument, NotFound, Unsupported
from cloche.images.model import Image

_WAIT_CONDITIONS = ("", "not-running", "next-exit", "removed")


async def create(call: Call) -> web.StreamResponse:
    config = parse_create.parse(await call.body())
    if platform := call.query.get("platform"):
        _check_platform(platform, config.image, call.engine.images.get(config.image))
    container, warnings = await call.engine.containers.create(config, call.query.get("name") or None)
    return json(Created(container.id, warnings), 201)


def _check_platform(platform: str, name: str, image: Image) -> None:
    """``--platform OS[/ARCHITECTURE[/VARIANT]]``. An image is of one platform here: it is that one or it is
    not."""
    config = image.config
    wanted = platform.lower().split("/")
    if any(
        word and word != has for word, has in zip(wanted[:2], (config.os, config.architecture), strict=False)
    ):
        raise NotFound(
            f"image with reference {name} was found but does not provide the specified platform "
            f"({platform}): "
            f"it is for {config.os}/{config.architecture}"
        )


async def list_(call: Call) -> web.StreamResponse:
    wanted = filters.container_filters(call.query.get("filters", ""))
    images = _Images(call)
    chosen = filters.containers(
        call.engine.containers.list(),
        wanted,
        query.flag(call.query, "all"),
        query.number(call.query, "limit") or 0,
        filters.Catalogue(call.engine.containers.get, images.find),
    )
    return json(await _summaries(call, chosen, images, query.flag(call.query, "size")))


class _Images:
    """Looks images up by name, each once per answer."""

    def __init__(self, call: Call) -> None:
        self._get = call.engine.images.get
        self._known: dict[str, Image | None] = {}

    def find(self, ref: str) -> Image | None:
        if ref not in self._known:
            try:
                self._known[ref] = self._get(ref)
            except (NotFound, InvalidArgument):
                self._known[ref] = None
        return self._known[ref]


async def _summaries(call: Call, chosen: list[Container], images: _Images, sized: bool) -> list[Summary]:
    engine_id, now = call.engine.info().id, time.time_ns()
    rows = []
    for container in chosen:
        image = images.find(container.config.image)
        shown = render.image_name(container, image.id if image else None)
        try:
            size = await call.engine.containers.size(container.id) if sized else None
        except NotFound:
            # Removed since the list was made.
            continue
        rows.append(render.summary(container, engine_id, shown, size, now))
    return rows


async def summaries(call: Call) -> list[Summary]:
    """All containers with their sizes, for ``system df``."""
    return await _summaries(call, call.engine.containers.list(), _Images(call), True)


async def inspect(call: Call, ref: str) -> web.StreamResponse:
    container = call.engine.containers.get(ref)
    size = await call.engine.containers.size(container.id) if query.flag(call.query, "size") else None
    return json(render.inspect(container, call.engine.info(), size))


async def start(call: Call, ref: str) -> web.StreamResponse:
    if call.query.get("checkpoint"):
        raise Unsupported("start: Cloche cannot restore a container from a checkpoint yet")
    await call.engine.containers.start(ref)
    return empty()


async def stop(call: Call, ref: str) -> web.StreamResponse:
    await call.engine.containers.stop(ref, query.number(call.query, "t"), call.query.get("signal") or None)
    return empty()


async def restart(call: Call, ref: str) -> web.StreamResponse:
    await call.engine.containers.restart(
        ref, query.number(call.query, "t"), call.query.get("signal") or None
    )
    return empty()


async def kill(call: Call, ref: str) -> web.StreamResponse:
    await call.engine.containers.kill(ref, call.query.get("signal") or "SIGKILL")
    return empty()


async def wait(call: Call, ref: str) -> web.StreamResponse:
    """The head goes out as soon as the wait is registered: ``docker run`` starts the container on seeing
    it."""
    condition = call.query.get("condition", "")
    if condition not in _WAIT_CONDITIONS:
        raise InvalidArgument(f"invalid condition: {condition!r}: use not-running, next-exit or removed")
    waited = await call.engine.containers.wait(ref, condition or "not-running")
    response = await call.stream()
    async for code, error in waited:
        await response.write(line(Waited(code, WaitError(error) if error else None)))
    return response


async def remove(call: Call, ref: str) -> web.StreamResponse:
    if query.flag(call.query, "link"):
        raise InvalidArgument("link: Cloche has no container links to remove")
    force, volumes = query.flag(call.query, "force"), query.flag(call.query, "v")
    await call.engine.containers.remove(ref, force, volumes)
    return empty()


async def rename(call: Call, ref: str) -> web.StreamResponse:
    name = call.query.get("name", "")
    if not name:
        raise InvalidArgument("neither old nor new names may be empty")
    await call.engine.containers.rename(ref, name)
    return empty()


async def resize(call: Call, ref: str) -> web.StreamResponse:
    rows, columns = query.number(call.query, "h"), query.number(call.query, "w")
    if rows is None or columns is None:
        raise InvalidArgument("resize: give both h (rows) and w (columns)")
    await call.engine.containers.resize(ref, rows, columns)
    return empty(200)


async def top(call: Call, ref: str) -> web.StreamResponse:
    titles, processes = await call.engine.containers.top(ref, call.query.get("ps_args", ""))
    return json(Top(titles, processes))
