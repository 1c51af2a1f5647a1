"""An image of the host's own commands with what they need: ``cloche image from-host NAME CMD...``."""

from __future__ import annotations

import asyncio
import time

from cloche.content.store import Ingest
from cloche.errors import InvalidArgument
from cloche.images.busybox import PATH, write_base
from cloche.images.host_files import HostFiles
from cloche.images.imports import made
from cloche.images.layer_writer import LayerWriter
from cloche.images.model import Image, ImageRuntimeConfig
from cloche.images.reference import with_tag
from cloche.images.store import ImageStore


async def from_host(store: ImageStore, name: str, commands: list[str]) -> Image:
    """The first command is what a container of the image runs. Raises ``InvalidArgument`` for a command that
    the host does not have and for one that lacks a library."""
    with_tag(name)
    if not commands:
        raise InvalidArgument("which commands shall be in the image? None was named")
    now = time.time_ns()
    files = HostFiles()

    def collect() -> list[str]:
        return [files.add_command(command) for command in commands]

    def write(ingest: Ingest) -> None:
        layer = LayerWriter(ingest, now // 10**9)
        files.write(layer)
        write_base(layer)
        layer.finish()

    paths = await asyncio.to_thread(collect)
    config = ImageRuntimeConfig(Cmd=[paths[0]], Env=[PATH])
    return await made(store, write, name, config, f"Made from the host's {', '.join(commands)}", now)
