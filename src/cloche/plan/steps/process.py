"""How init is forked, how the two sides wait for each other, and what of a process' own state is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloche.plan.step import Step

if TYPE_CHECKING:
    pass


class Clone(Step, frozen=True):
    """Host side: fork init in new namespaces with one clone3(2). Exactly one per host part that has a
    container part."""

    namespaces: tuple[str, ...]
    """OCI's names: ``pid network mount ipc uts user time``. ``cgroup`` is not allowed here: see
    ``UnshareCgroup``."""
    cgroup: str = ""
    """v2: directory that init is born in (CLONE_INTO_CGROUP), which needs no attach and no RCU grace
    period."""


class Signal(Step, frozen=True):
    """Host side: tell init that ``event`` (``attached``, ``linked``) has happened."""

    event: str


class Await(Step, frozen=True):
    """Container side: wait for the host side's ``Signal`` of the same event."""

    event: str


class JoinNamespace(Step, frozen=True):
    """Container side, before ``PivotRoot``: enter an existing namespace instead of a new one."""

    kind: str
    """OCI's name: ``network mount ipc uts cgroup user time``."""
    path: str
    """On the host, e.g. ``/proc/123/ns/net``."""


class UnshareCgroup(Step, frozen=True):
    """Container side, after ``Await("attached")``: a new cgroup namespace, rooted at the container's own
    cgroups."""


class SetHostname(Step, frozen=True):
    """sethostname(2)."""

    name: str


class SetDomainname(Step, frozen=True):
    """setdomainname(2)."""

    name: str


class WriteSysctl(Step, frozen=True):
    """Write a file below /proc/sys. Host side, or container side before ``ReadonlyPath("/proc/sys")``: in
    the container part after ``PivotRoot`` it writes the container's own /proc."""

    path: str
    """Relative to /proc/sys with slashes, e.g. ``net/ipv4/ip_forward``."""
    value: str


class SetRlimit(Step, frozen=True):
    """setrlimit(2) by OCI's name (``RLIMIT_NOFILE``). -1 is unlimited."""

    name: str
    soft: int
    hard: int


class JoinSessionKeyring(Step, frozen=True):
    """A new session keyring, so that the program does not share the engine's."""

    name: str


class OpenTerminal(Step, frozen=True):
    """Container side, after its devpts is mounted: open a pty there, send the master to the host side, make
    the slave the controlling terminal, descriptors 0, 1 and 2 and /dev/console."""

    rows: int = 0
    columns: int = 0
