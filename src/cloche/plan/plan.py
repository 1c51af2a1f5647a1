"""The plan: what is done to the kernel to make one container, in order."""

from __future__ import annotations

import msgspec

from cloche.plan.step import Step


class Plan(msgspec.Struct, frozen=True):
    """The two sides of a container's making; they run concurrently and wait for each other by ``Signal`` and
    ``Await``."""

    host: tuple[Step, ...]
    """Run by the monitor; its ``Clone`` forks init."""
    container: tuple[Step, ...] = ()
    """Run by init; the last one is ``Exec``. Empty for a plan that touches the host only."""
