"""``/images``: the verbs of images."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from cloche.api import query
from cloche.api import render_image as render
from cloche.api.call import COMMON, Call, empty, json, line
from cloche.api.structs_image import ErrorDetail, Progress, StreamError
from cloche.engine import filters
from cloche.errors import ClocheError, InvalidArgument, NotFound, Unsupported
from cloche.images.model import Image


class FromHost(msgspec.Struct, frozen=True):
    """Body of ``POST /images/from-host``."""

    commands: list[str]


async def list_(call: Call) -> web.StreamResponse:
    wanted = filters.image_filters(call.query.get("filters", ""))
    if name := call.query.get("filter"):
        # Before API 1.28 the name had a parameter of its own.
        wanted.setdefault("reference", []).append(name)

    def find(ref: str) -> Image | None:
        try:
            return call.engine.images.get(ref)
        except (NotFound, InvalidArgument):
            return None

    return json([render.summary(image) for image in filters.images(call.engine.images.list(), wanted, find)])


async def inspect(call: Call, ref: str) -> web.StreamResponse:
    return json(render.inspect(call.engine.images.get(ref), call.engine.info().driver))


async def history(call: Call, ref: str) -> web.StreamResponse:
    return json(call.engine.images.history(ref))


async def tag(call: Call, ref: str) -> web.StreamResponse:
    repository = call.query.get("repo", "")
    if not repository:
        raise InvalidArgument("tag: give the new name as repo")
    await call.engine.images.tag(ref, repository, call.query.get("tag", ""))
    return empty(201)


async def remove(call: Call, ref: str) -> web.StreamResponse:
    force, prune = query.flag(call.query, "force"), not query.flag(call.query, "noprune")
    return json([{what: of} for what, of in await call.engine.images.remove(ref, force, prune)])


async def load(call: Call) -> web.StreamResponse:
    """A broken archive is a plain error; one that turns out broken after the first image is told in the
    stream."""
    lines = call.engine.images.load(call.upload())
    first = await anext(lines, "")
    response = await call.stream()
    try:
        if first:
            await response.write(_stream(first))
        async for text in lines:
            await response.write(_stream(text))
    except ClocheError as error:
        await response.write(line(StreamError(ErrorDetail(str(error)), str(error))))
    return response


def _stream(text: str) -> bytes:
    return line(Progress(stream=text if text.endswith("\n") else text + "\n"))


async def create(call: Call) -> web.StreamResponse:
    """``docker import`` and, for images that are already here, ``docker pull``."""
    source = call.query.get("fromSrc", "")
    if not source:
        return await _pull(call)
    if source != "-":
        raise Unsupported(
            f"import from {source!r}: Cloche imports what the client sends (fromSrc=-), it fetches no URL"
        )
    name, tag = call.query.get("repo", ""), call.query.get("tag", "")
    image = await call.engine.images.import_(
        call.upload(),
        f"{name}:{tag}" if name and tag else name,
        call.request.query.getall("changes", []),
        call.query.get("message", ""),
        call.query.get("platform", ""),
    )
    response = await call.stream()
    await response.write(line(Progress(status=image.id)))
    return response


async def _pull(call: Call) -> web.StreamResponse:
    name, tag = call.query.get("fromImage", ""), call.query.get("tag", "")
    if not name:
        raise InvalidArgument("give fromImage (a name) or fromSrc=- (an archive in the body)")
    ref = name if not tag else f"{name}{'@' if ':' in tag else ':'}{tag}"
    try:
        image = call.engine.images.get(ref)
    except NotFound as error:
        raise NotFound(
            f"{error}, and Cloche does not pull from registries yet: bring it with "
            "'docker load -i ARCHIVE' or 'docker import ROOTFS.tar NAME'"
        ) from None
    response = await call.stream()
    await response.write(line(Progress(status=f"Digest: {image.id}")))
    await response.write(line(Progress(status=f"Status: Image is up to date for {ref}")))
    return response


async def save_many(call: Call) -> web.StreamResponse:
    names = call.request.query.getall("names", [])
    if not names:
        raise InvalidArgument("save: give at least one image as names")
    return await _save(call, names)


async def save(call: Call, ref: str) -> web.StreamResponse:
    return await _save(call, [ref])


async def _save(call: Call, refs: list[str]) -> web.StreamResponse:
    archive = call.engine.images.save(refs)
    first = await anext(archive, b"")
    return await _send_archive(call, first, archive)


async def _send_archive(call: Call, first: bytes, rest: AsyncIterator[bytes]) -> web.StreamResponse:
    """A failure after the head breaks the connection off, so that no client takes half an archive for a
    whole one."""
    call.connection.cancel_when_lost()
    response = web.StreamResponse(headers=COMMON)
    response.content_type = "application/x-tar"
    await response.prepare(call.request)
    await response.write(first)
    async for chunk in rest:
        await response.write(chunk)
    return response


async def from_host(call: Call) -> web.StreamResponse:
    name = call.query.get("name", "")
    if not name:
        raise InvalidArgument("from-host: give the new image's name as name")
    asked = msgspec.json.decode(await call.body(), type=FromHost)
    image = await call.engine.images.from_host(name, asked.commands)
    return json(render.inspect(image, call.engine.info().driver), 201)


async def default(call: Call) -> web.StreamResponse:
    image = await call.engine.images.ensure_default()
    return json(render.inspect(image, call.engine.info().driver))
