"""Cloche's own: the plan of a container, as text, as a shell script, as JSON."""

from __future__ import annotations

from aiohttp import web

from cloche.api import parse_create
from cloche.api.call import Call, raw_json, text
from cloche.engine.records import Explanation
from cloche.errors import InvalidArgument


async def container(call: Call, ref: str) -> web.StreamResponse:
    """``GET /containers/{id}/explain``: the plan that ran, with its times."""
    return _render(call, await call.engine.containers.explain(ref))


async def config(call: Call) -> web.StreamResponse:
    """``POST /explain``: the plan that a body like create's would get."""
    asked = parse_create.parse(await call.body())
    return _render(call, await call.engine.containers.explain_config(asked))


def _render(call: Call, explanation: Explanation) -> web.Response:
    kind = call.query.get("format", "text")
    if kind == "text":
        return text(explanation.text)
    if kind == "shell":
        return text(explanation.shell)
    if kind == "json":
        return raw_json(bytes(explanation.data))
    raise InvalidArgument(f"format: {kind!r}: use text, shell or json")
