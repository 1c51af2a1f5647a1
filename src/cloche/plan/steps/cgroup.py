"""Host side: cgroups, the OOM score and the program that guards devices on v2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloche.plan.step import Step

if TYPE_CHECKING:
    pass


class MakeCgroups(Step, frozen=True):
    """Make cgroup directories. Undone by removing those that are nobody's parent in the list (the
    container's own)."""

    directories: tuple[str, ...]
    """Parents first; one that exists is used as it is."""
    cpusets: tuple[str, ...] = ()
    """v1: those of ``directories`` that lie in the cpuset hierarchy. Where ``cpuset.cpus`` or
    ``cpuset.mems`` is empty the parent's value is copied: a process cannot be attached to an empty
    cpuset."""


class WriteCgroup(Step, frozen=True):
    """Write one cgroup file."""

    path: str
    value: str
    tolerate: tuple[int, ...] = ()
    """Errnos that do not matter here."""


class AttachDeviceProgram(Step, frozen=True):
    """v2: load an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE and attach it to the leaf."""

    leaf: str
    program: bytes


class AttachCgroups(Step, frozen=True):
    """Move init into its cgroups (``cgroup.procs`` of each leaf), all together: the kernel waits for one RCU
    grace period."""

    leaves: tuple[str, ...]


class SetOomScore(Step, frozen=True):
    """Set init's ``oom_score_adj``, which its children inherit."""

    value: int
