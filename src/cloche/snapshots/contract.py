"""The contract of a storage driver.

Two kinds: *active* (writable: a container's, or a layer that is being unpacked) and *committed* (immutable,
may be a parent). A driver never mounts: it returns mounts as plan steps that an executor mounts in the
namespace that needs them. Every method is idempotent under retry after a crash: what it makes appears by
rename, what it deletes goes to the trash directory by rename first."""

from __future__ import annotations

from typing import Protocol

import msgspec

from cloche.plan.step import Step


class Usage(msgspec.Struct, frozen=True):
    """Disk use of one snapshot without its parents."""

    size: int
    """Bytes."""
    inodes: int


class Snapshotter(Protocol):
    """Keys name snapshots. A committed layer's key is its chain id (``sha256:...``), a container's its id.

    Methods are synchronous and quick (a few system calls), but for ``commit``, ``usage`` and ``collect``,
    which a caller with an event loop runs in a thread."""

    name: str
    """Docker's name of the driver, e.g. ``overlay2``."""
    independent_layers: bool
    """True where layers can be unpacked side by side: prepared without a parent, which ``commit`` names."""

    def prepare(self, key: str, parent: str | None) -> None:
        """Make an active snapshot. Raises ``Conflict`` where the key exists, ``NotFound`` for an unknown
        parent."""

    def writable(self, key: str) -> str:
        """Host directory where a new layer is unpacked (an active snapshot's own changes)."""

    def commit(self, key: str, name: str, parent: str | None = None) -> None:
        """Make the active snapshot ``key`` the committed one ``name``, durably. An existing ``name`` wins:
        the active one is then discarded. ``parent`` is for ``independent_layers``; raises ``NotFound``,
        ``Conflict`` as ``prepare`` does."""

    def mounts(self, key: str, target: str, readonly: bool = False) -> tuple[Step, ...]:
        """Steps that put the snapshot at ``target``. An active one is mounted writable unless ``readonly``.
        A committed one can only be looked at."""

    def preview(self, key: str, parent: str | None, target: str) -> tuple[Step, ...]:
        """What ``mounts`` would give after ``prepare``; nothing is made. For explaining beforehand."""
        raise NotImplementedError

    def layers(self, key: str) -> tuple[str, ...]:
        """Directories of the snapshot and its parents, topmost first (for diff, size and inspect)."""

    def exists(self, key: str) -> bool: ...

    def keys(self) -> set[str]:
        """Of all snapshots, active and committed: what reconciling with the state store starts from."""

    def children(self, key: str) -> set[str]:
        """Keys of the snapshots that have this one as parent."""

    def remove(self, key: str) -> None:
        """Forget it; the space is freed by ``collect``. Raises ``Conflict`` while another snapshot has it as
        parent, nothing where it does not exist."""

    def usage(self, key: str) -> Usage:
        """Raises ``NotFound``."""

    def status(self) -> tuple[tuple[str, str], ...]:
        """Rows of ``docker info`` (backing file system and the like)."""

    def collect(self) -> None:
        """Delete what is in the trash. Off the path of any answer."""
