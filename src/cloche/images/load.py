"""``docker load``: docker-archives and OCI layouts, plain or compressed, into the store."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec

from cloche.errors import Internal, InvalidArgument
from cloche.images.archive import Archive
from cloche.images.feed import in_thread
from cloche.images.model import Descriptor, Image
from cloche.images.reference import familiar, with_tag
from cloche.images.store import ImageStore, decode_config

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
"""Machine names of the kernel -> of Go, which images use."""

_INDEX = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"
_DEPTH = 4
"""Indexes within indexes that are followed."""


class Loaded(NamedTuple):
    """One image of an archive under one name."""

    image: Image
    reference: str
    """Short form, or empty where the archive gives it no name."""

    def line(self) -> str:
        """What ``docker load`` prints."""
        return f"Loaded image: {self.reference}" if self.reference else f"Loaded image ID: {self.image.id}"


class DockerManifest(msgspec.Struct, frozen=True):
    """One entry of a docker-archive's ``manifest.json``."""

    Config: str
    Layers: list[str] | None = None
    RepoTags: list[str] | None = None


class Manifest(msgspec.Struct, frozen=True):
    """image-spec manifest.md, and Docker's schema 2 alike."""

    config: Descriptor
    layers: list[Descriptor] = []


class Index(msgspec.Struct, frozen=True):
    """image-spec image-index.md."""

    manifests: list[Descriptor] = []


class _Found(NamedTuple):
    """An image in the archive, by its members' names."""

    config: str
    layers: list[str]
    references: list[str]


async def load(store: ImageStore, archive: AsyncIterator[bytes]) -> AsyncIterator[Loaded]:
    """Yields each image as it is there. Raises ``InvalidArgument`` for a broken archive; images before the
    broken one stay loaded, nothing of the broken one stays. Raises ``Internal`` where the machine is
    at fault, with a full disk say."""
    contents = Archive(store.content)
    try:
        await in_thread(archive, contents.read)
        for found in _images(contents):
            async with store.lock:
                image = await _load_one(store, contents, found)
            for reference in found.references or [""]:
                yield Loaded(image, familiar(reference))
    except ConnectionError:
        raise
    except OSError as error:
        raise Internal(f"cannot load the archive: {error.strerror or error}") from error
    finally:
        await asyncio.to_thread(contents.close)


async def _load_one(store: ImageStore, contents: Archive, found: _Found) -> Image:
    blob = contents.document(found.config)
    config = decode_config(blob)
    if len(config.rootfs.diff_ids) != len(found.layers):
        raise InvalidArgument(
            f"{found.config} lists {len(config.rootfs.diff_ids)} layers, "
            f"the archive has {len(found.layers)} for it"
        )
    try:
        blobs = [await asyncio.to_thread(contents.commit, name) for name in found.layers]
        rows = await store.layers.unpack(blobs, config.rootfs.diff_ids)
        image = await store.register(blob, rows, found.references)
        if not {row.blob for row in rows}.issuperset(blobs):
            await store.sweep()  # a layer was there already, from a tar compressed otherwise
        return image
    except BaseException:
        await store.sweep()
        raise


def _images(contents: Archive) -> list[_Found]:
    if "manifest.json" in contents:
        manifests = contents.json("manifest.json", list[DockerManifest])
        found = [_Found(m.Config, m.Layers or [], _names(m.RepoTags or [])) for m in manifests]
    elif "index.json" in contents:
        found = _from_index(contents, contents.json("index.json", Index).manifests, (), _DEPTH)
    else:
        raise InvalidArgument(
            "the archive is neither a docker-archive (it has no manifest.json) nor an OCI layout "
            "(it has no index.json); the tar of a root file system is for docker import"
        )
    if not found:
        raise InvalidArgument("the archive holds no image for this machine")
    return found


def _names(tags: list[str]) -> list[str]:
    return [str(with_tag(tag)) for tag in tags]


def _from_index(
    contents: Archive, descriptors: list[Descriptor], names: tuple[str, ...], depth: int
) -> list[_Found]:
    """Images that an index leads to. Each name of the outermost index gets one: this machine's where there
    are several."""
    found: list[_Found] = []
    candidates = [each for each in descriptors if not _is_attestation(each)]
    fitting = _for_this_machine(candidates)
    candidates = fitting[:1] if names else fitting or candidates
    for descriptor in candidates:
        own = names or _annotated(descriptor)
        member = _member(contents, descriptor)
        if descriptor.media_type in _INDEX:
            if not depth:
                raise InvalidArgument("the archive's indexes are nested too deeply")
            inner = contents.json(member, Index).manifests
            found += _from_index(contents, inner, own or ("",), depth - 1)
        else:
            manifest = contents.json(member, Manifest)
            layers = [_member(contents, layer) for layer in manifest.layers]
            config = _member(contents, manifest.config)
            found.append(_Found(config, layers, [name for name in own if name]))
    return found


def _is_attestation(descriptor: Descriptor) -> bool:
    """Build attestations stand in an index like images, but are none."""
    if "vnd.docker.reference.type" in descriptor.annotations:
        return True
    return (descriptor.platform or {}).get("os") == "unknown"


def _for_this_machine(descriptors: list[Descriptor]) -> list[Descriptor]:
    machine = platform.machine()
    wanted = ("linux", ARCHITECTURES.get(machine, machine))

    def fits(descriptor: Descriptor) -> bool:
        target = descriptor.platform or {}
        return not target or (target.get("os"), target.get("architecture")) == wanted

    return [each for each in descriptors if fits(each)]


def _annotated(descriptor: Descriptor) -> tuple[str, ...]:
    name = descriptor.annotations.get(_NAME) or descriptor.annotations.get(_REF_NAME) or ""
    # In ref.name some writers put a bare tag, which names no repository: such an image has no name.
    if not name or (_NAME not in descriptor.annotations and "/" not in name and ":" not in name):
        return ()
    return (str(with_tag(name)),)


def _member(contents: Archive, descriptor: Descriptor) -> str:
    """Name of the member for a descriptor, its content verified."""
    algorithm, _, encoded = descriptor.digest.partition(":")
    name = f"blobs/{algorithm}/{encoded}"
    actual = contents.digest(name)
    if actual != descriptor.digest:
        raise InvalidArgument(f"{name} of the archive has another digest: {actual}")
    return name
