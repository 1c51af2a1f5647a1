"""A reader of tar streams: ustar, GNU (long names, sparse) and pax (long names, times, xattrs, sparse).

It yields headers as they come and hands out content piece by piece; it never seeks, never keeps what it has
read and opens no file. Everything in a header is bytes, as on disk. Sources: POSIX.1-2008 pax, GNU tar's
manual "Basic Tar Format" and "Storing Sparse Files"."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from cloche.launcher.compression import CHUNK, Read

BLOCK = 512
HEADER_LIMIT = 1 << 20
"""Bytes that one extended header may have. Real ones have a few hundred."""
SPARSE_LIMIT = 1 << 20
"""Regions that one sparse file may have."""

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_ZEROS = bytes(BLOCK)
_XATTR = b"SCHILY.xattr."

REGULAR, LINK, SYMLINK, CHARACTER, BLOCKDEV, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_KINDS = {REGULAR, LINK, SYMLINK, CHARACTER, BLOCKDEV, DIRECTORY, FIFO}


class BrokenTar(Exception):
    """The archive is damaged, cut off or no tar at all."""


class Entry:
    """One header with all its extensions applied."""

    __slots__ = (
        "gid",
        "kind",
        "link",
        "major",
        "minor",
        "mode",
        "mtime",
        "name",
        "size",
        "sparse",
        "stored",
        "uid",
        "xattrs",
    )

    def __init__(self) -> None:
        self.name = b""
        self.kind = REGULAR
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.mtime = 0
        """Nanoseconds since the epoch."""
        self.link = b""
        self.major = 0
        self.minor = 0
        self.size = 0
        """Bytes of the file."""
        self.stored = 0
        """Bytes of it in the archive."""
        self.sparse: list[tuple[int, int]] | None = None
        """(offset, length) of the stored regions; the rest are holes."""
        self.xattrs: dict[str, bytes] = {}


class Reader:
    """Iterate for entries; ``content`` gives the current one's bytes. Raises ``BrokenTar``."""

    def __init__(self, read: Read) -> None:
        self._read_chunk = read
        self._chunk = b""
        self._position = 0
        self._remaining = 0
        self._padding = 0
        self._globals: dict[bytes, bytes] = {}
        self._empty = True

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def content(self) -> Iterator[memoryview]:
        """The rest of the current entry's stored bytes, in pieces."""
        while self._remaining:
            if self._position == len(self._chunk) and not self._fill():
                raise BrokenTar("the archive ends in the middle of a file")
            end = min(len(self._chunk), self._position + self._remaining)
            piece = memoryview(self._chunk)[self._position : end]
            self._remaining -= end - self._position
            self._position = end
            yield piece

    def take(self, limit: int) -> bytes:
        """The current entry's whole content where it is no larger than ``limit`` bytes."""
        if self._remaining > limit:
            raise BrokenTar(f"a member of {self._remaining} bytes where at most {limit} are sensible")
        data = self._read(self._remaining)
        self._remaining = 0
        return data

    def drain(self) -> None:
        """Read to the end of the stream: a digest counts what stands behind the archive's end, too."""
        while self._fill():
            pass

    def _fill(self) -> bool:
        self._chunk = self._read_chunk(CHUNK)
        self._position = 0
        return bool(self._chunk)

    def _read(self, length: int) -> bytes:
        end = self._position + length
        if end <= len(self._chunk):
            data = self._chunk[self._position : end]
            self._position = end
            return data
        pieces = [self._chunk[self._position :]]
        missing = length - len(pieces[0])
        while missing:
            if not self._fill():
                raise BrokenTar("the archive ends too early")
            piece = self._chunk[:missing]
            self._position = len(piece)
            missing -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _skip(self) -> None:
        for _ in self.content():
            pass
        if self._padding:
            self._read(self._padding)
            self._padding = 0

    def _expect(self, size: int) -> None:
        if size < 0:
            raise BrokenTar("a member has a negative size")
        self._remaining = size
        self._padding = -size % BLOCK

    def _block(self) -> bytes | None:
        if self._position == len(self._chunk) and not self._fill():
            if self._empty:
                raise BrokenTar("the archive is empty")
            return None
        self._empty = False
        return self._read(BLOCK)

    def _next(self) -> Entry | None:
        self._skip()
        records: dict[bytes, bytes] = {}
        name = link = b""
        while True:
            block = self._block()
            if block is None:
                if records or name or link:
                    raise BrokenTar("the archive ends behind an extended header")
                return None
            if block == _ZEROS:
                return None
            fields = _parse(block)
            kind = fields[7]
            if kind not in b"xgXLK":
                return self._entry(block, fields, {**self._globals, **records}, name, link)
            self._expect(_number(fields[4]))
            data = self.take(HEADER_LIMIT)
            self._skip()
            if kind == b"L":
                name = data.rstrip(b"\0")
            elif kind == b"K":
                link = data.rstrip(b"\0")
            elif kind == b"g":
                self._globals.update(_records(data))
                if sum(map(len, self._globals)) + sum(map(len, self._globals.values())) > HEADER_LIMIT:
                    raise BrokenTar("the global headers have too many records")
            else:
                records.update(_records(data))

    def _entry(self, block: bytes, fields: Any, pax: dict[bytes, bytes], name: bytes, link: bytes) -> Entry:
        entry = Entry()
        entry.name = name or _name(block, fields)
        entry.link = link or _text(fields[8])
        entry.mode = _number(fields[1]) & 0o7777
        entry.uid, entry.gid = _number(fields[2]), _number(fields[3])
        entry.mtime = _number(fields[5]) * 1_000_000_000
        entry.size = entry.stored = _number(fields[4])
        kind = fields[7]
        if kind in (b"\0", b"7"):
            kind = DIRECTORY if kind == b"\0" and entry.name.endswith(b"/") else REGULAR
        if kind in (CHARACTER, BLOCKDEV):
            entry.major, entry.minor = _number(fields[12]), _number(fields[13])
        if pax:
            _apply(entry, pax)
        if kind == b"S":
            kind = REGULAR
            entry.sparse, entry.size = self._old_sparse(block)
        entry.kind = kind
        if kind not in _KINDS:
            raise BrokenTar(f"{entry.name!r} has the unknown type {kind!r}")
        if kind != REGULAR:
            # Only files have content; some writers put a size into other headers all the same.
            entry.size = entry.stored = 0
        self._expect(entry.stored)
        if pax.get(b"GNU.sparse.major") == b"1":
            self._new_sparse(entry)
        if entry.sparse is not None:
            _check_sparse(entry)
        return entry

    def _old_sparse(self, block: bytes) -> tuple[list[tuple[int, int]], int]:
        """GNU's old format: four regions in the header, 21 in each extension block."""
        regions: list[tuple[int, int]] = []
        size = _number(block[483:495])
        count, offset, more = 4, 386, block[482]
        while True:
            for index in range(count):
                region = block[offset + 24 * index : offset + 24 * index + 24]
                if region[0]:
                    regions.append((_number(region[:12]), _number(region[12:])))
            if not more:
                return regions, size
            if len(regions) > SPARSE_LIMIT:
                raise BrokenTar("a sparse file has too many regions")
            block = self._read(BLOCK)
            count, offset, more = 21, 0, block[504]

    def _new_sparse(self, entry: Entry) -> None:
        """pax sparse format 1.0: the map stands in front of the content, as decimal lines padded to a
        block."""
        numbers: list[int] = []
        rest = b""
        wanted = 1
        while len(numbers) < wanted:
            if self._remaining < BLOCK:
                raise BrokenTar(f"{entry.name!r}: the sparse map is cut off")
            rest += self._read(BLOCK)
            self._remaining -= BLOCK
            *lines, rest = rest.split(b"\n")
            numbers += [_decimal(line) for line in lines[: wanted - len(numbers)]]
            if wanted == 1 and numbers:
                if numbers[0] > SPARSE_LIMIT:
                    raise BrokenTar("a sparse file has too many regions")
                wanted += 2 * numbers[0]
                numbers += [_decimal(line) for line in lines[1:wanted]]
        entry.stored = self._remaining
        entry.sparse = list(zip(numbers[1::2], numbers[2::2], strict=True))


def _parse(block: bytes) -> Any:
    fields = _HEADER.unpack(block)
    field = block[148:156]
    try:
        stored = int(field.strip(b"\0 "), 8)
    except ValueError:
        stored = -1
    unsigned = sum(block) - sum(field) + 256
    # Some old writers added up signed characters.
    if stored != unsigned and stored != unsigned - 256 * sum(byte > 127 for byte in block):
        raise BrokenTar("this is not a tar archive, or it is damaged (a header's checksum is wrong)")
    return fields


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _name(block: bytes, fields: Any) -> bytes:
    name = _text(fields[0])
    # GNU's own format (magic "ustar  ") uses the prefix field for other things.
    if block[257:263] == b"ustar\0":
        prefix = _text(fields[14])
        if prefix:
            return prefix + b"/" + name
    return name


def _number(field: bytes) -> int:
    """Octal text, or GNU's base 256 (high bit set; 0xff leads a negative number)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        return value - (1 << bits) if field[0] == 0xFF else value & ~(1 << (bits - 1))
    text = field.partition(b"\0")[0].strip(b" ")
    if not text:
        return 0
    try:
        return int(text, 8)
    except ValueError:
        raise BrokenTar(f"{text!r} is not an octal number") from None


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise BrokenTar(f"{text!r} is not a decimal number")
    return int(text)


def _records(data: bytes) -> dict[bytes, bytes]:
    """The ``LENGTH KEY=VALUE\\n`` records of a pax header. Repeated keys of sparse format 0.0 are joined
    into the map of 0.1."""
    records: dict[bytes, bytes] = {}
    regions: list[bytes] = []
    position = 0
    while position < len(data) and data[position]:
        space = data.find(b" ", position, position + 21)
        length = _decimal(data[position:space]) if space > 0 else 0
        end = position + length
        record = data[space + 1 : end - 1]
        key, equals, value = record.partition(b"=")
        if space < 0 or end > len(data) or data[end - 1 : end] != b"\n" or not equals or end <= space:
            raise BrokenTar("a pax header is damaged")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            regions.append(value)
        else:
            records[key] = value
        position = end
    if regions:
        records[b"GNU.sparse.map"] = b",".join(regions)
    return records


def _apply(entry: Entry, pax: dict[bytes, bytes]) -> None:
    for key, value in pax.items():
        if key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            entry.size = entry.stored = _decimal(value)
        elif key == b"uid":
            entry.uid = _decimal(value)
        elif key == b"gid":
            entry.gid = _decimal(value)
        elif key == b"mtime":
            entry.mtime = _time(value)
        elif key.startswith(_XATTR):
            entry.xattrs[key[len(_XATTR) :].decode("utf-8", "surrogateescape")] = value
    _apply_sparse(entry, pax)


def _apply_sparse(entry: Entry, pax: dict[bytes, bytes]) -> None:
    name = pax.get(b"GNU.sparse.name")
    if name:
        entry.name = name
    size = pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size")
    if size:
        entry.size = _decimal(size)
    regions = pax.get(b"GNU.sparse.map")
    if regions is not None:
        numbers = [_decimal(number) for number in regions.split(b",")] if regions else []
        if len(numbers) % 2:
            raise BrokenTar(f"{entry.name!r}: the sparse map is damaged")
        entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))


def _check_sparse(entry: Entry) -> None:
    position = stored = 0
    for offset, length in entry.sparse or ():
        if offset < position:
            raise BrokenTar(f"{entry.name!r}: the sparse map is damaged")
        position = offset + length
        stored += length
    if position > entry.size or stored != entry.stored:
        raise BrokenTar(f"{entry.name!r}: the sparse map does not fit the file")


def _time(text: bytes) -> int:
    """Seconds with a fraction, exactly, in nanoseconds."""
    sign = -1 if text.startswith(b"-") else 1
    whole, _, fraction = text.lstrip(b"-").partition(b".")
    return sign * (_decimal(whole) * 1_000_000_000 + _decimal((fraction + b"0" * 9)[:9]))
