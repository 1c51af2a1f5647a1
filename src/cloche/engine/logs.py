"""Reading a container's json-file log: rotated and compressed files, from the end, and live.

The monitor writes ``path`` and moves it to ``path.1`` (then ``path.1.gz``, ``path.2.gz`` ...) when it is
full. A follower holds the file that it reads, not its name, and opens each new one as soon as it appears: a
rotation loses it nothing.
"""

from __future__ import annotations

import asyncio
import calendar
import gzip
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import IO, cast

import msgspec

from cloche.engine.records import LogLine
from cloche.kernel import inotify

BLOCK = 1 << 20
TAIL_BLOCK = 64 << 10


class Entry(msgspec.Struct, frozen=True):
    """One line of the file, in Docker's shape."""

    log: str
    stream: str
    time: str


class Selection(msgspec.Struct, frozen=True):
    """Which lines are wanted. Times in nanoseconds since the epoch, 0 is unbounded; ``tail`` None is all."""

    tail: int | None = None
    since: int = 0
    until: int = 0
    stdout: bool = True
    stderr: bool = True


_decoder = msgspec.json.Decoder(Entry)


def nanoseconds(text: str) -> int:
    """RFC 3339 in UTC with up to nine digits of fraction, as the log has it, to nanoseconds since the
    epoch."""
    seconds = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
    fraction = text[20:].rstrip("Z")
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


class _Lines:
    """Bytes of the log in, selected lines out. Keeps an unfinished line for the next bytes."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._rest = b""
        self.past_end = False
        """A line later than ``until`` was seen."""

    def feed(self, block: bytes) -> list[LogLine]:
        block = self._rest + block
        end = block.rfind(b"\n") + 1
        self._rest = block[end:]
        entries = _entries(block[:end])
        wanted = self._selection
        if wanted.since or wanted.until:
            entries = self._in_time(entries)
        if not (wanted.stdout and wanted.stderr):
            streams = {name for name in ("stdout", "stderr") if getattr(wanted, name)}
            entries = [entry for entry in entries if entry.stream in streams]
        return [LogLine(entry.stream, entry.time, entry.log.encode()) for entry in entries]

    def _in_time(self, entries: list[Entry]) -> list[Entry]:
        since, until = self._selection.since, self._selection.until
        kept = []
        for entry in entries:
            at = nanoseconds(entry.time)
            if until and at > until:
                self.past_end = True
                break
            if at >= since:
                kept.append(entry)
        return kept


def _entries(block: bytes) -> list[Entry]:
    """Whole lines to entries; a line that a crash of the machine left broken is passed over."""
    try:
        return _decoder.decode_lines(block)
    except msgspec.DecodeError:
        return list(_readable(block))


def _readable(block: bytes) -> Iterator[Entry]:
    for line in block.splitlines():
        try:
            yield _decoder.decode(line)
        except msgspec.DecodeError:
            continue


def _rotated(path: str, number: int) -> str | None:
    for name in (f"{path}.{number}", f"{path}.{number}.gz"):
        if os.path.exists(name):
            return name
    return None


def _open(name: str) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(name)) if name.endswith(".gz") else open(name, "rb")


def _open_all(path: str) -> list[IO[bytes]]:
    """The log's files, oldest first, opened so that no rotation comes between. Empty where there is no
    log."""
    for left in reversed(range(20)):
        files: list[IO[bytes]] = []
        try:
            live = open(path, "rb")
        except FileNotFoundError:
            return []
        number = 1
        try:
            while name := _rotated(path, number):
                files.append(_open(name))
                number += 1
            # A rotation moves the oldest first: a gap is one under way, or what a crash has left of one.
            gap = _rotated(path, number + 1) is not None and left > 0
            unmoved = not gap and _is_at(live, path)
        except FileNotFoundError:
            unmoved = False
        if unmoved:
            return [*reversed(files), live]
        for file in (*files, live):
            file.close()
    raise OSError(f"{path}: rotated again and again while it was being opened")


def _is_at(file: IO[bytes], path: str) -> bool:
    """Whether ``path`` names the open file. Raises ``FileNotFoundError``."""
    return os.path.samestat(os.stat(path), os.fstat(file.fileno()))


def _seek_tail(file: IO[bytes], lines: int) -> int:
    """Put a plain file at its last ``lines`` lines; returns how many there are from there on."""
    position = file.seek(0, os.SEEK_END)
    found = 0
    while position:
        step = min(TAIL_BLOCK, position)
        position -= step
        file.seek(position)
        block = file.read(step)
        at = len(block)
        # The last line's own newline ends it and begins none, so one more than `lines` is looked for.
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            found += 1
            if found > lines:
                file.seek(position + at + 1)
                return lines
    file.seek(0)
    return found


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def _tail(files: list[IO[bytes]], lines: int) -> Iterator[bytes]:
    """Blocks of the last ``lines`` lines of all files; leaves the live file at its end."""
    missing = lines
    chosen: list[IO[bytes] | deque[bytes]] = []
    for file in reversed(files):
        if missing <= 0:
            break
        if isinstance(file, gzip.GzipFile):
            kept = deque(file, maxlen=missing)
            missing -= len(kept)
            chosen.append(kept)
        else:
            missing -= _seek_tail(file, missing)
            chosen.append(file)
    if not chosen:
        files[-1].seek(0, os.SEEK_END)
    for part in reversed(chosen):
        if isinstance(part, deque):
            yield b"".join(part)
        else:
            yield from _blocks(part)


def _history(files: list[IO[bytes]], selection: Selection) -> Iterator[bytes]:
    if selection.tail is not None:
        yield from _tail(files, selection.tail)
        return
    for file in files[:-1]:
        # What was last written before `since` has no line after it.
        if os.fstat(file.fileno()).st_mtime_ns >= selection.since:
            yield from _blocks(file)
    yield from _blocks(files[-1])


class _Generations:
    """The live file and those that take its place.

    Several may have come and been rotated away, and compressed, before anybody looks: the kernel's events
    say how many, and so which of the rotated files are still to be read."""

    def __init__(self, path: str, changed: asyncio.Event) -> None:
        self._path = path
        self._name = os.path.basename(path)
        self._changed = changed
        self._next: deque[IO[bytes]] = deque()
        self._created = 0
        self._queue = inotify.open_queue()
        mask = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO
        inotify.add_watch(self._queue, os.path.dirname(path), mask)
        asyncio.get_running_loop().add_reader(self._queue, self._notice)

    def open(self) -> list[IO[bytes]]:
        """All files of the log, oldest first; those that come later are this object's. Empty where there is
        no log. Raises ``OSError`` where rotations leave no time to look."""
        files = self._snapshot()
        self._created = 0
        return files

    def look(self) -> None:
        """Open what has come since the last look."""
        self._count()
        if not self._created:
            return
        try:
            files = self._snapshot()
        except OSError:
            # Rotated again and again: the next event leads here once more.
            return
        # With a bounded log some of them may be gone already.
        first = max(0, len(files) - self._created)
        self._created = 0
        for file in files[:first]:
            file.close()
        self._next.extend(files[first:])

    def _snapshot(self) -> list[IO[bytes]]:
        """The log's files, with all creations counted up to the live one's and none beyond."""
        for _ in range(20):
            files = _open_all(self._path)
            self._count()
            try:
                if not files or _is_at(files[-1], self._path):
                    return files
            except FileNotFoundError:
                pass
            for file in files:
                file.close()
        raise OSError(f"{self._path}: rotated again and again while it was being opened")

    def _count(self) -> bool:
        """Read all events; whether any was about the live file."""
        seen = False
        while events := inotify.read_events(self._queue):
            mine = [event.mask for event in events if event.name == self._name]
            self._created += sum(1 for mask in mine if mask & (inotify.IN_CREATE | inotify.IN_MOVED_TO))
            seen = seen or bool(mine)
        return seen

    def _notice(self) -> None:
        if self._count():
            self.look()
            self._changed.set()

    def next(self) -> IO[bytes] | None:
        return self._next.popleft() if self._next else None

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._queue)
        os.close(self._queue)
        for file in self._next:
            file.close()


async def read(path: str, selection: Selection, ended: asyncio.Event | None) -> AsyncIterator[list[LogLine]]:
    """The selected lines in batches. With ``ended`` also those to come, until it is set and all is read."""
    changed = asyncio.Event()
    generations = _Generations(path, changed) if ended else None
    files: list[IO[bytes]] = []
    try:
        files = generations.open() if generations else _open_all(path)
        lines = _Lines(selection)
        if files:
            async for batch in _batches(_history(files, selection), lines):
                yield batch
        if ended and generations and files:
            async for batch in _follow(files, generations, lines, selection, changed, ended):
                yield batch
    finally:
        if generations:
            generations.close()
        for file in files:
            file.close()


async def _batches(blocks: Iterator[bytes], lines: _Lines) -> AsyncIterator[list[LogLine]]:
    while (batch := await asyncio.to_thread(_next_batch, blocks, lines)) is not None:
        if batch:
            yield batch
        if lines.past_end:
            return


def _next_batch(blocks: Iterator[bytes], lines: _Lines) -> list[LogLine] | None:
    """In a thread: the next block may stand behind a whole compressed file that is only counted."""
    block = next(blocks, None)
    return None if block is None else lines.feed(block)


async def _follow(
    files: list[IO[bytes]],
    generations: _Generations,
    lines: _Lines,
    selection: Selection,
    changed: asyncio.Event,
    ended: asyncio.Event,
) -> AsyncIterator[list[LogLine]]:
    end = asyncio.ensure_future(ended.wait())
    end.add_done_callback(lambda _: changed.set())
    try:
        while not lines.past_end:
            # Both are looked at before reading: what was written before the end, or before the rotation, is
            # then read.
            over = ended.is_set()
            if over:
                generations.look()
            following = generations.next()
            changed.clear()
            async for batch in _batches(_blocks(files[-1]), lines):
                yield batch
            if following:
                files[-1].close()
                files[-1] = following
            elif over or not await _changes(changed, selection.until):
                return
    finally:
        end.cancel()


async def _changes(changed: asyncio.Event, until: int) -> bool:
    """Wait for more; false when ``until`` comes first."""
    if not until:
        return await changed.wait()
    try:
        return await asyncio.wait_for(changed.wait(), max(0.0, (until - time.time_ns()) / 1e9))
    except TimeoutError:
        return False
