"""What a program or library says of itself in its ELF headers: its loader, its libraries and where it looks
for them.

Read, never run: a binary that is asked by ``ldd`` can answer with code of its own. Source: elf(5), System V
gABI chapter 5 "Dynamic Linking"."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, NamedTuple

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_LIMIT = 1 << 20
"""Bytes that one table or string may have here."""


class NotElf(Exception):
    """Not an ELF file, or a damaged one."""


class Elf(NamedTuple):
    bits: int
    machine: int
    interpreter: str
    """Path of the loader; empty for a static program and for most libraries."""
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    """DT_RPATH, which counts only without DT_RUNPATH."""
    runpath: tuple[str, ...]


class _Segment(NamedTuple):
    kind: int
    offset: int
    address: int
    size: int


def read(path: str) -> Elf:
    """Raises ``NotElf``, ``OSError``."""
    with open(path, "rb") as file:
        data = file.read(64)
        if data[:4] != b"\x7fELF" or len(data) < 52:
            raise NotElf(f"{path} is not an ELF file")
        try:
            return _Parser(file, data).parse()
        except (struct.error, IndexError, ValueError) as error:
            raise NotElf(f"{path} is a damaged ELF file: {error}") from None


class _Parser:
    def __init__(self, file: BinaryIO, header: bytes) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._order = "<" if header[5] == 1 else ">"
        self._wide = header[4] == 2
        self._header = header

    def _at(self, offset: int, size: int) -> bytes:
        if size > _LIMIT or offset >= self._size:
            raise ValueError("a table is too large or lies behind the end")
        self._file.seek(offset)
        return self._file.read(size)

    def _unpack(self, format: str, data: bytes) -> tuple[int, ...]:
        return struct.unpack_from(self._order + format, data)

    def parse(self) -> Elf:
        machine = self._unpack("H", self._header[18:])[0]
        segments = self._segments()
        interpreter = ""
        needed: list[str] = []
        paths: dict[int, tuple[str, ...]] = {}
        for segment in segments:
            if segment.kind == _PT_INTERP:
                interpreter = self._at(segment.offset, segment.size).partition(b"\0")[0].decode()
            elif segment.kind == _PT_DYNAMIC:
                entries = self._dynamic(segment)
                table = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
                strings = self._offset(table, segments)
                for tag, value in entries:
                    if tag == _DT_NEEDED:
                        needed.append(self._string(strings + value))
                    elif tag in (_DT_RPATH, _DT_RUNPATH):
                        text = self._string(strings + value)
                        paths[tag] = tuple(part for part in text.split(":") if part)
        return Elf(
            64 if self._wide else 32,
            machine,
            interpreter,
            tuple(needed),
            paths.get(_DT_RPATH, ()),
            paths.get(_DT_RUNPATH, ()),
        )

    def _segments(self) -> list[_Segment]:
        if self._wide:
            start = self._unpack("Q", self._header[32:])[0]
            size, count = self._unpack("HH", self._header[54:])
        else:
            start = self._unpack("I", self._header[28:])[0]
            size, count = self._unpack("HH", self._header[42:])
        table = self._at(start, size * count)
        segments = []
        for index in range(count):
            entry = table[index * size : (index + 1) * size]
            if self._wide:
                kind, _, offset, address, _, length = self._unpack("IIQQQQ", entry)
            else:
                kind, offset, address, _, length = self._unpack("IIIII", entry)
            segments.append(_Segment(kind, offset, address, length))
        return segments

    def _dynamic(self, segment: _Segment) -> list[tuple[int, int]]:
        data = self._at(segment.offset, segment.size)
        format = "QQ" if self._wide else "II"
        step = 16 if self._wide else 8
        entries = []
        for offset in range(0, len(data) - step + 1, step):
            tag, value = self._unpack(format, data[offset:])
            if tag == 0:
                break
            entries.append((tag, value))
        return entries

    def _offset(self, address: int, segments: list[_Segment]) -> int:
        """Where in the file an address of memory comes from."""
        for segment in segments:
            if segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.size:
                return address - segment.address + segment.offset
        return address

    def _string(self, offset: int) -> str:
        return self._at(offset, 4096).partition(b"\0")[0].decode()
