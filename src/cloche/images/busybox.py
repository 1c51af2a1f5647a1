"""The embedded default image, made from the host's static busybox."""

from __future__ import annotations

from cloche.images.model import Image
from cloche.images.store import ImageStore


async def ensure_default(store: ImageStore) -> Image:
    """``busybox:latest``, made where it is not there yet. Raises ``Unavailable`` without a static
    busybox."""
    raise NotImplementedError
