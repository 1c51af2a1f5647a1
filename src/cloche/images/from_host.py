"""An image of the host's own commands with what they need."""

from __future__ import annotations

from cloche.images.model import Image
from cloche.images.store import ImageStore


async def from_host(store: ImageStore, name: str, commands: list[str]) -> Image:
    """Raises ``InvalidArgument`` for a command that the host does not have."""
    raise NotImplementedError
