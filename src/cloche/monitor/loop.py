"""A small event loop: epoll and one handler for each descriptor."""

from __future__ import annotations

import select
from collections.abc import Callable

Handler = Callable[[int, int], object]
"""Called with the descriptor and the events that are there."""

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
URGENT = select.EPOLLPRI
GONE = select.EPOLLHUP | select.EPOLLERR


class Loop:
    """Level-triggered. epoll reports the end of a peer (``GONE``) also to who watches for nothing: a
    descriptor that is to be left alone has to be unwatched."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Until ``unwatch``. A second call changes both."""
        if descriptor in self._handlers:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def unwatch(self, descriptor: int) -> None:
        """To be called before the descriptor is closed; does nothing where it is not watched."""
        if self._handlers.pop(descriptor, None):
            self._epoll.unregister(descriptor)

    def turn(self, timeout: float | None) -> bool:
        """Wait for something (at most ``timeout`` seconds) and handle it. False where nothing happened."""
        ready = self._epoll.poll(timeout)
        for descriptor, events in ready:
            # An earlier handler of this turn may have ended this one.
            if handler := self._handlers.get(descriptor):
                handler(descriptor, events)
        return bool(ready)
