"""What the tests of images share: archives made by hand, and a store on a temporary directory."""

import asyncio
import hashlib
import io
import json
import os
import pickle
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from cloche.content.store import ContentStore
from cloche.errors import InvalidArgument
from cloche.images.load import Loaded, load
from cloche.images.save import save
from cloche.images.store import ImageStore
from cloche.launcher.protocol import JobAnswer, JobFailed, LayerUnpacked
from cloche.launcher.unpack import unpack
from cloche.snapshots.overlay2 import Overlay2
from cloche.state.store import Store

Add = Callable[[bytes, str], dict[str, object]]


class ForkingUnpacker:
    """The unpack job without the launcher's socket around it."""

    async def unpack(self, descriptor: int, target: str) -> LayerUnpacked:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writer, pickle.dumps(unpack(descriptor, target)))
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            answer: JobAnswer = pickle.loads(await asyncio.to_thread(pipe.read))
        os.waitpid(pid, 0)
        if isinstance(answer, JobFailed):
            raise InvalidArgument(answer.message)
        assert isinstance(answer, LayerUnpacked)
        return answer


def open_store(root: Path) -> ImageStore:
    state = Store(str(root / "state.db"))
    snapshots = Overlay2(str(root / "overlay2"), str(root / "trash"))
    return ImageStore(state, ContentStore(str(root / "content")), snapshots, ForkingUnpacker())


def traces(store: ImageStore, root: Path) -> tuple[set[str], set[str], list[str]]:
    """Everything that images are on disk."""
    return store.snapshots.keys(), set(store.content.digests()), os.listdir(root / "content/ingest")


async def pieces(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def loaded(store: ImageStore, archive: bytes) -> list[Loaded]:
    return [each async for each in load(store, pieces(archive))]


async def saved(store: ImageStore, *refs: str) -> bytes:
    return b"".join([piece async for piece in save(store, list(refs))])


def tar(files: Mapping[str, bytes | str | int]) -> bytes:
    """``str`` content is a symbolic link, ``int`` a directory's mode."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            elif isinstance(content, int):
                info.type, info.mode = tarfile.DIRTYPE, content & 0o7777
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


ONE = tar({"etc/one": b"1" * 100_000, "gone": b"x"})
TWO = tar({"etc/two": b"2", ".wh.gone": b""})


def config(*layers: bytes, **more: object) -> bytes:
    content = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-02T03:04:05.678901234Z",
        "config": {"Cmd": ["sh"], "Unknown": {"kept": 1}},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha(layer) for layer in layers]},
        "history": [
            {"created": "2024-01-02T03:04:05Z", "created_by": f"step {n}"} for n in range(len(layers))
        ],
        **more,
    }
    return json.dumps(content).encode()


def docker_archive(tags: list[str] | None = None, compress: Callable[[bytes], bytes] = bytes) -> bytes:
    """As old dockers wrote them: a directory for each layer, and links for repeated ones."""
    layers = ["a/layer.tar", "b/layer.tar", "c/layer.tar"]
    manifest = [{"Config": "c.json", "RepoTags": tags, "Layers": layers}]
    return tar(
        {
            "a/layer.tar": compress(ONE),
            "b/layer.tar": compress(TWO),
            "c/layer.tar": "../a/layer.tar",
            "c.json": config(ONE, TWO, ONE),
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def simple_archive(name: str, image: bytes, *layers: bytes) -> bytes:
    """A docker-archive of one image."""
    members = {f"layer{n}": layer for n, layer in enumerate(layers)}
    manifest = [{"Config": "c.json", "RepoTags": [name], "Layers": list(members)}]
    return tar({"c.json": image, **members, "manifest.json": json.dumps(manifest).encode()})


def oci_layout(index: Callable[[Add], list[dict[str, object]]]) -> bytes:
    files: dict[str, bytes | str] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def add(data: bytes, media_type: str) -> dict[str, object]:
        files[f"blobs/sha256/{sha(data)}"] = data
        return {"mediaType": media_type, "digest": "sha256:" + sha(data), "size": len(data)}

    manifests = index(add)
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    return tar(files)


def manifest(add: Add, image: bytes, *layers: bytes) -> dict[str, object]:
    content = {
        "schemaVersion": 2,
        "config": add(image, "application/vnd.oci.image.config.v1+json"),
        "layers": [add(layer, "application/vnd.oci.image.layer.v1.tar+gzip") for layer in layers],
    }
    return add(json.dumps(content).encode(), "application/vnd.oci.image.manifest.v1+json")
