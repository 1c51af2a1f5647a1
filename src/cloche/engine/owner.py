"""One owner for each container: its verbs run one after the other, each under a deadline.

Only changes pass through here. Lists and inspects read the frozen records and never wait for an owner; a
verb that must wait for the container's end (stop, wait) waits outside of it, so that a kill or an exit is
never held up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cloche.errors import Unavailable

T = TypeVar("T")


class _Verb:
    __slots__ = ("act", "answer", "deadline", "name")

    def __init__(
        self, name: str, act: Callable[[], Awaitable[Any]], deadline: float, answer: asyncio.Future[Any]
    ) -> None:
        self.name = name
        self.act = act
        self.deadline = deadline
        self.answer = answer


class Owner:
    """Runs verbs in the order of their arrival. Its task lives only while there is something to do."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._waiting: deque[_Verb] = deque()
        self._task: asyncio.Task[None] | None = None

    async def run(self, name: str, act: Callable[[], Awaitable[T]], deadline: float = 60.0) -> T:
        """Do ``act`` when its turn comes, within ``deadline`` seconds.

        The verb runs to its end also when the caller goes away, so that nothing stays half done.
        Raises ``Unavailable`` when the deadline passes, and whatever ``act`` raises.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Verb(name, act, deadline, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name=f"owner of {self._subject}")
        return await answer

    async def idle(self) -> None:
        """Wait until every verb that was asked for is done."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._do(self._waiting.popleft())
        finally:
            self._task = None

    async def _do(self, verb: _Verb) -> None:
        try:
            async with asyncio.timeout(verb.deadline):
                result = await verb.act()
        except TimeoutError:
            problem = f"took longer than {verb.deadline:.0f} s and was given up"
            self._answer(verb, Unavailable(f"{verb.name} of container {self._subject} {problem}"))
        except asyncio.CancelledError:
            self._answer(
                verb, Unavailable(f"{verb.name} of container {self._subject}: the engine is closing")
            )
            raise
        except Exception as error:
            self._answer(verb, error)
        else:
            if not verb.answer.done():
                verb.answer.set_result(result)

    @staticmethod
    def _answer(verb: _Verb, error: Exception) -> None:
        if not verb.answer.done():
            verb.answer.set_exception(error)
