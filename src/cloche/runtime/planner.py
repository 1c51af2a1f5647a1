"""From a container's OCI spec to its plan: a pure function, without I/O, clock or randomness."""

from __future__ import annotations

import msgspec

from cloche.cgroups.contract import Placement
from cloche.plan.plan import Plan
from cloche.plan.step import Step
from cloche.runtime.seccomp import Filter
from cloche.runtime.spec import Spec


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan needs beside the spec: all that somebody else has already decided or made."""

    rootfs: tuple[Step, ...]
    """Mount the root file system at ``rootfs_target`` (the snapshotter's steps); empty where it is there already."""
    rootfs_target: str
    placement: Placement
    """From ``cloche.cgroups``, for ``resources.convert(spec.linux.resources)``."""
    user: str | None = None
    """Docker's ``USER[:GROUP]``, resolved in the container; ``None`` takes the numbers of ``spec.process.user``."""
    groups: tuple[str, ...] = ()
    """Docker's ``--group-add``: names or numbers, resolved in the container."""
    seccomp: Filter | None = None
    """The program for ``spec.linux.seccomp``."""
    network_host: tuple[Step, ...] = ()
    """Between ``Signal("attached")`` and ``Signal("linked")``."""
    network_container: tuple[Step, ...] = ()
    """After ``Await("linked")``."""


def plan(spec: Spec, inputs: Inputs) -> Plan:
    """Plan the container. Raises ``InvalidArgument`` for what contradicts itself, ``Unsupported`` for what the spec asks
    for and Cloche does not enforce."""
    raise NotImplementedError
