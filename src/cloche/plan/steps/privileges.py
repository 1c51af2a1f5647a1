"""Container side, last before the program: who it is and what it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloche.plan.step import Step

if TYPE_CHECKING:
    pass


class ResolveUser(Step, frozen=True):
    """After ``PivotRoot``: look Docker's USER up in the container's own /etc/passwd and /etc/group. What is
    found is used by the ``SetIds`` that follows, and HOME is set for ``Exec`` where the environment has
    none."""

    user: str
    """``""`` (root), ``name``, ``uid``, ``name:group``, ``uid:gid``."""
    groups: tuple[str, ...] = ()
    """More groups (``--group-add``), names or numbers."""


class SetIds(Step, frozen=True):
    """setgroups, setresgid, setresuid; the permitted capabilities stay for ``SetCapabilities``. Without
    numbers it uses what ``ResolveUser`` found. ``ChangeDirectory`` and a ``LoadSeccomp`` that needs
    CAP_SYS_ADMIN come before it."""

    uid: int = -1
    gid: int = -1
    groups: tuple[int, ...] = ()


class SetCapabilities(Step, frozen=True):
    """Cut the bounding set and set the process' capability sets, after ``SetIds`` (which keeps what is
    permitted for this).

    For a user that is not root, Docker's sets leave the program without any: a capability survives exec only
    as ambient."""

    bounding: tuple[str, ...]
    """``CAP_...`` names."""
    effective: tuple[str, ...]
    permitted: tuple[str, ...]
    inheritable: tuple[str, ...]
    ambient: tuple[str, ...]


class NoNewPrivileges(Step, frozen=True):
    """prctl(PR_SET_NO_NEW_PRIVS)."""


class LoadSeccomp(Step, frozen=True):
    """Install a BPF filter. Without ``NoNewPrivileges`` before it this needs CAP_SYS_ADMIN, hence comes
    before ``SetCapabilities``."""

    program: bytes
    """``struct sock_filter`` instructions, 8 bytes each."""
    digest: str = ""
    """Of the profile it was compiled from."""
    rules: int = 0
    """How many of the profile's rules apply here."""
    flags: int = 0
    """SECCOMP_FILTER_FLAG_*."""


class ChangeDirectory(Step, frozen=True):
    """chdir in the container, made where missing (as Docker does for WorkingDir), and verified to be inside
    its root (CVE-2024-21626)."""

    path: str


class Exec(Step, frozen=True):
    """Become the program. ``argv[0]`` without a slash is searched in the environment's PATH, inside the
    container."""

    argv: tuple[str, ...]
    environment: tuple[str, ...]
    """``NAME=value`` each."""
