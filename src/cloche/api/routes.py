"""Paths to handlers.

A path is looked up whole, then as ``/KIND/*/VERB``, then as ``/KIND/*``; what ``*`` stands for goes to the
handler. An image's name may have slashes in it. Three dictionary look-ups: cheaper than patterns, and plain
to read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from cloche.api import containers, explain, images, networks, streams, system
from cloche.errors import NotFound, Unsupported

Handler = Callable[..., Awaitable[web.StreamResponse]]

ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/_ping"): system.ping,
    ("HEAD", "/_ping"): system.ping,
    ("GET", "/version"): system.version,
    ("GET", "/info"): system.info,
    ("GET", "/events"): system.events,
    ("GET", "/system/df"): system.disk_usage,
    ("POST", "/containers/create"): containers.create,
    ("GET", "/containers/json"): containers.list_,
    ("GET", "/containers/*/json"): containers.inspect,
    ("POST", "/containers/*/start"): containers.start,
    ("POST", "/containers/*/stop"): containers.stop,
    ("POST", "/containers/*/restart"): containers.restart,
    ("POST", "/containers/*/kill"): containers.kill,
    ("POST", "/containers/*/wait"): containers.wait,
    ("POST", "/containers/*/rename"): containers.rename,
    ("POST", "/containers/*/resize"): containers.resize,
    ("POST", "/containers/*/attach"): streams.attach,
    ("GET", "/containers/*/logs"): streams.logs,
    ("GET", "/containers/*/top"): containers.top,
    ("GET", "/containers/*/explain"): explain.container,
    ("DELETE", "/containers/*"): containers.remove,
    ("POST", "/explain"): explain.config,
    ("GET", "/images/json"): images.list_,
    ("POST", "/images/load"): images.load,
    ("POST", "/images/create"): images.create,
    ("GET", "/images/get"): images.save_many,
    ("POST", "/images/from-host"): images.from_host,
    ("POST", "/images/default"): images.default,
    ("GET", "/images/*/get"): images.save,
    ("GET", "/images/*/json"): images.inspect,
    ("GET", "/images/*/history"): images.history,
    ("POST", "/images/*/tag"): images.tag,
    ("DELETE", "/images/*"): images.remove,
    ("GET", "/networks"): networks.list_,
    ("GET", "/networks/*"): networks.inspect,
    ("GET", "/volumes"): networks.volumes,
    ("GET", "/volumes/*"): networks.volume,
    ("GET", "/plugins"): networks.plugins,
    ("GET", "/plugins/*/json"): networks.plugin,
}

NOT_YET = {
    "archive": "copy files in and out of containers",
    "auth": "log in to registries",
    "build": "build images",
    "changes": "list the files that a container changed",
    "commit": "make an image of a container",
    "configs": "be part of a swarm",
    "connect": "connect containers to networks of one's own",
    "disconnect": "connect containers to networks of one's own",
    "distribution": "ask registries",
    "exec": "run another command in a running container (exec)",
    "export": "export a container's files",
    "networks": "make networks of one's own",
    "nodes": "be part of a swarm",
    "pause": "pause containers",
    "plugins": "load plugins",
    "prune": "prune",
    "push": "push images",
    "search": "search registries",
    "secrets": "be part of a swarm",
    "services": "be part of a swarm",
    "session": "hold BuildKit sessions",
    "stats": "show a container's use of resources (stats)",
    "swarm": "be part of a swarm",
    "tasks": "be part of a swarm",
    "unpause": "pause containers",
    "update": "change the limits of a container",
    "volumes": "make volumes",
    "ws": "attach over a WebSocket",
}
"""Docker's endpoints that are not here, by a segment of the path: last segment first, then the first."""


def find(method: str, path: str) -> tuple[Handler, tuple[str, ...]]:
    """The handler and what the path's ``*`` stands for. Unsupported for Docker's other endpoints, NotFound
    for the rest."""
    if handler := ROUTES.get((method, path)):
        return handler, ()
    kind, _, rest = path[1:].partition("/")
    name, _, verb = rest.rpartition("/")
    if name and (handler := ROUTES.get((method, f"/{kind}/*/{verb}"))):
        return handler, (name,)
    if rest and (handler := ROUTES.get((method, f"/{kind}/*"))):
        return handler, (rest,)
    what = NOT_YET.get(verb or rest) or NOT_YET.get(kind)
    if what:
        raise Unsupported(f"{method} {path}: Cloche cannot {what} yet")
    raise NotFound("page not found")
