"""Verbs that meet each other, and a state database that refuses to write."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from rig import Rig

from cloche.errors import Conflict, NotFound, Unavailable


async def _root_file_system() -> AsyncIterator[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    yield buffer.getvalue()


@contextmanager
def _slow_disk(rig: Rig) -> Iterator[None]:
    """No write is done until the block ends."""
    gate = threading.Event()
    rig.engine._context.store.submit(lambda transaction: gate.wait())
    try:
        yield
    finally:
        gate.set()


@contextmanager
def _full_disk(rig: Rig) -> Iterator[None]:
    """Every write is refused until the block ends."""
    writer = rig.engine._context.store._writer
    writer.execute("PRAGMA query_only = ON")
    try:
        yield
    finally:
        writer.execute("PRAGMA query_only = OFF")


async def test_an_image_stays_for_a_container_that_is_being_created(rig: Rig) -> None:
    await rig.engine.images.import_(_root_file_system(), "raced:1", [], "", "")
    with _slow_disk(rig):
        creating = asyncio.create_task(rig.create("x", image="raced:1"))
        await asyncio.sleep(0.01)
        with pytest.raises(Conflict, match="is using its referenced image"):
            await rig.engine.images.remove("raced:1", False, True)
    await rig.remove((await creating).id)
    with _slow_disk(rig):
        removing = asyncio.create_task(rig.engine.images.remove("raced:1", False, True))
        await asyncio.sleep(0.01)
        with pytest.raises(NotFound):
            await rig.create("x", image="raced:1")
    assert [what for what, _ in await removing] == ["Untagged", "Deleted", "Deleted"]


async def test_an_image_that_could_not_be_removed_is_as_before(rig: Rig) -> None:
    image = await rig.engine.images.import_(_root_file_system(), "kept:1", [], "", "")
    with _full_disk(rig), pytest.raises(Unavailable):
        await rig.engine.images.remove("kept:1", False, True)
    assert rig.engine.images.get("kept:1") == image
    await rig.engine.images.remove("kept:1", False, True)


async def test_a_container_whose_end_could_not_be_stored_starts_again(rig: Rig) -> None:
    id = await rig.start("sleep", "60")
    with _full_disk(rig):
        await rig.engine.containers.kill(id, "KILL")
    assert rig.engine.containers.get(id).state.status == "exited"
    await rig.engine.containers.start(id)
    await rig.remove(id)
    await rig.clean()


async def test_who_waits_for_a_removal_that_fails_waits_no_longer(rig: Rig) -> None:
    id = await rig.start("sleep", "60", auto_remove=True)
    waiting = asyncio.create_task(rig.ended(id, "removed"))
    await asyncio.sleep(0)
    with _full_disk(rig):
        await rig.engine.containers.kill(id, "KILL")
        assert await waiting == 137
    await rig.remove(id)
    await rig.clean()


async def test_a_name_that_could_not_be_stored_is_not_taken(rig: Rig) -> None:
    container = await rig.create("x", name="old")
    with _full_disk(rig), pytest.raises(Unavailable):
        await rig.engine.containers.rename("old", "new")
    assert rig.engine.containers.get("old") == container
    with pytest.raises(NotFound):
        rig.engine.containers.get("new")
    await rig.remove("old")


async def test_nothing_is_launched_at_an_address_that_is_not_stored(rig: Rig) -> None:
    container = await rig.create("sleep", "60", network_mode="bridge")
    socket = f"{rig.settings.run_dir}/c/{container.id[:12]}"
    with _slow_disk(rig):
        starting = asyncio.create_task(rig.engine.containers.start(container.id))
        await asyncio.sleep(0.5)
        assert not os.path.exists(socket)
    await starting
    assert os.path.exists(socket)
    await rig.remove(container.id)
