"""Between the program and everybody who listens: its output to the log and to clients, their input to it."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from collections.abc import Callable

from cloche.monitor.attach import BUFFER_LIMIT, Client
from cloche.monitor.log import JsonLog
from cloche.monitor.loop import GONE, READ, WRITE, Loop
from cloche.monitor.protocol import Attachment, MonitorConfig
from cloche.monitor.stdio import CHUNK, Stdin

STDOUT, STDERR = 1, 2

_TERMINAL_BUFFER = 64 << 10
"""Bytes; more than the kernel holds of a terminal's output."""


class Streams:
    """Each byte that the program writes is logged once and sent to every client that wants its stream.
    The program is read no faster than its slowest client takes, within ``BUFFER_LIMIT``."""

    def __init__(
        self,
        loop: Loop,
        config: MonitorConfig,
        ends: dict[str, int],
        log: JsonLog | None,
        detached: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._terminal = config.terminal
        # A terminal stays: who detaches from it comes back to it. So does Docker's.
        self._stdin_once = config.stdin_once and not config.terminal
        self._log = log
        self._detached = detached
        self._clients: dict[int, Client] = {}
        self._stdin: Stdin | None = None
        self._stdin_owner: Client | None = None
        self._console = ends.get("console", -1)
        self._sources: dict[int, int] = {}
        self._paused = False
        self._ending = self._finishing = False
        if self._console >= 0:
            os.set_blocking(self._console, False)
            self._sources[self._console] = STDOUT
            self.resize(config.rows, config.columns)
            # A second descriptor, since epoll takes each but once.
            self._stdin = Stdin(loop, os.dup(self._console), self._watch_clients)
        else:
            self._sources = {ends["stdout"]: STDOUT, ends["stderr"]: STDERR}
            if "stdin" in ends:
                self._stdin = Stdin(loop, ends["stdin"], self._watch_clients)

    def begin(self) -> None:
        """Read the program's output. Clients that attach before miss nothing."""
        self._paused = False
        for descriptor in self._sources:
            self._loop.watch(descriptor, READ, self._read)

    def resize(self, rows: int, columns: int) -> None:
        """The terminal's size, which the kernel tells the program by SIGWINCH."""
        if self._console in self._sources and rows and columns:
            fcntl.ioctl(self._console, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def open(self) -> bool:
        """The program, or whoever it gave a copy to, may still write."""
        return bool(self._sources)

    @property
    def delivering(self) -> bool:
        """Some client has not got everything."""
        return bool(self._clients)

    # --- output ------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """The program has ended: take what is there, however slow the clients are. It is at most what the
        kernel's buffers hold: who still writes may fill them faster than they are read."""
        self._ending = True
        self.begin()
        for descriptor in list(self._sources):
            left = _buffered(descriptor)
            while left > 0 and (count := self._read(descriptor)):
                left -= count

    def end(self) -> None:
        """Nothing more comes: close the sources and the log."""
        for descriptor in list(self._sources):
            self._end_source(descriptor)
        if self._log:
            self._log.finish()

    def finish(self) -> None:
        """Close each client as soon as it has got everything."""
        self._finishing = True
        for client in list(self._clients.values()):
            if not client.pending:
                self._drop(client)

    def _read(self, descriptor: int, _events: int = READ) -> int:
        """Pass one chunk on. Its size, 0 where nothing is there now."""
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return 0
        except OSError as error:
            # The last holder of the terminal's other side has closed it.
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self._end_source(descriptor)
            return 0
        stream = self._sources[descriptor]
        if self._log:
            self._log.write(stream, data)
        for client in list(self._clients.values()):
            if client.streams[stream]:
                self._send(client, stream, data)
        return len(data)

    def _end_source(self, descriptor: int) -> None:
        self._loop.unwatch(descriptor)
        os.close(descriptor)
        del self._sources[descriptor]

    def _send(self, client: Client, stream: int, data: bytes) -> None:
        try:
            client.send(stream, data)
        except OSError:
            self._drop(client)
            return
        if client.pending:
            self._watch_client(client)
        if client.pending >= BUFFER_LIMIT and not self._ending:
            self._paused = True
            for descriptor in self._sources:
                self._loop.unwatch(descriptor)

    def _resume(self) -> None:
        if self._paused and all(client.pending < BUFFER_LIMIT // 2 for client in self._clients.values()):
            self.begin()

    # --- clients -----------------------------------------------------------------------------------------

    def attach(self, descriptor: int, attachment: Attachment) -> None:
        """Takes the client's connection over."""
        try:
            client = Client(descriptor, attachment, self._terminal)
        except OSError:
            os.close(descriptor)
            return
        self._clients[descriptor] = client
        if client.stdin and self._stdin_owner is None:
            self._stdin_owner = client
        self._watch_client(client)
        if attachment.prefix:
            self._input(client, attachment.prefix)

    def _watch_client(self, client: Client) -> None:
        held = client.stdin and self._stdin is not None and self._stdin.full
        events = (0 if client.ended or held else READ) | (WRITE if client.pending else 0)
        self._loop.watch(client.descriptor, events, self._serve)

    def _watch_clients(self) -> None:
        for client in self._clients.values():
            self._watch_client(client)

    def _serve(self, descriptor: int, events: int) -> None:
        client = self._clients[descriptor]
        try:
            if events & WRITE and client.pending:
                self._flush(client)
            elif events & READ and not client.ended:
                self._receive(client)
            elif events & GONE:
                self._lost(client)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)

    def _flush(self, client: Client) -> None:
        client.flush()
        if client.pending == 0:
            if self._finishing:
                self._drop(client)
            else:
                self._watch_client(client)
        self._resume()

    def _receive(self, client: Client) -> None:
        data = client.receive()
        if data is None:
            client.ended = True
            self._leave_stdin(client)
            self._watch_client(client)
        else:
            self._input(client, data)

    def _input(self, client: Client, data: bytes) -> None:
        if not client.stdin or not self._stdin:
            return
        data, detach = client.filter(data)
        self._stdin.write(data)
        if detach:
            # Who detaches wants the program to go on: its stdin stays open.
            if self._stdin_owner is client:
                self._stdin_owner = None
            self._drop(client)
            self._detached()
        elif self._stdin.full:
            self._watch_clients()

    def _lost(self, client: Client) -> None:
        if client.ended or not client.stdin:
            self._drop(client)
        else:
            # What it sent before it went is still to be read, when the program takes more.
            self._loop.unwatch(client.descriptor)

    def _leave_stdin(self, client: Client) -> None:
        if client is self._stdin_owner and self._stdin_once and self._stdin:
            self._stdin.close()

    def _drop(self, client: Client) -> None:
        if self._clients.pop(client.descriptor, None):
            self._loop.unwatch(client.descriptor)
            client.close()
            self._leave_stdin(client)
            self._resume()


def _buffered(source: int) -> int:
    """Bytes that the kernel may hold of the program's output."""
    try:
        return fcntl.fcntl(source, fcntl.F_GETPIPE_SZ)
    except OSError:
        return _TERMINAL_BUFFER
