"""``docker save``: one archive that is both an OCI layout and a docker-archive, so that everything loads it.

Layers go out as the blobs they came in as: same digests, perhaps compressed, which all readers of either
format take."""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from cloche.content.store import ContentStore, digest_of
from cloche.errors import InvalidArgument
from cloche.images.model import Descriptor, Image
from cloche.images.reference import familiar, with_tag
from cloche.images.store import ImageStore
from cloche.launcher.compression import CHUNK
from cloche.state.rows import LayerRow

_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_BLOBS = "blobs/sha256/"


async def save(store: ImageStore, refs: list[str]) -> AsyncIterator[bytes]:
    """An image named by a reference keeps that name in the archive, one named by its id has none; several
    names of one image make one image. Raises ``NotFound`` before the first byte."""
    selected: dict[str, tuple[Image, list[str]]] = {}
    for ref in refs:
        image = store.get(ref)
        names = selected.setdefault(image.id, (image, []))[1]
        names += [name for name in _names(image, ref) if name not in names]
    async with store.lock:
        # Descriptors are opened now: an image removed while it is being sent is sent all the same.
        members = await asyncio.to_thread(_members, store, list(selected.values()))
    try:
        while members:
            member = members.pop(0)
            left = member.size
            try:
                yield _header(member)
                while left and (data := await asyncio.to_thread(member.read, min(left, CHUNK))):
                    left -= len(data)
                    yield data
            finally:
                member.close()
            yield bytes(left + -member.size % 512)
        yield bytes(1024)
    finally:
        for member in members:
            member.close()


def _names(image: Image, ref: str) -> list[str]:
    """The tag that ``ref`` is, none where it is an id."""
    try:
        name = str(with_tag(ref))
    except InvalidArgument:
        return []
    return [name] if name in image.tags else []


class _Member:
    """One file of the archive: bytes, or a blob that is open."""

    def __init__(self, name: str, data: bytes = b"", descriptor: int = -1) -> None:
        self.name = name
        self._data = data
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size if descriptor >= 0 else len(data)

    def read(self, length: int) -> bytes:
        if self._descriptor >= 0:
            return os.read(self._descriptor, length)
        data, self._data = self._data[:length], self._data[length:]
        return data

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _header(member: _Member) -> bytes:
    info = tarfile.TarInfo(member.name)
    info.size = member.size
    return info.tobuf(tarfile.PAX_FORMAT)


def _members(store: ImageStore, selected: list[tuple[Image, list[str]]]) -> list[_Member]:
    blobs: dict[str, Callable[[], _Member]] = {}
    manifests: list[Descriptor] = []
    docker: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for image, names in selected:
        rows = store.layer_rows(image)
        config = store.config_blob(image.id)
        manifest = _manifest(image, config, rows)
        for data in (config, manifest):
            blobs[digest_of(data)] = lambda data=data: _Member(_path(digest_of(data)), data)  # type: ignore[misc]
        for row in rows:
            blobs[row.blob] = lambda digest=row.blob: _blob(store.content, digest)  # type: ignore[misc]
        manifests += _descriptors(manifest, names)
        docker.append(
            {
                "Config": _path(image.id),
                "RepoTags": [familiar(name) for name in names] or None,
                "Layers": [_path(row.blob) for row in rows],
            }
        )
        for name in names if rows else ():
            repository, _, tag = familiar(name).rpartition(":")
            repositories.setdefault(repository, {})[tag] = rows[-1].blob[7:]
    documents = {
        "index.json": {"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests},
        "manifest.json": docker,
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
        "repositories": repositories,
    }
    members = [open_blob() for _, open_blob in sorted(blobs.items())]
    return members + [_Member(name, msgspec.json.encode(content)) for name, content in documents.items()]


def _path(digest: str) -> str:
    return _BLOBS + digest[7:]


def _blob(content: ContentStore, digest: str) -> _Member:
    return _Member(_path(digest), descriptor=content.open(digest))


def _manifest(image: Image, config: bytes, rows: list[LayerRow]) -> bytes:
    return msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": Descriptor(_CONFIG, image.id, len(config)),
            "layers": [Descriptor(row.media_type, row.blob, row.blob_size) for row in rows],
        }
    )


def _descriptors(manifest: bytes, names: list[str]) -> list[Descriptor]:
    """One for each name, or one without."""
    plain = Descriptor(_MANIFEST, digest_of(manifest), len(manifest))
    if not names:
        return [plain]
    return [
        msgspec.structs.replace(
            plain,
            annotations={
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": name.rpartition(":")[2],
            },
        )
        for name in names
    ]
