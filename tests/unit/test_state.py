import asyncio
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from cloche.errors import Conflict, Unavailable
from cloche.state.rows import ContainerRow, ImageRow, LayerRow, TagRow
from cloche.state.store import SYNC_SECONDS, Store


def row(id: str, name: str) -> ContainerRow:
    return ContainerRow(id, name, "sha256:0", 1, b"record of " + name.encode())


async def test_rows_come_back_after_reopening(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    store = Store(path)
    layer = LayerRow("sha256:c", None, "sha256:d", "sha256:b", 10, "application/x-tar", 20)
    image = ImageRow("sha256:i", "sha256:c", 20, 1, 2)
    await store.write(lambda t: t.put_layer(layer))
    await store.write(lambda t: (t.put_image(image), t.put_tag(TagRow("a:b", "sha256:i"))))
    await store.write(lambda t: t.put_container(row("1", "one")), durable=False)
    await store.write(lambda t: t.set_fact("engine-id", "x"))
    store.close()
    store = Store(path)
    assert store.read(lambda q: q.layer("sha256:c")) == layer
    assert store.read(lambda q: q.images()) == [image]
    assert store.read(lambda q: q.tags()) == [TagRow("a:b", "sha256:i")]
    assert store.read(lambda q: q.containers()) == [row("1", "one")]
    assert store.read(lambda q: q.fact("engine-id")) == "x"
    store.close()


async def test_what_is_not_durable_is_synced_after_a_while(tmp_path: Path) -> None:
    """Told by the database itself: it is written when the log is brought into it, which syncs both."""
    path = tmp_path / "state.db"
    store = Store(str(path))
    await store.write(lambda t: t.set_fact("one", "durable"))
    before = path.read_bytes()
    await store.write(lambda t: t.set_fact("two", "a mark to look for"), durable=False)
    assert path.read_bytes() == before
    deadline = time.monotonic() + 5 * SYNC_SECONDS
    while b"a mark to look for" not in path.read_bytes() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert b"a mark to look for" in path.read_bytes()
    store.close()


async def test_a_name_belongs_to_one_container(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "state.db"))
    await store.write(lambda t: t.put_container(row("1", "one")))
    with pytest.raises(Conflict, match="'one' is already in use"):
        await store.write(lambda t: t.put_container(row("2", "one")))
    await store.write(lambda t: t.put_container(row("1", "renamed")))
    await store.write(lambda t: t.put_container(row("2", "one")))
    assert [r.name for r in store.read(lambda q: q.containers())] == ["renamed", "one"]
    store.close()


async def test_one_failure_in_a_group_leaves_the_others(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "state.db"))

    def bad(transaction: object) -> None:
        transaction.put_container(row("9", "nine"))  # type: ignore[attr-defined]
        raise ValueError("no")

    writes = [store.write(lambda t, n=n: t.put_container(row(str(n), f"c{n}"))) for n in range(20)]
    results = await asyncio.gather(*writes[:10], store.write(bad), *writes[10:], return_exceptions=True)
    assert [type(r) for r in results if r is not None] == [ValueError]
    assert {r.name for r in store.read(lambda q: q.containers())} == {f"c{n}" for n in range(20)}
    store.close()


async def test_references_are_enforced(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "state.db"))
    with pytest.raises(sqlite3.IntegrityError):
        await store.write(lambda t: t.put_tag(TagRow("a:b", "sha256:absent")))
    assert store.read(lambda q: q.tags()) == []
    store.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(Unavailable, match="newer cloche"):
        Store(str(path))


def test_something_else_is_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(Unavailable, match="cannot be opened"):
        Store(str(path))


async def test_who_stops_waiting_stops_neither_the_write_nor_the_writer(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "state.db"))
    gate = threading.Event()
    blocked = store.submit(lambda t: gate.wait())
    dropped = asyncio.wrap_future(store.submit(lambda t: t.put_container(row("1", "one"))))
    dropped.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wrap_future(blocked)
    async with asyncio.timeout(5):
        await store.write(lambda t: t.put_container(row("2", "two")))
    assert [r.name for r in store.read(lambda q: q.containers())] == ["one", "two"]
    store.close()


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "state.db"))
    store.close()
    with pytest.raises(Unavailable, match="closing"):
        async with asyncio.timeout(5):
            await store.write(lambda t: t.put_container(row("1", "one")))
    with pytest.raises(Unavailable, match="closing"):
        store.read(lambda q: q.containers())


async def test_a_database_that_is_full_says_so(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "state.db"))
    await store.write(lambda t: t._connection.execute("PRAGMA max_page_count = 1").fetchone())
    large = ContainerRow("1", "one", "sha256:0", 1, bytes(1 << 20))
    with pytest.raises(Unavailable, match="refused a write: database or disk is full"):
        await store.write(lambda t: t.put_container(large))
    await store.write(lambda t: t.put_container(row("2", "two")))
    assert [r.name for r in store.read(lambda q: q.containers())] == ["two"]
    store.close()
