"""One attached client: the HTTP connection itself, which the daemon has handed on.

The descriptor is shared with whoever else holds a copy, so its O_NONBLOCK flag is left alone: each call
says that it does not want to wait.
"""

from __future__ import annotations

import _socket
import struct
from collections import deque

from cloche.monitor.protocol import Attachment

BUFFER_LIMIT = 1 << 20
"""Bytes waiting for one client above which the container's output is not read any more."""
READ_SIZE = 32 << 10

_NO_WAIT = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL


class Client:
    """Sending and receiving; what it means is the monitor's business."""

    __slots__ = (
        "_detach_keys",
        "_framed",
        "_matched",
        "_pending",
        "descriptor",
        "ended",
        "pending",
        "socket",
        "stdin",
        "streams",
    )

    def __init__(self, descriptor: int, attachment: Attachment, terminal: bool) -> None:
        """Takes the descriptor over. Raises ``OSError`` where it is no socket."""
        self.socket = _socket.socket(fileno=descriptor)
        self.descriptor = descriptor
        self.stdin = attachment.stdin
        """Its input goes to the program."""
        self.streams = (0, attachment.stdout, attachment.stderr)
        """By stream number: wanted or not."""
        self.ended = False
        """It has said that nothing more comes from it (a half-close: it may still be listening)."""
        self.pending = 0
        """Bytes that wait for it."""
        self._pending: deque[bytes] = deque()
        self._framed = attachment.framed and not terminal
        self._detach_keys = attachment.detach_keys if terminal else b""
        self._matched = 0

    def send(self, stream: int, data: bytes) -> None:
        """Send output or let it wait. Raises ``OSError`` when the client is gone."""
        parts = [struct.pack(">BxxxL", stream, len(data)), data] if self._framed else [data]
        if self.pending:
            self._keep(parts, 0)
            return
        try:
            sent = self.socket.sendmsg(parts, [], _NO_WAIT)
        except BlockingIOError:
            sent = 0
        self._keep(parts, sent)

    def _keep(self, parts: list[bytes], sent: int) -> None:
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
                continue
            self._pending.append(part[sent:])
            self.pending += len(part) - sent
            sent = 0

    def flush(self) -> None:
        """Send what waits, as far as it goes. Raises ``OSError`` when the client is gone."""
        while self._pending:
            part = self._pending.popleft()
            try:
                sent = self.socket.send(part, _NO_WAIT)
            except BlockingIOError:
                sent = 0
            self.pending -= sent
            if sent < len(part):
                self._pending.appendleft(part[sent:])
                return

    def receive(self) -> bytes | None:
        """Input that is there; ``None`` at its end. Raises ``BlockingIOError``, or ``OSError`` when the
        client is gone."""
        return self.socket.recv(READ_SIZE, _NO_WAIT) or None

    def filter(self, data: bytes) -> tuple[bytes, bool]:
        """What of the input goes to the terminal, and whether the detach keys were typed. The beginning
        of the key sequence is held back until it is clear that it is none."""
        keys = self._detach_keys
        if not keys or (not self._matched and keys[0] not in data):
            return data, False
        passed = bytearray()
        for byte in data:
            if byte != keys[self._matched]:
                passed += keys[: self._matched]
                self._matched = 0
            if byte == keys[self._matched]:
                self._matched += 1
                if self._matched == len(keys):
                    return bytes(passed), True
            else:
                passed.append(byte)
        return bytes(passed), False

    def close(self) -> None:
        """End the connection for all who hold a copy of it."""
        try:
            self.socket.shutdown(_socket.SHUT_RDWR)
            # Input that nobody read would turn the end of the connection into a reset on the client's side.
            while self.receive():
                pass
        except OSError:
            pass
        self.socket.close()
