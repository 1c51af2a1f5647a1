"""What happened, for whoever wants to know: a bounded ring of past events and streams of the live ones."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator

from cloche.engine.records import Container, Event

RING = 4096
BACKLOG = 16384


class Subscription(AsyncIterator[Event]):
    """Events from the moment of ``Events.subscribe`` on, also those before the first ``anext``."""

    def __init__(self, events: Events, past: list[Event], until: int) -> None:
        self._events = events
        self._past = deque(past)
        self._until = until
        self._live: asyncio.Queue[Event] = asyncio.Queue(BACKLOG)

    def push(self, event: Event) -> None:
        """A reader that lags behind by the whole backlog loses the oldest: the engine never waits for a
        reader."""
        if self._live.full():
            self._live.get_nowait()
        self._live.put_nowait(event)

    async def __anext__(self) -> Event:
        if self._past:
            return self._past.popleft()
        event = await self._next_live()
        if event is None:
            await self.aclose()
            raise StopAsyncIteration
        return event

    async def _next_live(self) -> Event | None:
        if not self._until:
            return await self._live.get()
        left = (self._until - time.time_ns()) / 1e9
        try:
            event = await asyncio.wait_for(self._live.get(), max(left, 0))
        except TimeoutError:
            return None
        return event if event.at <= self._until else None

    async def aclose(self) -> None:
        """Stop listening; needed when the reader leaves before the end."""
        self._events.unsubscribe(self)


class Events:
    """``engine.events``."""

    def __init__(self) -> None:
        self._ring: deque[Event] = deque(maxlen=RING)
        self._subscriptions: set[Subscription] = set()
        self._last = 0

    def publish(self, kind: str, action: str, actor_id: str, attributes: dict[str, str]) -> None:
        """Tell everyone. Times of events never go backwards and are never equal, so that ``since`` is
        exact."""
        at = max(time.time_ns(), self._last + 1)
        self._last = at
        event = Event(kind, action, actor_id, attributes, at)
        self._ring.append(event)
        for subscription in self._subscriptions:
            subscription.push(event)

    def container(self, action: str, container: Container, **attributes: str) -> None:
        """An event of a container, with Docker's attributes: its labels, image and name."""
        known = {**container.labels, "image": container.config.image, "name": container.name}
        self.publish("container", action, container.id, {**known, **attributes})

    def subscribe(self, since: int, until: int) -> Subscription:
        """Past events from ``since``, then live ones until ``until``; nanoseconds, 0 is "none past" and
        "for ever"."""
        past = [e for e in self._ring if e.at >= since and (not until or e.at <= until)] if since else []
        subscription = Subscription(self, past, until)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
