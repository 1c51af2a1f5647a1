"""The SQLite database: one writer thread, commits in groups, reads from any thread's own call.

An fsync costs milliseconds, so no write happens in the caller's thread: ``write`` queues a function, the
writer runs all that wait in one transaction (each in its own savepoint, so that one's failure is not the
others') and commits once. ``durable`` writes are what a user created or uploaded: they return after an fsync
(``synchronous=FULL``). The others are derived from monitors and the kernel anyway: in WAL mode they survive
the daemon's death at once (``synchronous=NORMAL``), and a power cut when they are two seconds old.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from cloche.errors import Unavailable
from cloche.state.schema import migrate
from cloche.state.transaction import Queries, Transaction

T = TypeVar("T")

SYNC_SECONDS = 2.0
"""The age at which a commit that is not durable is made so."""


RESERVE = 256 << 10
"""Bytes of a file beside the database that a full disk lends to writes which make room."""


class _Write(NamedTuple):
    change: Callable[[Transaction], Any]
    durable: bool
    frees: bool
    future: Future[Any]


class _Full(Unavailable):
    """No room for a write."""


class Store:
    """The open database. ``path`` may be in a new directory's root; raises ``Unavailable`` where it cannot
    be opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._writer = self._connect()
        migrate(self._writer, path)
        self._reader = self._connect()
        self._reserved = False
        self._reserve()
        self._closed = False
        self._read_lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._durable = True
        self._unsynced = 0.0
        """When the oldest commit that a power cut could take back was made; 0 for none."""
        self._thread = threading.Thread(target=self._run, name="state-writer", daemon=True)
        self._thread.start()

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=10
            )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            raise Unavailable(f"the state database {self._path} cannot be opened: {error}") from error
        return connection

    def close(self) -> None:
        """After all queued writes are done. Whoever reads or writes later gets ``Unavailable``."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._writer.close()
        self._reader.close()

    def read(self, query: Callable[[Queries], T]) -> T:
        """Run a query in the caller's thread; sees every commit that has returned."""
        if self._closed:
            raise _closing()
        with self._read_lock:
            return query(Queries(self._reader))

    async def write(
        self, change: Callable[[Transaction], T], durable: bool = True, frees: bool = False
    ) -> T:
        """Run ``change`` in the writer thread, commit, and return its value. What ``change`` raises undoes
        it alone and is raised here. Once queued it runs also when the caller is cancelled. ``frees``: on a
        full disk it may use the reserve, since it makes room."""
        return await asyncio.shield(asyncio.wrap_future(self.submit(change, durable, frees)))

    def submit(
        self, change: Callable[[Transaction], T], durable: bool = True, frees: bool = False
    ) -> Future[T]:
        """``write`` for callers that do not wait, or have no event loop."""
        future: Future[T] = Future()
        # Who waits for it may be cancelled, and would cancel it: it is done all the same, and has a result.
        future.set_running_or_notify_cancel()
        if self._closed:
            future.set_exception(_closing())
        else:
            self._queue.put(_Write(change, durable, frees, future))
        return future

    def _run(self) -> None:
        while True:
            try:
                first = self._queue.get(timeout=self._patience())
            except queue.Empty:
                self._sync()
                continue
            batch: list[_Write] = []
            end = first is None
            if first is not None:
                batch.append(first)
            while not end and not self._queue.empty():
                item = self._queue.get()
                if item is None:
                    end = True
                else:
                    batch.append(item)
            if batch:
                self._commit(batch)
            if end:
                return

    def _patience(self) -> float | None:
        """Seconds to wait for a next write before what is there is synced."""
        return max(0.0, self._unsynced + SYNC_SECONDS - time.monotonic()) if self._unsynced else None

    def _sync(self) -> None:
        try:
            # Syncs the log, then brings it into the database.
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error:
            # The next write meets the same trouble, and has somebody to tell.
            pass
        self._unsynced = 0.0

    def _reserve(self) -> None:
        try:
            reserve = os.open(f"{self._path}-reserve", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(reserve, 0, RESERVE)
                self._reserved = True
            finally:
                os.close(reserve)
        except OSError:
            # No room yet: the next commit tries again.
            pass

    def _lend(self, write: _Write) -> tuple[Any, BaseException | None]:
        self._reserved = False
        try:
            os.truncate(f"{self._path}-reserve", 0)
        except OSError as error:
            return None, self._refused(error)
        outcome = self._attempt([write])[0]
        try:
            # Gives back what the log has taken.
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:
            pass
        return outcome

    def _commit(self, batch: list[_Write]) -> None:
        outcomes = self._attempt(batch)
        for index, write in enumerate(batch):
            if write.frees and isinstance(outcomes[index][1], _Full):
                outcomes[index] = self._lend(write)
        if not self._reserved:
            self._reserve()
        for write, (value, problem) in zip(batch, outcomes, strict=True):
            if problem is None:
                write.future.set_result(value)
            else:
                write.future.set_exception(problem)

    def _attempt(self, batch: list[_Write]) -> list[tuple[Any, BaseException | None]]:
        durable = any(write.durable for write in batch)
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            if durable != self._durable:
                self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._writer.execute("BEGIN IMMEDIATE")
            outcomes = [self._apply(write) for write in batch]
            self._writer.execute("COMMIT")
            self._unsynced = 0.0 if durable else self._unsynced or time.monotonic()
        except Exception as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            outcomes = [(None, self._refused(error))] * len(batch)
        return outcomes

    def _refused(self, error: Exception) -> Unavailable:
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        return (_Full if full else Unavailable)(f"the state database {self._path} refused a write: {error}")

    def _apply(self, write: _Write) -> tuple[Any, BaseException | None]:
        self._writer.execute("SAVEPOINT one")
        try:
            value = write.change(Transaction(self._writer))
        except Exception as problem:
            if not self._writer.in_transaction:
                # SQLite has undone everything itself, the others' changes too.
                raise
            self._writer.execute("ROLLBACK TO one")
            self._writer.execute("RELEASE one")
            full = isinstance(problem, sqlite3.OperationalError)
            return None, self._refused(problem) if full else problem
        self._writer.execute("RELEASE one")
        return value, None


def _closing() -> Unavailable:
    return Unavailable("the engine is closing: ask the next one")
