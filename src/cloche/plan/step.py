"""What a step is, and what a failed one tells.

A step is a frozen value with three faces: ``execute`` does it, ``describe`` says it in one line of English,
and ``shell`` gives the util-linux/iproute2/shell lines that would do the same. There is no second
description of a container than its steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from cloche.plan.execution import Execution


class Step(msgspec.Struct, frozen=True, tag=True, tag_field="step"):
    """One thing done to the kernel. Fields are plain data, so that a plan travels as msgpack and prints as
    JSON."""

    def execute(self, run: Execution) -> None:
        """Do it. Raises ``OSError`` (from ``cloche.kernel``); the executor turns that into a
        ``StepFailure``."""
        raise NotImplementedError

    def describe(self) -> str:
        """One line of text for people, without the step's name in front."""
        raise NotImplementedError

    def shell(self) -> str:
        """Shell lines doing the same with util-linux, iproute2 and sh, or ``""`` where the script needs
        none."""
        raise NotImplementedError

    def hint(self, errno: int) -> str:
        """What to do about this errno, or ``""`` where nothing is known."""
        return ""


class StepFailure(msgspec.Struct, frozen=True):
    """A step that failed, whole, as it travels from the container's process to the user."""

    side: str
    """``host`` or ``container``."""
    index: int
    """Position in that side's list."""
    step: str
    """The step's class name."""
    arguments: str
    """``describe()`` of the step."""
    errno: int
    """0 where the failure is not a kernel's refusal."""
    message: str
    """The error, with the call and its arguments."""
    shell: str
    hint: str

    def render(self) -> str:
        """The failure as one message for the user."""
        text = f"{self.step}: {self.arguments}: {self.message}"
        if self.hint:
            text += f" ({self.hint})"
        return text


class StepError(Exception):
    """A step failed; ``failure`` is everything there is to know."""

    def __init__(self, failure: StepFailure) -> None:
        super().__init__(failure.render())
        self.failure = failure


class StepTime(msgspec.Struct, frozen=True, array_like=True):
    """When a step began and how long it took, in nanoseconds of CLOCK_MONOTONIC."""

    begin: int
    duration: int


class Trace(msgspec.Struct, frozen=True):
    """The measured times of a plan that ran; one entry per step, in the plan's order."""

    host: tuple[StepTime, ...]
    container: tuple[StepTime, ...]
