"""The images of an engine: names, configs, layers.

An image is its config blob in the content store, its layers are committed snapshots and the tars that
they came as (kept as they came, so that what is saved has the same digests), and its row and tags make it
exist: all of them appear in one transaction, last.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from cloche.content.store import ContentStore
from cloche.errors import ClocheError, Conflict, InvalidArgument, NotFound
from cloche.images import remains
from cloche.images.layers import Layers, Unpacker
from cloche.images.model import Image, ImageConfig
from cloche.images.reference import familiar, with_tag
from cloche.snapshots.contract import Snapshotter
from cloche.state.rows import ImageRow, LayerRow, TagRow
from cloche.state.store import Store
from cloche.state.transaction import Transaction

_log = logging.getLogger(__name__)
T = TypeVar("T")

Users = Callable[[str], list[tuple[str, bool]]]
"""Containers made from an image id: their ids, and whether each is running."""


class ImageStore:
    """Lists and looks-up read frozen records in memory and never wait. ``lock`` serialises what adds and
    removes."""

    def __init__(
        self, state: Store, content: ContentStore, snapshots: Snapshotter, unpacker: Unpacker
    ) -> None:
        self.state = state
        self.content = content
        self.snapshots = snapshots
        self.layers = Layers(state, content, snapshots, unpacker)
        self.lock = asyncio.Lock()
        self._images: dict[str, Image] = {}
        self._tags: dict[str, str] = {}
        self._read()

    def _read(self) -> None:
        tags = {row.reference: row.image_id for row in self.state.read(lambda q: q.tags())}
        named: dict[str, list[str]] = {}
        for reference, id in tags.items():
            named.setdefault(id, []).append(reference)
        self._tags = tags
        for row in self.state.read(lambda q: q.images()):
            try:
                self._images[row.id] = self._image(row, tuple(named.get(row.id, ())))
            except ClocheError as error:
                _log.warning("image %s is left out: %s", row.id, error)

    def _image(self, row: ImageRow, tags: tuple[str, ...]) -> Image:
        return Image(
            id=row.id,
            config=decode_config(self.content.read(row.id)),
            tags=tags,
            digests=(),
            chain_id=row.chain_id,
            size=row.size,
            created_at=row.created_at,
            last_tagged_at=row.last_tagged_at,
        )

    def get(self, ref: str) -> Image:
        """By id, unique id prefix or name. Raises ``NotFound``, and ``InvalidArgument`` for a prefix of
        several ids."""
        text = ref.removeprefix("sha256:")
        whole = self._images.get(f"sha256:{text}")
        if whole is not None:
            return whole
        named = self._by_name(ref)
        if named is not None:
            return named
        if text and all(c in "0123456789abcdef" for c in text):
            found = [image for id, image in self._images.items() if id.startswith(f"sha256:{text}")]
            if len(found) > 1:
                raise InvalidArgument(
                    f"image id prefix {ref!r} is ambiguous: {len(found)} images begin with it"
                )
            if found:
                return found[0]
        raise NotFound(f"No such image: {_asked(ref)}")

    def _by_name(self, ref: str) -> Image | None:
        try:
            reference = with_tag(ref)
        except InvalidArgument:
            return None
        id = self._tags.get(str(reference._replace(digest=""))) if reference.tag else None
        return self._images.get(id) if id is not None else None

    def all(self) -> list[Image]:
        """Newest first."""
        return sorted(self._images.values(), key=lambda image: image.created_at, reverse=True)

    def config_blob(self, id: str) -> bytes:
        return self.content.read(id)

    def layer_rows(self, image: Image) -> list[LayerRow]:
        """Bottom first."""
        rows: list[LayerRow] = []
        chain = image.chain_id
        while chain is not None:
            row = self.state.read(lambda q, chain=chain: q.layer(chain))  # type: ignore[misc]
            if row is None:
                raise NotFound(f"image {image.id} has lost its layer {chain}")
            rows.append(row)
            chain = row.parent
        rows.reverse()
        return rows

    async def register(self, config: bytes, layers: Iterable[LayerRow], references: Iterable[str]) -> Image:
        """Make an image exist: its config blob, its layers (bottom first, unpacked), its names (with
        tag). The caller holds ``lock``. A reference that named another image moves to this one."""
        rows = list(layers)
        decoded = decode_config(config)
        if [row.diff_id for row in rows] != decoded.rootfs.diff_ids:
            raise InvalidArgument("the image's config lists other layers than it comes with")
        id = await asyncio.to_thread(self.content.put, config)
        now = time.time_ns()
        top = rows[-1].chain_id if rows else None
        image_row = ImageRow(id, top, sum(row.size for row in rows), _created_at(decoded), now)
        tags = [TagRow(reference, id) for reference in references]

        async def store() -> Image:
            await self.state.write(lambda t: _put(t, rows, image_row, tags))
            self._images[id] = self._image(image_row, self._images[id].tags if id in self._images else ())
            for tag in tags:
                self._retag(tag.reference, id)
            return self._images[id]

        return await _whole(store())

    async def tag(self, ref: str, repository: str, tag: str) -> Image:
        """Name an image. Raises ``NotFound``, ``InvalidArgument``."""
        reference = with_tag(f"{repository}:{tag}" if tag else repository)
        if reference.digest:
            raise InvalidArgument(f"{repository!r} has a digest; a new name has a tag")
        async with self.lock:
            image = self.get(ref)
            row = ImageRow(image.id, image.chain_id, image.size, image.created_at, time.time_ns())
            name = TagRow(str(reference), image.id)

            async def store() -> Image:
                await self.state.write(lambda t: _put(t, [], row, [name]))
                self._images[image.id] = msgspec.structs.replace(image, last_tagged_at=row.last_tagged_at)
                self._retag(name.reference, image.id)
                return self._images[image.id]

            return await _whole(store())

    def _retag(self, reference: str, id: str | None) -> None:
        """Replace the records of the image that had the name and of the one that gets it."""
        old = self._tags.pop(reference, None)
        if old is not None and old in self._images:
            image = self._images[old]
            self._images[old] = msgspec.structs.replace(
                image, tags=tuple(tag for tag in image.tags if tag != reference)
            )
        if id is not None:
            self._tags[reference] = id
            image = self._images[id]
            self._images[id] = msgspec.structs.replace(image, tags=tuple(sorted({*image.tags, reference})))

    async def remove(self, ref: str, force: bool, users: Users) -> list[tuple[str, str]]:
        """Untag, and delete with the last name. Pairs (``Untagged``|``Deleted``, what). Raises
        ``NotFound``, and ``Conflict`` where a container uses the image or an id has several names, unless
        ``force``."""
        async with self.lock:
            image = self.get(ref)
            named = self._by_name(ref)
            reference = str(with_tag(ref)) if named is not None and named.id == image.id else ""
            drop = (reference,) if reference in image.tags else image.tags
            rest = tuple(tag for tag in image.tags if tag not in drop)
            short = image.id[7:19]
            repositories = {tag.rpartition(":")[0] for tag in drop}
            if len(repositories) > 1 and not force:
                raise Conflict(
                    f"conflict: unable to delete {short} (must be forced) - "
                    "image is referenced in multiple repositories"
                )
            delete = not rest
            if delete:
                delete = self._may_delete(image, ref, bool(reference), force, users(image.id))
            return await _whole(self._remove(image, drop, delete))

    def _may_delete(
        self, image: Image, ref: str, by_name: bool, force: bool, using: list[tuple[str, bool]]
    ) -> bool:
        """Whether the image goes with its last name; under ``force`` a container keeps it, nameless."""
        if not using:
            return True
        id, running = sorted(using, key=lambda user: not user[1])[0]
        if by_name and not force:
            raise Conflict(
                f'conflict: unable to remove repository reference "{ref}" (must force) - '
                f"container {id[:12]} is using its referenced image {image.id[7:19]}"
            )
        if running and not by_name:
            raise Conflict(
                f"conflict: unable to delete {image.id[7:19]} (cannot be forced) - "
                f"image is being used by running container {id[:12]}"
            )
        if not force:
            raise Conflict(
                f"conflict: unable to delete {image.id[7:19]} (must be forced) - "
                f"image is being used by stopped container {id[:12]}"
            )
        return False

    async def _remove(self, image: Image, drop: tuple[str, ...], delete: bool) -> list[tuple[str, str]]:
        def change(transaction: Transaction) -> None:
            for reference in drop:
                transaction.delete_tag(reference)
            if delete:
                transaction.delete_image(image.id)

        # Memory first: what is on its way out is not to be taken for a new container.
        for reference in drop:
            self._retag(reference, None)
        if delete:
            del self._images[image.id]
        try:
            await self.state.write(change, frees=True)
        except BaseException:
            self._images[image.id] = image
            self._tags |= dict.fromkeys(drop, image.id)
            raise
        done = [("Untagged", familiar(reference)) for reference in drop]
        if delete:
            done.append(("Deleted", image.id))
            done += [("Deleted", chain) for chain in await self.sweep()]
        return done

    async def collect(self) -> None:
        """Throw away layers, blobs and unfinished snapshots that belong to nothing: after a crash, and
        after the last container of a nameless image went."""
        async with self.lock:
            remains.remove_unfinished(self.snapshots)
            await self.sweep()

    async def sweep(self) -> list[str]:
        """Delete layers that no image has and no snapshot stands on, top down, then blobs that nothing
        names. To its end, also when the caller is cancelled: the next one to hold the lock must not lose
        what it has just brought."""
        return await _whole(remains.sweep(self.state, self.content, self.snapshots))

    def history(self, ref: str) -> list[dict[str, object]]:
        """Docker's rows, newest first: Id, Created (seconds), CreatedBy, Tags, Size, Comment."""
        image = self.get(ref)
        layers = iter(self.layer_rows(image))
        rows: list[dict[str, object]] = []
        for entry in image.config.history:
            layer = None if entry.empty_layer else next(layers, None)
            rows.append(
                _history_row(entry.created, entry.created_by, entry.comment, layer.size if layer else 0)
            )
        for layer in layers:
            rows.append(_history_row("", "", "", layer.size))
        rows.reverse()
        if rows:
            rows[0]["Id"] = image.id
            rows[0]["Tags"] = [familiar(tag) for tag in image.tags] or None
        return rows


async def _whole(change: Coroutine[Any, Any, T]) -> T:
    """Rows and memory change together or not at all: a caller that is cancelled hears of it when that is
    done."""
    task = asyncio.create_task(change)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _put(transaction: Transaction, layers: list[LayerRow], image: ImageRow, tags: list[TagRow]) -> None:
    for layer in layers:
        transaction.put_layer(layer)
    transaction.put_image(image)
    for tag in tags:
        transaction.put_tag(tag)


def _asked(ref: str) -> str:
    """As Docker repeats it, with the tag that it looked for."""
    try:
        return familiar(str(with_tag(ref)))
    except InvalidArgument:
        return ref


def _history_row(created: str, created_by: str, comment: str, size: int) -> dict[str, object]:
    seconds = timestamp(created) // 1_000_000_000
    return {
        "Id": "<missing>",
        "Created": seconds,
        "CreatedBy": created_by,
        "Tags": None,
        "Size": size,
        "Comment": comment,
    }


def decode_config(blob: bytes) -> ImageConfig:
    """Raises ``InvalidArgument`` with the JSON path of what is wrong."""
    try:
        return msgspec.json.decode(blob, type=ImageConfig, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"the image's config is not valid: {error}") from None


def _created_at(config: ImageConfig) -> int:
    return timestamp(config.created or "")


def timestamp(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time; 0 for none and for what is no time."""
    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(digits) :] if dot else ""
    try:
        seconds = datetime.fromisoformat(whole + zone).timestamp()
    except ValueError:
        return 0
    return int(seconds) * 1_000_000_000 + int((digits + "0" * 9)[:9])
