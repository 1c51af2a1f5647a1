"""Images of one layer: ``docker import`` of a root file system's tar, and the images that Cloche makes
itself."""

from __future__ import annotations

import asyncio
import platform as machine
import time
from collections.abc import AsyncIterator, Callable

import msgspec

from cloche.content.store import Ingest
from cloche.errors import Internal, InvalidArgument
from cloche.images.changes import apply
from cloche.images.feed import in_thread
from cloche.images.load import ARCHITECTURES
from cloche.images.model import History, Image, ImageConfig, ImageRuntimeConfig, RootFS
from cloche.images.reference import with_tag
from cloche.images.store import ImageStore
from cloche.launcher.compression import CHUNK, Read


async def import_(
    store: ImageStore,
    stream: AsyncIterator[bytes],
    ref: str,
    changes: list[str],
    message: str,
    platform: str,
) -> Image:
    """``ref`` may be empty. ``changes`` are Dockerfile instructions, ``platform`` is
    ``OS[/ARCHITECTURE[/VARIANT]]``. Raises ``InvalidArgument``, or ``Internal`` where the machine is at
    fault; nothing is left then."""
    config = apply(ImageRuntimeConfig(), changes)
    image = _config(config, message or "Imported from -", platform, time.time_ns())
    references = [str(_name(ref))] if ref else []

    try:
        with store.content.ingest() as ingest:

            def take(read: Read) -> None:
                while data := read(CHUNK):
                    ingest.write(data)

            await in_thread(stream, take)
            return await single_layer(store, ingest, image, references)
    except ConnectionError:
        raise
    except OSError as error:
        raise Internal(f"cannot import the image: {error.strerror or error}") from error


def _name(ref: str) -> object:
    reference = with_tag(ref)
    if reference.digest:
        raise InvalidArgument(f"{ref!r} has a digest; a new image's name has a tag")
    return reference


async def made(
    store: ImageStore,
    write: Callable[[Ingest], None],
    ref: str,
    config: ImageRuntimeConfig,
    comment: str,
    at: int,
) -> Image:
    """An image whose layer ``write`` puts together, in a thread. ``at``: creation time, nanoseconds since
    the epoch."""
    with store.content.ingest() as ingest:
        await asyncio.to_thread(write, ingest)
        return await single_layer(store, ingest, _config(config, comment, "", at), [str(_name(ref))])


async def single_layer(
    store: ImageStore, ingest: Ingest, config: ImageConfig, references: list[str]
) -> Image:
    """Commit the layer, unpack it, and register the image that ``config`` describes with it."""
    async with store.lock:
        try:
            blob = await asyncio.to_thread(ingest.commit)
            (row,) = await store.layers.unpack([blob])
            config = msgspec.structs.replace(config, rootfs=RootFS("layers", [row.diff_id]))
            return await store.register(msgspec.json.encode(config), [row], references)
        except BaseException:
            await store.sweep()
            raise


def _config(config: ImageRuntimeConfig, comment: str, platform: str, at: int) -> ImageConfig:
    created = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 10**9)) + f".{at % 10**9:09d}Z"
    native = ARCHITECTURES.get(machine.machine(), machine.machine())
    os, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    if os not in ("", "linux"):
        raise InvalidArgument(f"platform {platform!r}: only linux images can be made here")
    return ImageConfig(
        architecture=architecture or native,
        os="linux",
        rootfs=RootFS("layers", []),
        config=config,
        created=created,
        history=[History(created=created, comment=comment)],
        variant=variant,
    )
