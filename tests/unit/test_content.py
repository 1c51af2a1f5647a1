import hashlib
import os
from pathlib import Path

import pytest

from cloche.content.store import ContentStore
from cloche.errors import InvalidArgument, NotFound


def test_a_blob_stands_under_its_digest(tmp_path: Path) -> None:
    store = ContentStore(str(tmp_path))
    digest = store.put(b"hello")
    assert digest == "sha256:" + hashlib.sha256(b"hello").hexdigest()
    assert store.read(digest) == b"hello"
    assert store.size(digest) == 5
    assert store.digests() == [digest]
    assert store.put(b"hello") == digest
    store.delete(digest)
    store.delete(digest)
    with pytest.raises(NotFound):
        store.open(digest)


def test_what_was_not_committed_leaves_nothing(tmp_path: Path) -> None:
    store = ContentStore(str(tmp_path))
    with store.ingest() as ingest:
        ingest.write(b"one")
    assert store.digests() == []
    assert os.listdir(tmp_path / "ingest") == []


def test_what_was_on_its_way_is_gone_after_a_restart(tmp_path: Path) -> None:
    (ContentStore(str(tmp_path)).ingest()).write(b"half")
    ContentStore(str(tmp_path))
    assert os.listdir(tmp_path / "ingest") == []


def test_damage_is_noticed(tmp_path: Path) -> None:
    store = ContentStore(str(tmp_path))
    digest = store.put(b"hello")
    Path(store.path(digest)).write_bytes(b"jello")
    with pytest.raises(InvalidArgument, match="damaged"):
        store.read(digest)


@pytest.mark.parametrize(
    "digest", ["sha256:../../../etc/passwd", "sha512:" + "0" * 128, "", "sha256:" + "A" * 64]
)
def test_a_digest_never_becomes_another_path(tmp_path: Path, digest: str) -> None:
    with pytest.raises(InvalidArgument):
        ContentStore(str(tmp_path)).path(digest)
