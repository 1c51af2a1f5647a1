"""What belongs to no image (any more): layers, their rows, blobs, and snapshots that were never finished.

Nothing here counts references: what is used follows from the images' rows, each time anew. The caller holds
the image store's lock, so that nothing is on its way to becoming an image meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from cloche.content.store import ContentStore
from cloche.snapshots.contract import Snapshotter
from cloche.state.rows import LayerRow
from cloche.state.store import Store
from cloche.state.transaction import Transaction


def remove_unfinished(snapshots: Snapshotter) -> None:
    """Snapshots that an unpacking was to fill when the daemon died."""
    for key in sorted(snapshots.keys()):
        if key.startswith("unpack-"):
            snapshots.remove(key)


async def sweep(state: Store, content: ContentStore, snapshots: Snapshotter) -> list[str]:
    """Delete layers that no image has and no snapshot stands on, top down, then blobs that nothing names;
    the chain ids of the layers that had a row."""
    rows = {row.chain_id: row for row in state.read(lambda q: q.layers())}
    # Not those in memory: an image that was left out for what is wrong with it keeps what it has.
    images = state.read(lambda q: q.images())
    gone = _remove_layers(snapshots, rows, [image.chain_id for image in images])

    def change(transaction: Transaction) -> None:
        for key in gone:
            transaction.delete_layer(key)

    if gone:
        await state.write(change, frees=True)
    removed = [key for key in gone if rows.pop(key, None)]
    kept = {row.blob for row in rows.values()} | {image.id for image in images}
    await asyncio.to_thread(_delete_blobs, content, kept)
    return removed


def _remove_layers(
    snapshots: Snapshotter, rows: dict[str, LayerRow], tops: Iterable[str | None]
) -> list[str]:
    """The snapshots of layers, and rows without one, that are not below ``tops``; returns their chain ids,
    top down."""
    used: set[str] = set()
    for chain in tops:
        while chain is not None and chain not in used:
            used.add(chain)
            chain = rows[chain].parent
    spare = {key for key in [*snapshots.keys(), *rows] if key.startswith("sha256:")} - used
    gone: list[str] = []
    while leaves := [key for key in spare if not snapshots.children(key)]:
        while leaves:
            key = leaves.pop()
            snapshots.remove(key)
            spare.discard(key)
            gone.append(key)
            below = rows[key].parent if key in rows else None
            if below in spare and not snapshots.children(below):
                leaves.append(below)
    return gone


def _delete_blobs(content: ContentStore, kept: set[str]) -> None:
    for digest in content.digests():
        if digest not in kept:
            content.delete(digest)
