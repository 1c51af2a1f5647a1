"""The connections to daemons: the one that launched the container and those that came later."""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable

import msgspec

from cloche.monitor import packets
from cloche.monitor.loop import READ, Loop
from cloche.monitor.protocol import FromMonitor, Status, ToMonitor

_to_monitor: msgspec.msgpack.Decoder[ToMonitor] = msgspec.msgpack.Decoder(ToMonitor)
_encode = msgspec.msgpack.Encoder().encode


def listen(path: str) -> _socket.socket:
    """A socket for later daemons, root's alone. Raises ``OSError``."""
    directory = path.rpartition("/")[0]
    if os.access(path, os.F_OK):
        os.unlink(path)
    elif not os.access(directory, os.F_OK):
        os.mkdir(directory, 0o700)
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(8)
    return listener


class Control:
    """Broadcasts what happens, receives what to do."""

    def __init__(
        self,
        loop: Loop,
        first: int,
        greeting: Callable[[], Status],
        received: Callable[[ToMonitor, list[int]], None],
    ) -> None:
        """``first`` is the connection of the daemon that launched the container."""
        self._loop = loop
        self._greeting = greeting
        self._received = received
        self._daemons: dict[int, _socket.socket] = {}
        self._listener: _socket.socket | None = None
        self._path = ""
        self._add(first)

    @property
    def connected(self) -> bool:
        """Some daemon is there."""
        return bool(self._daemons)

    def accept(self, listener: int, path: str) -> None:
        """Take later daemons' connections there: ``listener`` is what ``listen`` made of ``path``."""
        self._listener, self._path = _socket.socket(fileno=listener), path
        self._listener.setblocking(False)
        self._loop.watch(listener, READ, self._accept)

    def tell(self, message: FromMonitor) -> None:
        """Every daemon that listens. One that does not read, or has gone, is let go: it finds the truth
        on its return."""
        packet = _encode(message)
        for descriptor in list(self._daemons):
            self._send(descriptor, packet)

    def close(self) -> None:
        """No more daemons: the socket's path is gone when this returns."""
        if self._listener:
            os.unlink(self._path)
            self._loop.unwatch(self._listener.fileno())
            self._listener.close()
            self._listener = None
        for descriptor in list(self._daemons):
            self._drop(descriptor)

    def _accept(self, _descriptor: int, _events: int) -> None:
        assert self._listener
        try:
            descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        self._add(descriptor)
        self._send(descriptor, _encode(self._greeting()))

    def _add(self, descriptor: int) -> None:
        connection = _socket.socket(fileno=descriptor)
        connection.setblocking(False)
        self._daemons[descriptor] = connection
        self._loop.watch(descriptor, READ, self._receive)

    def _receive(self, descriptor: int, _events: int) -> None:
        try:
            packet = packets.receive(self._daemons[descriptor])
        except BlockingIOError:
            return
        except (OSError, packets.Truncated):
            packet = None
        if packet is None:
            self._drop(descriptor)
            return
        message, descriptors = packet
        try:
            request = _to_monitor.decode(message)
        except msgspec.MsgspecError:
            # A daemon of another version: what it wants is unknown here.
            packets.close(descriptors)
            return
        self._received(request, descriptors)

    def _send(self, descriptor: int, packet: bytes) -> None:
        try:
            packets.send(self._daemons[descriptor], packet)
        except OSError:
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        self._loop.unwatch(descriptor)
        self._daemons.pop(descriptor).close()
