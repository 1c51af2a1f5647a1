"""The user's stdin, stdout and stderr joined to a container over a hijacked connection."""

from __future__ import annotations

import _socket
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cloche.cli.client import Connection

CHUNK = 1 << 16
DETACH_KEYS = b"\x10\x11"


class Frames:
    """Docker's multiplexed stream: a head of eight bytes (stream, three zero bytes, big-endian length), then
    data."""

    def __init__(self) -> None:
        self.buffer = b""

    def feed(self, data: bytes) -> None:
        """Write what has come to stdout and stderr; the end of it may be the beginning of a frame."""
        data = self.buffer + data if self.buffer else data
        at, end = 0, len(data)
        while end - at >= 8:
            stop = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
            if stop > end:
                break
            write(2 if data[at] == 2 else 1, memoryview(data)[at + 8 : stop])
            at = stop
        self.buffer = data[at:]


def write(descriptor: int, data: bytes | memoryview) -> None:
    """All of ``data``."""
    while data:
        data = data[os.write(descriptor, data) :]


class Attachment:
    """Copies both ways until the container's output ends or the user detaches."""

    def __init__(
        self, connection: Connection, *, stdin: bool, terminal: bool, detach_keys: bytes = b""
    ) -> None:
        self.socket = connection.socket
        self.terminal = terminal
        self.frames = Frames()
        self.detach_keys = detach_keys
        self.detached = False
        self.reading = stdin
        self.pending = b""
        """Of stdin, not yet taken by the daemon."""
        self.matched = 0
        """Bytes of the detach sequence seen at the end of stdin; they are held back."""
        if connection.buffer:
            self._show(connection.buffer)

    def run(self, wakeup: int, woken: Callable[[], None]) -> None:
        """Copy. ``woken`` is called when ``wakeup`` (the signals' pipe) is readable."""
        self.socket.setblocking(False)
        poll = select.poll()
        poll.register(wakeup, select.POLLIN)
        while not self.detached:
            poll.register(self.socket, select.POLLIN | (select.POLLOUT if self.pending else 0))
            if self.reading and not self.pending:
                poll.register(0, select.POLLIN)
            for descriptor, events in poll.poll():
                if descriptor == wakeup:
                    woken()
                elif descriptor == 0:
                    poll.unregister(0)
                    self._read_stdin()
                else:
                    if events & select.POLLOUT:
                        self._send()
                    if events & ~select.POLLOUT and not self._receive():
                        return

    def _receive(self) -> bool:
        try:
            data = self.socket.recv(CHUNK)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        self._show(data)
        return bool(data)

    def _show(self, data: bytes) -> None:
        if self.terminal:
            write(1, data)
        else:
            self.frames.feed(data)

    def _read_stdin(self) -> None:
        try:
            data = os.read(0, CHUNK)
        except OSError:
            # The terminal has gone, or we are not in its foreground.
            data = b""
        if not data:
            self.reading = False
            self._close_stdin()
            return
        self.pending += self._unless_detached(data) if self.detach_keys else data
        self._send()

    def _unless_detached(self, data: bytes) -> bytes:
        """What of ``data`` goes on to the container; sets ``detached`` where the sequence is complete."""
        through = b""
        for byte in data:
            if byte == self.detach_keys[self.matched]:
                self.matched += 1
                if self.matched == len(self.detach_keys):
                    self.detached = True
                    break
                continue
            through += self.detach_keys[: self.matched]
            self.matched = 1 if byte == self.detach_keys[0] else 0
            if not self.matched:
                through += bytes([byte])
        return through

    def _send(self) -> None:
        try:
            sent = self.socket.send(self.pending, _socket.MSG_NOSIGNAL)
            self.pending = self.pending[sent:]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            # The container does not read any more; its output may still come.
            self.pending = b""
            self.reading = False

    def _close_stdin(self) -> None:
        try:
            self.socket.shutdown(_socket.SHUT_WR)
        except OSError:
            pass
