"""``docker load``: docker-archive and OCI layout tars into the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from cloche.images.model import Image
from cloche.images.store import ImageStore


class Loaded(NamedTuple):
    """One image of an archive."""

    image: Image
    reference: str
    """Short form, or empty where the archive gives it no name."""

    def line(self) -> str:
        """What ``docker load`` prints."""
        return f"Loaded image: {self.reference}" if self.reference else f"Loaded image ID: {self.image.id}"


async def load(store: ImageStore, archive: AsyncIterator[bytes]) -> AsyncIterator[Loaded]:
    """Raises ``InvalidArgument`` for a broken archive; images before the broken one stay loaded."""
    raise NotImplementedError
    yield
