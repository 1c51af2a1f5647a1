"""The owner of a container, and the events."""

from __future__ import annotations

import asyncio
import time

import pytest

from cloche.engine.events import RING, Events
from cloche.engine.owner import Owner
from cloche.errors import Conflict, Unavailable


async def test_verbs_run_one_after_the_other_in_order() -> None:
    owner, seen, inside = Owner("x"), [], 0

    async def verb(number: int) -> int:
        nonlocal inside
        inside += 1
        assert inside == 1
        await asyncio.sleep(0)
        seen.append(number)
        inside -= 1
        return number * 2

    results = await asyncio.gather(*(owner.run("v", lambda n=n: verb(n)) for n in range(5)))  # type: ignore[misc]
    assert (seen, results) == ([0, 1, 2, 3, 4], [0, 2, 4, 6, 8])


async def test_a_failure_is_the_callers_and_the_next_verb_runs() -> None:
    owner = Owner("x")

    async def bad() -> None:
        raise Conflict("no")

    async def good() -> str:
        return "yes"

    failing, working = await asyncio.gather(
        owner.run("b", bad), owner.run("g", good), return_exceptions=True
    )
    assert isinstance(failing, Conflict)
    assert working == "yes"


async def test_a_deadline_frees_the_owner_and_names_the_verb() -> None:
    owner = Owner("abc")

    async def stuck() -> None:
        await asyncio.sleep(60)

    with pytest.raises(Unavailable, match="hang of container abc took longer than"):
        await owner.run("hang", stuck, deadline=0.05)
    assert await owner.run("next", lambda: asyncio.sleep(0, "free")) == "free"


async def test_a_verb_is_done_also_when_its_caller_goes_away() -> None:
    owner, done = Owner("x"), asyncio.Event()

    async def slow() -> None:
        await asyncio.sleep(0.05)
        done.set()

    caller = asyncio.create_task(owner.run("slow", slow))
    await asyncio.sleep(0.01)
    caller.cancel()
    async with asyncio.timeout(2):
        await done.wait()


async def test_past_and_live_events_in_one_stream() -> None:
    events = Events()
    events.publish("image", "tag", "old", {})
    since = time.time_ns() + 1
    events.publish("image", "tag", "past", {})
    stream = events.subscribe(since, time.time_ns() + 100_000_000)
    events.publish("image", "tag", "live", {})
    assert [event.actor_id async for event in stream] == ["past", "live"]
    assert [event.actor_id async for event in events.subscribe(1, time.time_ns())] == ["old", "past", "live"]


async def test_the_ring_is_bounded_and_times_are_unique() -> None:
    events = Events()
    for number in range(RING + 10):
        events.publish("image", "tag", str(number), {})
    kept = [event async for event in events.subscribe(1, time.time_ns() + 1)]
    assert len(kept) == RING
    assert kept[-1].actor_id == str(RING + 9)
    assert len({event.at for event in kept}) == RING
