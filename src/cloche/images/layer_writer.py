"""Writes the tar of a layer that Cloche makes itself. The same files give the same bytes."""

from __future__ import annotations

import io
import os
import stat
import tarfile

from cloche.content.store import Ingest
from cloche.launcher.compression import CHUNK


class LayerWriter:
    """Owner is root, times are whole seconds."""

    def __init__(self, ingest: Ingest, mtime: int) -> None:
        self._ingest = ingest
        self._mtime = mtime
        self._names: set[str] = set()

    def _header(self, info: tarfile.TarInfo) -> None:
        self._ingest.write(info.tobuf(tarfile.PAX_FORMAT))

    def _info(self, name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.mtime = kind, mode, self._mtime
        return info

    def has(self, name: str) -> bool:
        return name in self._names

    def directory(self, name: str, mode: int = 0o755) -> None:
        """``name`` is relative to the root, as everywhere here; missing parents are made. Once is enough."""
        if not name or name in self._names:
            return
        self._parents(name)
        self._names.add(name)
        self._header(self._info(name, tarfile.DIRTYPE, mode))

    def _parents(self, name: str) -> None:
        self.directory(os.path.dirname(name))

    def symlink(self, name: str, target: str) -> None:
        self._parents(name)
        self._names.add(name)
        info = self._info(name, tarfile.SYMTYPE, 0o777)
        info.linkname = target
        self._header(info)

    def data(self, name: str, content: bytes, mode: int = 0o644) -> None:
        self._file(name, io.BytesIO(content), len(content), mode)

    def copy(self, name: str, source: str) -> None:
        """A regular file of the host, with its mode. Raises ``OSError``."""
        with open(source, "rb") as file:
            status = os.fstat(file.fileno())
            self._file(name, file, status.st_size, stat.S_IMODE(status.st_mode))

    def _file(self, name: str, file: io.BufferedIOBase, size: int, mode: int) -> None:
        self._parents(name)
        self._names.add(name)
        info = self._info(name, tarfile.REGTYPE, mode)
        info.size = size
        self._header(info)
        left = size
        while left and (piece := file.read(min(left, CHUNK))):
            self._ingest.write(piece)
            left -= len(piece)
        self._ingest.write(bytes(left + -size % 512))

    def finish(self) -> None:
        self._ingest.write(bytes(1024))
