"""What a step is, and what a failed one tells.

A step is a frozen value with three faces: ``execute`` does it, ``describe`` says it in one line of English,
and ``shell`` gives the util-linux/iproute2/shell lines that would do the same. There is no second
description of a container than its steps."""

from __future__ import annotations

from errno import ENOENT
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from cloche.plan.execution import Execution

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")
_NOT_FOUND, _NOT_EXECUTABLE, _NOT_STARTED = 127, 126, 128


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
        none.

        They may use ``$root`` (the container's root; empty after ``PivotRoot``), ``$init`` (init's pid on
        the host) and the functions that ``cloche.plan.shell`` defines."""
        raise NotImplementedError

    def script(self) -> str:
        """The lines that a whole script has in its place: ``shell()`` unless the script has something of
        its own."""
        return self.shell()

    def hint(self, errno: int) -> str:
        """What to do about this errno, or ``""`` where nothing is known."""
        return ""


class StepFailure(msgspec.Struct, frozen=True):
    """A step that failed, whole, as it travels from the container's process to the user."""

    side: str
    """``host`` or ``container``."""
    index: int
    """Position in that side's list; -1 where it was none of them (init was killed, the plan was
    unreadable)."""
    step: str
    """The step's class name."""
    arguments: str
    """``describe()`` of the step."""
    errno: int
    """0 where the failure is not a kernel's refusal."""
    message: str
    """The error, with the call and its arguments; for ``Exec`` in Docker's words, which its clients
    parse."""
    shell: str
    hint: str

    @property
    def exit_code(self) -> int:
        """Docker's exit code of a start that failed so: 127 the program was not found, 126 it cannot be
        executed, 128 anything else."""
        if self.step != "Exec":
            return _NOT_STARTED
        return _NOT_FOUND if self.errno == ENOENT else _NOT_EXECUTABLE

    def render(self) -> str:
        """The failure as one message for the user."""
        # A failed exec speaks for itself; without a step it was no step that failed.
        plain = self.step in ("", "Exec")
        text = self.message if plain else f"{self.step}: {self.arguments}: {self.message}"
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


def quote(text: str) -> str:
    """``text`` as one word of the shell."""
    if text and all(letter in _SAFE for letter in text):
        return text
    return "'" + text.replace("'", "'\"'\"'") + "'"


def inside(path: str) -> str:
    """A path of the container as one word of the script."""
    return f'"$root"{quote("/" + path.lstrip("/"))}'
