"""The content-addressed store: ``ROOT/content/blobs/sha256/<hex>``.

A blob appears by rename after its bytes and its digest are known and synced, so whatever stands under a
digest is whole, also after a power cut. Bytes on their way in live in ``ROOT/content/ingest/`` and are
thrown away when the store opens."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import uuid
from types import TracebackType

from cloche.errors import InvalidArgument, NotFound

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """``sha256:...`` of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class ContentStore:
    """``root`` is made where missing. Only one process may write to it."""

    def __init__(self, root: str) -> None:
        self._blobs = os.path.join(root, "blobs", "sha256")
        self._ingest = os.path.join(root, "ingest")
        os.makedirs(self._blobs, mode=0o700, exist_ok=True)
        os.makedirs(self._ingest, mode=0o700, exist_ok=True)
        for name in os.listdir(self._ingest):
            os.unlink(os.path.join(self._ingest, name))

    def path(self, digest: str) -> str:
        """Where the blob is or would be. Raises ``InvalidArgument`` for what is not a sha256 digest: a
        digest out of an archive never becomes another path."""
        if not DIGEST.fullmatch(digest):
            raise InvalidArgument(f"{digest!r} is not a digest: sha256: and 64 hexadecimal digits are")
        return os.path.join(self._blobs, digest[7:])

    def exists(self, digest: str) -> bool:
        return os.path.exists(self.path(digest))

    def size(self, digest: str) -> int:
        """Bytes. Raises ``NotFound``."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            raise NotFound(f"the content store has no blob {digest}") from None

    def open(self, digest: str) -> int:
        """A descriptor for reading. Raises ``NotFound``."""
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"the content store has no blob {digest}") from None

    def read(self, digest: str) -> bytes:
        """A small blob (a config, a manifest), verified. Raises ``NotFound``, ``InvalidArgument`` where the
        disk has other bytes than the digest says."""
        with os.fdopen(self.open(digest), "rb") as file:
            data = file.read()
        if digest_of(data) != digest:
            raise InvalidArgument(f"blob {digest} is damaged on disk; load its image again")
        return data

    def put(self, data: bytes) -> str:
        """Store small bytes; returns their digest."""
        with self.ingest() as ingest:
            ingest.write(data)
            return ingest.commit()

    def ingest(self) -> Ingest:
        """Begin a new blob."""
        return Ingest(self, os.path.join(self._ingest, uuid.uuid4().hex))

    def delete(self, digest: str) -> None:
        """Nothing where it does not exist."""
        try:
            os.unlink(self.path(digest))
        except FileNotFoundError:
            pass

    def digests(self) -> list[str]:
        return ["sha256:" + name for name in os.listdir(self._blobs)]


class Ingest:
    """One blob on its way in; a context manager that throws away what was not committed."""

    def __init__(self, store: ContentStore, path: str) -> None:
        self._store = store
        self._path = path
        self._hash = hashlib.sha256()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.size = 0

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        return "sha256:" + self._hash.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.size += len(data)

    def head(self, length: int) -> bytes:
        """The first bytes written, to tell a format by its magic."""
        return os.pread(self._fd, length, 0)

    def commit(self) -> str:
        """Make the blob durable under its digest and return that."""
        digest = self.digest
        path = self._store.path(digest)
        os.fsync(self._fd)
        os.rename(self._path, path)
        os.close(self._fd)
        self._fd = -1
        sync_directory(os.path.dirname(path))
        return digest

    def abort(self) -> None:
        """Throw away; nothing after ``commit``."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            os.unlink(self._path)


def sync_directory(path: str) -> None:
    """fsync a directory: a rename in it is then on disk. File systems that have no such thing say EINVAL."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)
