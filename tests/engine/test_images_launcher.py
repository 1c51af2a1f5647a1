"""Layers through the real launcher: its jobs import everything before they leave the root of the host."""

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from tests.engine.images import ONE, TWO, config, loaded, simple_archive, traces

from cloche.content.store import ContentStore
from cloche.errors import InvalidArgument
from cloche.images.store import ImageStore
from cloche.launcher.client import Launcher
from cloche.snapshots.overlay2 import Overlay2
from cloche.state.store import Store

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="images need root")
COMPRESSIONS: tuple[Callable[[bytes], bytes], ...] = (
    bytes,
    gzip.compress,
    bz2.compress,
    lzma.compress,
    zstandard.compress,
)


async def test_every_compression_and_every_failure(tmp_path: Path) -> None:
    launcher = await Launcher.start()
    state = Store(str(tmp_path / "state.db"))
    snapshots = Overlay2(str(tmp_path / "overlay2"), str(tmp_path / "trash"))
    store = ImageStore(state, ContentStore(str(tmp_path / "content")), snapshots, launcher)
    try:
        for compress in COMPRESSIONS:
            (one,) = await loaded(
                store, simple_archive("app:1", config(ONE, TWO), compress(ONE), compress(TWO))
            )
            assert [row.size for row in store.layer_rows(one.image)] == [100_001, 1]
            await store.remove("app:1", False, lambda id: [])
            packed = compress(ONE)
            for broken in (packed[: len(packed) // 2], packed[:40] + b"damage" + packed[46:]):
                with pytest.raises(InvalidArgument, match="layer"):
                    await loaded(store, simple_archive("app:1", config(ONE, TWO), broken, TWO))
            assert traces(store, tmp_path) == (set(), set(), [])
    finally:
        await launcher.close()
        state.close()
