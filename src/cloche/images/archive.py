"""The outer tar of ``docker load``: read once, as it streams in.

A member's name is never a path here: it is a key. Small members stay in memory, large ones are written to
the content store's ingest directory, hashed on the way; they become blobs when something of the archive
names them."""

from __future__ import annotations

import posixpath
from typing import Any

import msgspec

from cloche.content.store import ContentStore, Ingest, digest_of
from cloche.errors import InvalidArgument
from cloche.launcher import tar
from cloche.launcher.compression import BrokenStream, Read, decompressed

_SMALL = 64 << 10
_MEMORY = 64 << 20
_DOCUMENT = 16 << 20
"""Bytes that a JSON document of an archive may have."""
MEMBERS = 100_000
"""That an archive may have; names are kept in memory, and compressed, empty members cost next to nothing."""


class Archive:
    """What an archive holds; a context manager that throws away what nobody committed."""

    def __init__(self, content: ContentStore) -> None:
        self._content = content
        self._small: dict[str, bytes] = {}
        self._large: dict[str, Ingest] = {}
        self._links: dict[str, str] = {}
        self._committed: dict[str, str] = {}
        self._held = 0
        self._members = 0

    def read(self, read: Read) -> None:
        """Take in the whole stream (in a thread). Raises ``InvalidArgument``."""
        try:
            reader = tar.Reader(decompressed(read))
            for entry in reader:
                self._add(entry, reader)
            reader.drain()
        except (tar.BrokenTar, BrokenStream) as error:
            raise InvalidArgument(f"cannot load the archive: {error}") from None

    def _add(self, entry: tar.Entry, reader: tar.Reader) -> None:
        self._members += 1
        if self._members > MEMBERS:
            raise InvalidArgument(f"cannot load the archive: it has more than {MEMBERS} members")
        name = _key(entry.name.decode("utf-8", "backslashreplace"))
        if entry.kind == tar.SYMLINK:
            link = entry.link.decode("utf-8", "backslashreplace")
            self._links[name] = _key(posixpath.join(posixpath.dirname(name), link))
        elif entry.kind == tar.LINK:
            self._links[name] = _key(entry.link.decode("utf-8", "backslashreplace"))
        elif entry.kind == tar.REGULAR:
            self._forget(name)
            if entry.stored <= _SMALL and self._held < _MEMORY:
                self._small[name] = reader.take(_SMALL)
                self._held += entry.stored
                return
            ingest = self._large[name] = self._content.ingest()
            for piece in reader.content():
                ingest.write(piece)

    def _forget(self, name: str) -> None:
        self._small.pop(name, None)
        if name in self._large:
            self._large.pop(name).abort()

    def close(self) -> None:
        for ingest in self._large.values():
            ingest.abort()

    def __contains__(self, name: str) -> bool:
        found = self._find(name)
        return found in self._small or found in self._large or found in self._committed

    def _find(self, name: str) -> str:
        name = _key(name)
        for _ in range(8):
            if name not in self._links:
                break
            name = self._links[name]
        return name

    def document(self, name: str) -> bytes:
        """A small member: a manifest, a config. Raises ``InvalidArgument``."""
        found = self._find(name)
        if found in self._small:
            return self._small[found]
        if found in self._large and self._large[found].size <= _DOCUMENT:
            return self._large[found].head(_DOCUMENT)
        raise InvalidArgument(f"the archive has no {name}, which it refers to")

    def json(self, name: str, type: Any) -> Any:
        try:
            return msgspec.json.decode(self.document(name), type=type)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidArgument(f"{name} of the archive is not valid: {error}") from None

    def digest(self, name: str) -> str:
        """Of a member's bytes. Raises ``InvalidArgument``."""
        found = self._find(name)
        if found in self._committed:
            return self._committed[found]
        if found in self._small:
            return digest_of(self._small[found])
        if found in self._large:
            return self._large[found].digest
        raise InvalidArgument(f"the archive has no {name}, which it refers to")

    def commit(self, name: str) -> str:
        """Make a member a blob of the content store and return its digest. Raises ``InvalidArgument``."""
        found = self._find(name)
        digest = self.digest(name)
        if found in self._large:
            self._large.pop(found).commit()
            self._committed[found] = digest
        elif found in self._small:
            self._content.put(self._small[found])
        return digest


def _key(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")
