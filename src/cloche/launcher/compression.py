"""Streams of bytes, decompressed: gzip, zstd, xz, bzip2 or plain, told by the magic."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable
from typing import Any

import zstandard
from isal import isal_zlib
from isal.igzip_lib import IsalError

Read = Callable[[int], bytes]
"""Up to so many bytes; ``b""`` at the end."""

CHUNK = 1 << 20
_INPUT = 1 << 18
_MEMORY = 256 << 20
"""Bound of the memory that a stream's own parameters may make a decompressor take."""


class BrokenStream(Exception):
    """The compressed bytes are damaged or cut off."""


def decompressed(read: Read) -> Read:
    """The content of the stream behind ``read``. The result raises ``BrokenStream``."""
    source = _Replay(read)
    head = source.head
    if head.startswith(b"\x1f\x8b"):
        return _Members(source.read, _Gzip, b"\x1f\x8b").read
    if head.startswith(b"\xfd7zXZ\x00"):
        return _Members(source.read, lambda: lzma.LZMADecompressor(memlimit=_MEMORY), b"\xfd7zXZ").read
    if head.startswith(b"BZh"):
        return _Members(source.read, bz2.BZ2Decompressor, b"BZh").read
    if head.startswith(b"\x28\xb5\x2f\xfd") or (len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18"):
        return _Zstandard(source).read
    return source.read


class _Replay:
    """A stream whose first bytes were looked at."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.head = b""
        while len(self.head) < 6 and (piece := read(_INPUT)):
            self.head += piece

    def read(self, length: int = -1) -> bytes:
        if self.head:
            data, self.head = self.head, b""
            if 0 <= length < len(data):
                self.head = data[length:]
                data = data[:length]
            return data
        return self._read(length if length >= 0 else CHUNK)


class _Gzip:
    """isal's inflate with the interface of ``lzma.LZMADecompressor``."""

    def __init__(self) -> None:
        self._inflate = isal_zlib.decompressobj(wbits=31)
        self._tail = b""

    @property
    def eof(self) -> bool:
        return bool(self._inflate.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inflate.unused_data)

    @property
    def needs_input(self) -> bool:
        return not self._tail

    def decompress(self, data: bytes, limit: int) -> bytes:
        output = self._inflate.decompress(self._tail + data if self._tail else data, limit)
        self._tail = self._inflate.unconsumed_tail
        return bytes(output)


class _Members:
    """Several compressed streams one after the other, as ``cat`` and parallel compressors make them."""

    def __init__(self, read: Read, begin: Callable[[], Any], magic: bytes) -> None:
        self._read = read
        self._begin = begin
        self._magic = magic
        self._member = begin()
        self._unread = b""
        self._ended = False

    def read(self, length: int) -> bytes:
        try:
            while not self._ended:
                if self._member.eof:
                    self._next()
                    continue
                data = self._input() if self._member.needs_input else b""
                output: bytes = self._member.decompress(data, length)
                if output:
                    return output
                if not data and self._member.needs_input and not self._member.eof:
                    raise BrokenStream("the compressed stream ends too early")
        except (IsalError, lzma.LZMAError, OSError, EOFError) as error:  # type: ignore[misc]
            if isinstance(error, OSError) and error.errno:
                raise  # of the source; bz2's own have no errno
            raise BrokenStream(f"the compressed stream is damaged: {error}") from None
        return b""

    def _input(self) -> bytes:
        data, self._unread = self._unread, b""
        return data or self._read(_INPUT)

    def _next(self) -> None:
        rest = self._member.unused_data
        while len(rest) < len(self._magic) and (more := self._read(_INPUT)):
            rest += more
        if rest.startswith(self._magic):
            self._unread, self._member = rest, self._begin()
            return
        while rest:
            if rest.strip(b"\0"):
                raise BrokenStream("there is something else behind the compressed stream")
            rest = self._read(_INPUT)
        self._ended = True


class _Zstandard:
    def __init__(self, source: _Replay) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MEMORY // 2)
        self._stream = decompressor.stream_reader(source, read_size=_INPUT, read_across_frames=True)  # type: ignore[arg-type]

    def read(self, length: int) -> bytes:
        try:
            return bytes(self._stream.read(length))
        except zstandard.ZstdError as error:
            raise BrokenStream(f"the compressed stream is damaged: {error}") from None
