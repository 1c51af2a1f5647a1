"""The rows of ``state.db``; their columns are described in ``cloche.state.schema``."""

from __future__ import annotations

from typing import NamedTuple


class ContainerRow(NamedTuple):
    id: str
    name: str
    image_id: str
    created_at: int
    record: bytes


class ImageRow(NamedTuple):
    id: str
    chain_id: str | None
    size: int
    created_at: int
    last_tagged_at: int


class TagRow(NamedTuple):
    reference: str
    image_id: str


class LayerRow(NamedTuple):
    chain_id: str
    parent: str | None
    diff_id: str
    blob: str
    blob_size: int
    media_type: str
    size: int
