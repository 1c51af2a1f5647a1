"""Loading, importing, saving, naming and removing images, with real layers unpacked by the real job."""

import asyncio
import gzip
import io
import json
import lzma
import os
import resource
import shutil
import stat
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from tests.engine.images import (
    ONE,
    TWO,
    Add,
    config,
    docker_archive,
    loaded,
    manifest,
    oci_layout,
    open_store,
    pieces,
    saved,
    sha,
    simple_archive,
    tar,
    traces,
)

from cloche.errors import Conflict, Internal, InvalidArgument, NotFound
from cloche.images.busybox import ensure_default
from cloche.images.from_host import from_host
from cloche.images.imports import import_
from cloche.images.load import load
from cloche.images.store import ImageStore

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="images need root")
needs_busybox = pytest.mark.skipif(not shutil.which("busybox"), reason="busybox is not here")
ALPINE = Path(__file__).parents[3] / "shared/images/alpine-minirootfs-3.20.3-x86_64.tar.gz"

Open = Callable[[], ImageStore]


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Open]:
    """Opens the store anew on the same directory, as a restarted daemon does."""
    stores: list[ImageStore] = []

    def again() -> ImageStore:
        if stores:
            stores.pop().state.close()
        stores.append(open_store(tmp_path))
        return stores[0]

    yield again
    for store in stores:
        store.state.close()


@pytest.fixture
def store(reopen: Open) -> ImageStore:
    return reopen()


@pytest.fixture
def short_path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="p") as path:
        yield path


def nobody(id: str) -> list[tuple[str, bool]]:
    """No container uses any image."""
    return []


# --- load


async def test_a_docker_archive(store: ImageStore, reopen: Open) -> None:
    (first, second) = await loaded(store, docker_archive(["app:1", "quay.io/a/b:2"]))
    assert (first.line(), second.line()) == ("Loaded image: app:1", "Loaded image: quay.io/a/b:2")
    assert first.image.id == "sha256:" + sha(config(ONE, TWO, ONE))
    for again in (store, reopen()):
        image = again.get("app:1")
        assert image == again.get("quay.io/a/b:2") == again.get(image.id) == again.get(image.id[7:19])
        assert image.tags == ("docker.io/library/app:1", "quay.io/a/b:2")
        assert image.size == 200_003
        assert image.created_at == 1_704_164_645_678_901_234
        assert again.all() == [image]
        top, middle, bottom = again.snapshots.layers(image.chain_id or "")
        assert sorted(os.listdir(bottom)) == ["etc", "gone"]
        assert os.listdir(f"{middle}/etc") == ["two"]
        assert os.listdir(f"{top}/etc") == ["one"]
        assert json.loads(again.config_blob(image.id))["config"]["Unknown"] == {"kept": 1}


@pytest.mark.parametrize(
    "compress", [gzip.compress, zstandard.compress, lzma.compress], ids=["gzip", "zstd", "xz"]
)
@pytest.mark.parametrize("outer", [True, False])
async def test_compressed(store: ImageStore, compress: Callable[[bytes], bytes], outer: bool) -> None:
    archive = compress(docker_archive()) if outer else docker_archive(compress=compress)
    (one,) = await loaded(store, archive)
    assert one.line() == f"Loaded image ID: {one.image.id}"
    assert one.image.id == "sha256:" + sha(config(ONE, TWO, ONE))


async def test_layers_are_shared(store: ImageStore) -> None:
    await loaded(store, docker_archive(["app:1"]))
    await loaded(store, simple_archive("b:1", config(ONE, note="other"), ONE))
    assert len(store.snapshots.keys()) == 3
    await store.remove("app:1", False, nobody)
    assert len(store.snapshots.keys()) == 1
    assert store.get("b:1").size == 100_001


async def test_a_layer_that_is_there_is_not_kept_twice(store: ImageStore) -> None:
    await loaded(store, docker_archive(["app:1"]))
    before = set(store.content.digests())
    await loaded(store, docker_archive(["app:1"], gzip.compress))
    assert set(store.content.digests()) == before


async def test_a_layer_s_root_directory(store: ImageStore) -> None:
    """One that does not mention it has that of the layer below."""
    strict, silent, open_again = (
        tar({"./": 0o700, "a": b"1"}),
        tar({"b": b"2"}),
        tar({"./": 0o755, "c": b"3"}),
    )
    layers = (strict, silent, open_again)
    await loaded(store, simple_archive("app:1", config(*layers), *layers))
    roots = store.snapshots.layers(store.get("app:1").chain_id or "")
    assert [stat.S_IMODE(os.stat(root).st_mode) for root in roots] == [0o755, 0o700, 0o700]


async def test_an_oci_layout_picks_this_machine_s_image(store: ImageStore) -> None:
    layer = gzip.compress(ONE)
    native = os.uname().machine.replace("x86_64", "amd64").replace("aarch64", "arm64")

    def index(add: Add) -> list[dict[str, object]]:
        foreign = manifest(add, config(ONE, note="s390x"), layer)
        ours = manifest(add, config(ONE), layer)
        attestation = manifest(add, config(ONE, note="attestation"), layer)
        foreign["platform"] = {"os": "linux", "architecture": "s390x"}
        ours["platform"] = {"os": "linux", "architecture": native}
        attestation["platform"] = {"os": "unknown", "architecture": "unknown"}
        attestation["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
        content = json.dumps({"schemaVersion": 2, "manifests": [attestation, foreign, ours]}).encode()
        outer = add(content, "application/vnd.oci.image.index.v1+json")
        return [outer | {"annotations": {"io.containerd.image.name": "docker.io/library/multi:1"}}]

    (one,) = await loaded(store, oci_layout(index))
    assert one.line() == "Loaded image: multi:1"
    assert one.image.id == "sha256:" + sha(config(ONE))


def archive_of(manifest: bytes, **members: bytes) -> bytes:
    return tar({"manifest.json": manifest, **members})


LAYERS = b'[{"Config": "c", "Layers": %s}]'
BROKEN: list[tuple[bytes, str]] = [
    (b"", "empty"),
    (b"nonsense" * 1000, "not a tar archive"),
    (docker_archive()[:30_000], "too early|middle of a file"),
    (gzip.compress(docker_archive())[:200], "too early"),
    (ONE, "docker import"),
    (archive_of(b"{"), "manifest.json of the archive is not valid"),
    (archive_of(b'[{"Config": "c"}]'), "has no c, which"),
    (archive_of(b"[]"), "no image for this machine"),
    (archive_of(b'[{"Config": "c"}]', c=b'{"os": 1}'), "config is not valid"),
    (archive_of(LAYERS % b'["l"]', c=config(ONE)), "has no l, which"),
    (archive_of(LAYERS % b"[]", c=config(ONE)), "lists 1 layers, the archive has 0"),
    (archive_of(LAYERS % b'["l", "l"]', c=config(ONE, TWO), l=ONE), "the image's config says"),
    (archive_of(LAYERS % b'["l"]', c=config(ONE[:90_000]), l=ONE[:90_000]), "broken layer"),
    (archive_of(b'[{"Config": "c", "RepoTags": ["BAD"]}]'), "lowercase"),
    (
        tar({"index.json": b'{"manifests": [{"mediaType": "x", "digest": "sha256:../../x", "size": 1}]}'}),
        "has no",
    ),
    (
        archive_of(LAYERS % b'["l"]', c=b'{"a":' + b"[" * 9999 + b"]" * 9999 + b"}", l=ONE),
        "config is not valid",
    ),
    (archive_of(LAYERS % b'["l"]', c=b'{"author":"\xff"}', l=ONE), "config is not valid"),
    (archive_of(b'[{"Config": "\xff"}]'), "not valid"),
]


@pytest.mark.parametrize(("archive", "message"), BROKEN)
async def test_a_broken_archive_leaves_nothing(
    store: ImageStore, tmp_path: Path, archive: bytes, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        await loaded(store, archive)
    assert traces(store, tmp_path) == (set(), set(), [])
    assert store.state.read(lambda q: (q.images(), q.layers(), q.tags())) == ([], [], [])


async def test_a_blob_that_is_another_is_refused(store: ImageStore) -> None:
    def index(add: Add) -> list[dict[str, object]]:
        return [manifest(add, config(ONE), ONE)]

    archive = oci_layout(index).replace(b"1" * 50, b"2" * 50)
    with pytest.raises(InvalidArgument, match="another digest"):
        await loaded(store, archive)


async def test_a_stream_that_is_cut_off_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield docker_archive()[:50_000]
        raise ConnectionResetError("client gone")

    with pytest.raises(ConnectionResetError):
        [each async for each in load(store, cut())]
    assert traces(store, tmp_path) == (set(), set(), [])


async def test_a_disk_that_takes_no_more(store: ImageStore, tmp_path: Path) -> None:
    """Told as what it is, not as a fault of the archive or of Cloche; the limit stands for the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, hard))
    try:
        with pytest.raises(Internal, match="cannot load the archive: File too large"):
            await loaded(store, docker_archive(["app:1"]))
        with pytest.raises(Internal, match="cannot import the image: File too large"):
            await import_(store, pieces(ONE), "a:1", [], "", "")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert traces(store, tmp_path) == (set(), set(), [])


async def test_an_archive_of_endless_empty_members(store: ImageStore, tmp_path: Path) -> None:
    member = tar({"x": b""})[:512]
    with pytest.raises(InvalidArgument, match="more than 100000 members"):
        await loaded(store, member * 100_001)
    glob = tarfile.TarInfo("g").create_pax_global_header({"k" * 500_000: "v", "l" * 500_000: "v"})
    with pytest.raises(InvalidArgument, match="global headers"):
        await loaded(store, glob + glob.replace(b"kkkkkk", b"jjjjjj"))
    assert traces(store, tmp_path) == (set(), set(), [])


async def test_what_a_crash_left_is_collected(store: ImageStore, reopen: Open, tmp_path: Path) -> None:
    await loaded(store, docker_archive(["app:1"]))
    before = traces(store, tmp_path)
    store.snapshots.prepare("unpack-1234", None)
    store.snapshots.prepare("unpack-5678", None)
    store.snapshots.commit("unpack-5678", "sha256:" + "0" * 64)
    store.content.put(b"orphan")
    store = reopen()
    await store.collect()
    assert traces(store, tmp_path) == before


# --- import


async def test_import_with_changes(store: ImageStore) -> None:
    changes = ['CMD ["/bin/sh"]', "ENV A=1 B='two words'", "EXPOSE 80 53/udp", "WORKDIR /srv", "label x=y"]
    image = await import_(store, pieces(gzip.compress(ONE)), "mine:v1", changes, "", "")
    assert image == store.get("mine:v1")
    runtime = image.config.config
    assert runtime is not None
    assert runtime.Cmd == ["/bin/sh"]
    assert runtime.Env == ["A=1", "B=two words"]
    assert runtime.ExposedPorts == {"80/tcp": {}, "53/udp": {}}
    assert (runtime.WorkingDir, runtime.Labels) == ("/srv", {"x": "y"})
    assert image.config.rootfs.diff_ids == ["sha256:" + sha(ONE)]
    (row,) = store.history("mine:v1")
    assert row["Comment"] == "Imported from -"
    assert row["Size"] == image.size == 100_001


@pytest.mark.parametrize(
    "change", ["FROM x", "CMD", "ENV A", "EXPOSE x", "EXPOSE 70000", "SHELL sh", "ENV 'A=1"]
)
async def test_bad_changes_are_refused_before_anything(
    store: ImageStore, tmp_path: Path, change: str
) -> None:
    with pytest.raises(InvalidArgument):
        await import_(store, pieces(ONE), "mine", [change], "", "")
    assert traces(store, tmp_path) == (set(), set(), [])


async def test_a_broken_import_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument):
        await import_(store, pieces(b"not a tar" * 100), "mine", [], "", "")
    assert traces(store, tmp_path) == (set(), set(), [])


@pytest.mark.skipif(not ALPINE.exists(), reason="../shared/images is not here")
async def test_a_real_root_file_system(store: ImageStore) -> None:
    data = ALPINE.read_bytes()
    image = await import_(store, pieces(data), "alpine:3.20", [], "", "")
    assert image.config.rootfs.diff_ids == ["sha256:" + sha(gzip.decompress(data))]
    (root,) = store.snapshots.layers(image.chain_id or "")
    assert os.readlink(f"{root}/bin/sh") == "/bin/busybox"
    archive = await saved(store, "alpine:3.20")
    await store.remove("alpine:3.20", False, nobody)
    (again,) = await loaded(store, archive)
    assert again.image.id == image.id


# --- save


async def test_what_is_saved_loads_as_the_same(store: ImageStore, tmp_path: Path) -> None:
    await loaded(store, docker_archive(["app:1", "app:2"], gzip.compress))
    before = store.get("app:1")
    blobs = set(store.content.digests())
    archive = await saved(store, "app:1", "app:2")
    await store.remove(before.id, True, nobody)
    assert traces(store, tmp_path) == (set(), set(), [])
    assert [each.reference for each in await loaded(store, archive)] == ["app:1", "app:2"]
    assert (store.get("app:2").id, store.get("app:2").chain_id) == (before.id, before.chain_id)
    assert set(store.content.digests()) == blobs
    assert await saved(store, "app:1", "app:2") == archive


async def test_the_oci_half_of_an_archive_loads_too(store: ImageStore) -> None:
    await loaded(store, docker_archive(["app:1"]))
    id = store.get("app:1").id
    files: dict[str, bytes | str] = {}
    with tarfile.open(fileobj=io.BytesIO(await saved(store, "app:1"))) as members:
        for member in members:
            content = members.extractfile(member)
            assert content is not None
            files[member.name] = content.read()
    del files["manifest.json"]
    await store.remove("app:1", False, nobody)
    (one,) = await loaded(store, tar(files))
    assert (one.image.id, one.reference) == (id, "app:1")


async def test_an_image_saved_by_id_has_no_name(store: ImageStore) -> None:
    await loaded(store, docker_archive(["app:1"]))
    id = store.get("app:1").id
    archive = await saved(store, id[7:19])
    await store.remove("app:1", False, nobody)
    (one,) = await loaded(store, archive)
    assert (one.image.id, one.reference) == (id, "")
    with pytest.raises(NotFound):
        await saved(store, "absent")


@pytest.mark.skipif(not shutil.which("podman"), reason="podman is not here")
@needs_busybox
async def test_podman_and_back(store: ImageStore, tmp_path: Path, short_path: str) -> None:
    """podman loads what is saved here; what it saves then, in both its formats, is the same image here."""
    image = await ensure_default(store)
    archive = tmp_path / "archive.tar"
    archive.write_bytes(await saved(store, "busybox"))
    # podman takes no longer paths than 50 characters here.
    places = ["--root", f"{short_path}/r", "--runroot", f"{short_path}/s", "--storage-driver=vfs"]

    def podman(*arguments: str) -> str:
        done = subprocess.run(["podman", *places, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "busybox:latest" in podman("load", "-i", str(archive))
    assert podman("images", "-q", "--no-trunc").strip() == image.id
    for format in ("docker-archive", "oci-archive"):
        back = tmp_path / format
        podman("save", "--format", format, "-o", str(back), "busybox:latest")
        await store.remove(store.get("busybox").id, True, nobody)
        (one,) = await loaded(store, back.read_bytes())
        assert one.reference == "busybox:latest"
        assert one.image.config.rootfs == image.config.rootfs


# --- the default image


@needs_busybox
async def test_the_default_image(store: ImageStore) -> None:
    image = await ensure_default(store)
    assert await ensure_default(store) == image
    assert image.tags == ("docker.io/library/busybox:latest",)
    (root,) = store.snapshots.layers(image.chain_id or "")
    command = ["chroot", root, "/bin/sh", "-c", "echo $(id -un) | cat"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "root\n"
    await store.remove("busybox", False, nobody)
    assert (await ensure_default(store)).id == image.id


# --- names


async def test_names_move(store: ImageStore, reopen: Open) -> None:
    await loaded(store, docker_archive(["app:1"]))
    old = store.get("app:1").id
    await store.tag("app:1", "quay.io/other/app", "")
    assert store.get("quay.io/other/app:latest").id == old
    await import_(store, pieces(ONE), "app:1", [], "", "")
    with pytest.raises(NotFound, match=r"^No such image: absent:latest$"):
        await store.tag("absent", "x", "y")
    with pytest.raises(InvalidArgument):
        await store.tag(old, "Bad", "y")
    for again in (store, reopen()):
        assert again.get("app:1").id != old
        assert again.get(old).tags == ("quay.io/other/app:latest",)


async def test_removal_by_name_and_by_id(store: ImageStore, tmp_path: Path) -> None:
    await loaded(store, docker_archive(["app:1", "other:2"]))
    id = store.get("app:1").id
    with pytest.raises(Conflict, match="multiple repositories"):
        await store.remove(id, False, nobody)
    assert await store.remove("other:2", False, nobody) == [("Untagged", "other:2")]
    removed = await store.remove(id[7:19], False, nobody)
    assert removed[:2] == [("Untagged", "app:1"), ("Deleted", id)]
    assert len(removed) == 5
    assert store.all() == []
    assert traces(store, tmp_path) == (set(), set(), [])
    with pytest.raises(NotFound):
        await store.remove(id, False, nobody)


async def test_a_used_image_stays(store: ImageStore) -> None:
    await loaded(store, docker_archive(["app:1"]))
    image = store.get("app:1")
    store.snapshots.prepare("box", image.chain_id)
    with pytest.raises(Conflict, match="must force"):
        await store.remove("app:1", False, lambda id: [("c" * 64, False)])
    with pytest.raises(Conflict, match="cannot be forced"):
        await store.remove(image.id, True, lambda id: [("c" * 64, True)])
    done = await store.remove("app:1", True, lambda id: [("c" * 64, False)])
    assert done == [("Untagged", "app:1")]
    assert store.get(image.id).tags == ()
    store.snapshots.remove("box")
    await store.remove(image.id, False, nobody)
    assert store.snapshots.keys() == set()


async def test_history_counts_empty_layers(store: ImageStore) -> None:
    steps = [{"created_by": "a"}, {"created_by": "ENV", "empty_layer": True}, {"created_by": "b"}]
    await loaded(store, simple_archive("h", config(ONE, TWO, history=steps), ONE, TWO))
    rows = store.history("h")
    assert [(row["CreatedBy"], row["Size"]) for row in rows] == [("b", 1), ("ENV", 0), ("a", 100_001)]
    assert rows[0]["Id"] == store.get("h").id
    assert rows[0]["Tags"] == ["h:latest"]
    assert rows[1]["Id"] == "<missing>"


# --- from the host


async def test_commands_of_the_host_run_with_what_they_need(store: ImageStore, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(
        "#!/usr/bin/env python3\nimport json, ssl, sqlite3; print(json.dumps(['from python']))\n"
    )
    script.chmod(0o755)
    image = await from_host(store, "tools", ["bash", "ls", "cat", str(script)])
    assert image.config.config is not None
    (root,) = store.snapshots.layers(image.chain_id or "")

    def run(*command: str) -> str:
        return subprocess.run(["chroot", root, *command], capture_output=True, text=True, check=True).stdout

    assert run("bash", "-c", "ls -d /etc/passwd; cat /etc/group | (read line; echo $line)") == (
        "/etc/passwd\nroot:x:0:\n"
    )
    assert run(str(script)) == '["from python"]\n'


async def test_a_command_that_the_host_lacks(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no command 'cloche-absent'"):
        await from_host(store, "tools", ["bash", "cloche-absent"])
    with pytest.raises(InvalidArgument, match="None was named"):
        await from_host(store, "tools", [])
    with pytest.raises(InvalidArgument, match="lowercase"):
        await from_host(store, "Tools", ["bash"])
    assert traces(store, tmp_path) == (set(), set(), [])


# --- whole or not at all


async def test_a_load_is_cut_off_while_its_rows_are_written(store: ImageStore, reopen: Open) -> None:
    gate = threading.Event()
    store.state.submit(lambda transaction: gate.wait())
    task = asyncio.create_task(loaded(store, simple_archive("a:1", config(ONE), ONE)))
    async with asyncio.timeout(10):
        while not store.content.exists("sha256:" + sha(config(ONE))):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, gate.set)
        with pytest.raises(asyncio.CancelledError):
            await task
    for again in (store, reopen()):
        assert again.snapshots.exists(again.get("a:1").chain_id or "")


async def test_an_image_that_cannot_be_read_keeps_its_layers(store: ImageStore, reopen: Open) -> None:
    (one,) = await loaded(store, simple_archive("a:1", config(ONE), ONE))
    path = Path(store.content.path(one.image.id))
    whole = path.read_bytes()
    path.write_bytes(b"damaged")
    store = reopen()
    assert store.all() == []
    await store.collect()
    path.write_bytes(whole)
    store = reopen()
    assert store.snapshots.exists(store.get("a:1").chain_id or "")


async def test_a_sweep_goes_on_when_nobody_waits_for_it_any_more(store: ImageStore) -> None:
    blob = store.content.put(b"orphan")
    sweeping = asyncio.create_task(store.sweep())
    await asyncio.sleep(0)
    sweeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweeping
    assert not store.content.exists(blob)
