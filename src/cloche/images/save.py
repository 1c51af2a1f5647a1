"""``docker save``: an archive that is both an OCI layout and a docker-archive."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cloche.images.store import ImageStore


async def save(store: ImageStore, refs: list[str]) -> AsyncIterator[bytes]:
    """Raises ``NotFound`` before the first byte."""
    raise NotImplementedError
    yield
