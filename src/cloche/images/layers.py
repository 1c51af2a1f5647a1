"""Layers: from a tar in the content store to a committed snapshot, shared by every image that has it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from typing import Protocol

from cloche.content.store import ContentStore
from cloche.errors import InvalidArgument
from cloche.launcher.protocol import LayerUnpacked
from cloche.snapshots.contract import Snapshotter
from cloche.state.rows import LayerRow
from cloche.state.store import Store

TAR = "application/vnd.oci.image.layer.v1.tar"
_MAGIC = (
    (b"\x1f\x8b", "+gzip"),
    (b"\x28\xb5\x2f\xfd", "+zstd"),
    (b"\xfd7zXZ\x00", "+xz"),
    (b"BZh", "+bzip2"),
)


class Unpacker(Protocol):
    """The door to the launcher's unpack job; ``cloche.launcher.client.Launcher`` is one."""

    async def unpack(self, descriptor: int, target: str, whiteouts: str = "overlay") -> LayerUnpacked:
        """``descriptor`` is of the layer's file; the caller keeps and closes its own. Raises
        ``InvalidArgument`` where the layer is at fault, ``Unavailable`` or ``Internal`` where the machine
        is."""
        raise NotImplementedError


def media_type(head: bytes) -> str:
    """Of a layer, told by its first bytes. The last two suffixes are no standard, but such layers exist."""
    for magic, suffix in _MAGIC:
        if head.startswith(magic):
            return TAR + suffix
    return TAR


def chain_id(parent: str | None, diff_id: str) -> str:
    """Name of a layer together with all below it (image-spec config.md, "Layer ChainID")."""
    if parent is None:
        return diff_id
    return "sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest()


class Layers:
    """Unpacks layers into snapshots."""

    def __init__(
        self, state: Store, content: ContentStore, snapshots: Snapshotter, unpacker: Unpacker
    ) -> None:
        self._state = state
        self._content = content
        self._snapshots = snapshots
        self._unpacker = unpacker

    async def unpack(self, blob: str, parent: str | None, diff_id: str = "") -> LayerRow:
        """Unpack the layer in ``blob`` on top of ``parent`` (a chain id) unless it is there already. The
        snapshot is committed; the row is for the caller to store with its image. Raises
        ``InvalidArgument`` for a broken layer and for one whose uncompressed digest is not ``diff_id``;
        nothing is left then."""
        if diff_id:
            there = self._state.read(lambda q: q.layer(chain_id(parent, diff_id)))
            if there is not None and self._snapshots.exists(there.chain_id):
                return there
        key = f"unpack-{uuid.uuid4().hex}"
        self._snapshots.prepare(key, parent)
        descriptor = self._content.open(blob)
        try:
            head = os.pread(descriptor, 16, 0)
            done = await self._unpacker.unpack(descriptor, self._snapshots.writable(key))
            if diff_id and done.diff_id != diff_id:
                raise InvalidArgument(
                    f"layer {blob} has diff id {done.diff_id}, the image's config says {diff_id}"
                )
            chain = chain_id(parent, done.diff_id)
            await asyncio.to_thread(self._snapshots.commit, key, chain)
        finally:
            os.close(descriptor)
            self._snapshots.remove(key)
        blob_size = self._content.size(blob)
        return LayerRow(chain, parent, done.diff_id, blob, blob_size, media_type(head), done.size)
