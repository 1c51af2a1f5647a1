"""Running a plan: one side's state, the host part and the container part, and what they say to each
other."""

from __future__ import annotations


class Execution:
    """The mutable state of one side of a running plan; steps read and fill it."""
