"""Reading logs: from the end, in time, live, and over rotations."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path

from rig import Rig

from cloche.engine import logs
from cloche.engine.records import LogLine, LogSettings
from cloche.monitor.log import JsonLog
from cloche.monitor.protocol import LogConfig

LINES = "i=0; while [ $i -lt 50 ]; do echo $i; i=$((i+1)); done"


def lines(numbers: range) -> str:
    return "".join(f"{number}\n" for number in numbers)


async def test_tail_and_streams(rig: Rig) -> None:
    id = await rig.start("sh", "-c", f"{LINES}; echo wrong >&2")
    await rig.ended(id)
    assert await rig.output(id, tail=4) == lines(range(47, 50)) + "wrong\n"
    assert await rig.output(id, tail=0) == ""
    assert await rig.output(id, tail=1000) == lines(range(50)) + "wrong\n"
    assert await rig.output(id, stdout=False) == "wrong\n"
    assert await rig.output(id, stderr=False) == lines(range(50))
    await rig.remove(id)


async def test_since_and_until(rig: Rig) -> None:
    id = await rig.start("sh", "-c", "echo early; sleep 0.4; echo late")
    await asyncio.sleep(0.2)
    between = time.time_ns()
    await rig.ended(id)
    assert await rig.output(id, since=between) == "late\n"
    assert await rig.output(id, until=between) == "early\n"
    assert await rig.output(id, follow=True, until=between) == "early\n"
    await rig.remove(id)


async def test_follow_ends_with_the_container_and_has_every_line(rig: Rig) -> None:
    id = await rig.start("sh", "-c", f"echo begin; sleep 0.3; {LINES}")
    following = asyncio.create_task(rig.output(id, follow=True))
    last = asyncio.create_task(rig.output(id, follow=True, tail=0, since=1))
    async with asyncio.timeout(10):
        assert await following == "begin\n" + lines(range(50))
        assert (await last).endswith(lines(range(40, 50)))
        assert await rig.output(id, follow=True) == "begin\n" + lines(range(50))
    await rig.remove(id)


async def test_rotated_files_are_one_log(rig: Rig) -> None:
    """Small files, many rotations, one follower behind them all."""
    log = LogSettings(options={"max-size": "20k", "max-file": "50"})
    script = "sleep 0.2; i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done"
    id = await rig.start("sh", "-c", script, log=log)
    following = asyncio.create_task(rig.output(id, follow=True))
    await rig.ended(id)
    async with asyncio.timeout(20):
        assert await following == lines(range(3000))
    assert await rig.output(id) == lines(range(3000))
    assert await rig.output(id, tail=1500) == lines(range(1500, 3000))
    await rig.remove(id)


async def test_a_follower_that_looks_late_misses_no_rotation(tmp_path: Path) -> None:
    """Two and more rotations between two looks, some of the files compressed by then."""
    path = str(tmp_path / "log")
    log = JsonLog(LogConfig("json-file", path, 1000, 100, True))
    ended = asyncio.Event()
    reading = logs.read(path, logs.Selection(), ended)
    log.write(1, b"first\n")
    batches = [await anext(reading)]
    rest = asyncio.create_task(_all(reading))
    for turn in range(5):
        await asyncio.sleep(0.01)
        # Nothing of the follower runs in here.
        for number in range(30):
            log.write(1, b"%d of %d\n" % (number, turn))
            log.reap(wait=turn > 2)
    log.finish()
    ended.set()
    batches += await asyncio.wait_for(rest, 10)
    text = b"".join(line.data for batch in batches for line in batch)
    wanted = [b"%d of %d\n" % (number, turn) for turn in range(5) for number in range(30)]
    assert text == b"first\n" + b"".join(wanted)
    log.reap(wait=True)


async def _all(reading: AsyncIterator[list[LogLine]]) -> list[list[LogLine]]:
    return [batch async for batch in reading]


async def test_the_log_is_bounded(rig: Rig) -> None:
    log = LogSettings(options={"max-size": "10k", "max-file": "2", "compress": "false"})
    id = await rig.start("seq", "1", "100000", log=log)
    await rig.ended(id)
    output = await rig.output(id)
    assert output.endswith("99999\n100000\n")
    assert output.count("\n") < 50000
    await rig.remove(id)


async def test_a_rotated_file_is_read_beside_everything_else(tmp_path: Path) -> None:
    """The last lines stand in a compressed file whose lines must all be counted."""
    path = str(tmp_path / "log")
    line = b'{"log":"x\\n","stream":"stdout","time":"2026-01-01T00:00:00.000000000Z"}\n'
    Path(path).write_bytes(line)
    with gzip.open(f"{path}.1.gz", "wb", compresslevel=1) as file:
        file.write(line * 300_000)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.create_task(tick())
    batches = [batch async for batch in logs.read(path, logs.Selection(tail=3), None)]
    ticking.cancel()
    assert sum(map(len, batches)) == 3
    assert ticks > 10
