"""Layers: from a tar in the content store to a committed snapshot, shared by every image that has it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import uuid
from collections.abc import Sequence
from typing import NamedTuple, Protocol

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

    async def unpack(self, descriptor: int, target: str) -> LayerUnpacked:
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

    async def unpack(self, blobs: Sequence[str], diff_ids: Sequence[str] | None = None) -> list[LayerRow]:
        """Unpack an image's layers (blobs, bottom first) but for those that are there already, several at a
        time where the driver can. The snapshots are committed; the rows are for the caller to store with the
        image.

        Without ``diff_ids`` there is nothing to hold the layers against. Raises ``InvalidArgument`` for a
        broken layer and for one whose uncompressed digest is not the one of ``diff_ids``; layers below it
        stay for the caller to sweep."""
        known = self._known(diff_ids or ())
        gate = _Gate()
        side_by_side = self._snapshots.independent_layers
        extractions: list[asyncio.Task[_Extracted]] = []
        rows = list(known)
        try:
            if side_by_side:
                rest = blobs[len(known) :]
                extractions = [asyncio.create_task(self._extract(blob, None, gate)) for blob in rest]
            for index in range(len(known), len(blobs)):
                parent = rows[-1].chain_id if rows else None
                if not side_by_side:
                    extractions.append(asyncio.create_task(self._extract(blobs[index], parent, gate)))
                extracted = await asyncio.shield(extractions[index - len(known)])
                rows.append(await self._commit(extracted, parent, diff_ids[index] if diff_ids else ""))
            return rows
        finally:
            gate.closed = True
            await self._abandon(extractions)

    def _known(self, diff_ids: Sequence[str]) -> list[LayerRow]:
        """The lowest layers, as many as are there."""
        rows: list[LayerRow] = []
        for diff_id in diff_ids:
            chain = chain_id(rows[-1].chain_id if rows else None, diff_id)
            row = self._state.read(lambda queries, chain=chain: queries.layer(chain))  # type: ignore[misc]
            if row is None or not self._snapshots.exists(chain):
                break
            rows.append(row)
        return rows

    async def _extract(self, blob: str, parent: str | None, gate: _Gate) -> _Extracted:
        async with gate.places:
            if gate.closed:
                raise asyncio.CancelledError
            key = f"unpack-{uuid.uuid4().hex}"
            self._snapshots.prepare(key, parent)
            descriptor = self._content.open(blob)
            try:
                done = await self._unpacker.unpack(descriptor, self._snapshots.writable(key))
                return _Extracted(key, blob, os.pread(descriptor, 16, 0), done)
            except BaseException:
                self._snapshots.remove(key)
                raise
            finally:
                os.close(descriptor)

    async def _commit(self, extracted: _Extracted, parent: str | None, diff_id: str) -> LayerRow:
        key, blob, head, done = extracted
        if diff_id and done.diff_id != diff_id:
            raise InvalidArgument(
                f"layer {blob} has diff id {done.diff_id}, the image's config says {diff_id}"
            )
        chain = chain_id(parent, done.diff_id)
        if parent is not None and not done.root:
            _copy_root(self._snapshots.layers(parent)[0], self._snapshots.writable(key))
        await asyncio.to_thread(self._snapshots.commit, key, chain, parent)
        return LayerRow(
            chain, parent, done.diff_id, blob, self._content.size(blob), media_type(head), done.size
        )

    async def _abandon(self, extractions: list[asyncio.Task[_Extracted]]) -> None:
        """What runs is waited for (a directory that a job still writes to cannot be thrown away), what was
        not committed goes."""
        for outcome in await asyncio.gather(*extractions, return_exceptions=True):
            if isinstance(outcome, _Extracted):
                self._snapshots.remove(outcome.key)


class _Gate:
    """As many extractions at a time as there are processors; closed, none begins any more."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(os.cpu_count() or 1)
        self.closed = False


class _Extracted(NamedTuple):
    key: str
    blob: str
    head: bytes
    """The blob's first bytes."""
    done: LayerUnpacked


def _copy_root(below: str, own: str) -> None:
    """A layer that does not mention its root directory has that of the layer below."""
    status = os.stat(below)
    os.chown(own, status.st_uid, status.st_gid)
    os.chmod(own, stat.S_IMODE(status.st_mode))
