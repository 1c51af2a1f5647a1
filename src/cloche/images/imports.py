"""``docker import``: a root file system's tar becomes an image of one layer."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cloche.images.model import Image
from cloche.images.store import ImageStore


async def import_(
    store: ImageStore,
    stream: AsyncIterator[bytes],
    ref: str,
    changes: list[str],
    message: str,
    platform: str,
) -> Image:
    """``ref`` may be empty. ``changes`` are Dockerfile instructions. Raises ``InvalidArgument``."""
    raise NotImplementedError
