"""A client of the API: HTTP/1.1 over a unix socket, no more of it than the daemon speaks.

``_socket`` and not ``socket``: the latter imports ``enum`` and ``selectors``, which take longer than a whole
request."""

from __future__ import annotations

import _socket
import os

from cloche.cli import wire
from cloche.cli.errors import ApiError, CommandError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

DEFAULT_HOST = "unix:///run/cloche/cloche.sock"
SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")


def quote(text: str) -> str:
    """Percent-encoding (RFC 3986 section 2.1), also of bytes of an argument that are not UTF-8."""
    encoded = text.encode(errors="surrogateescape")
    return "".join(chr(byte) if chr(byte) in SAFE else f"%{byte:02X}" for byte in encoded)


def query(**parameters: Any) -> str:
    """``?a=b&...`` of those parameters that are not None, False or empty."""
    pairs = []
    for name, value in parameters.items():
        if value is None or value is False or value == "":
            continue
        values = value if isinstance(value, list) else [value]
        pairs += [f"{name}={quote('1' if item is True else str(item))}" for item in values]
    return "?" + "&".join(pairs) if pairs else ""


class Connection:
    """One connection, and the reading side of its buffer."""

    def __init__(self, path: str) -> None:
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            self.socket.connect(path)
        except OSError as error:
            self.socket.close()
            raise Unreachable(
                f"no daemon answers at unix://{path}: {error.strerror}; start one with: cloche daemon -H unix://{path}"
            ) from None
        self.buffer = b""

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data, _socket.MSG_NOSIGNAL)

    def fill(self) -> bool:
        """Read on; false at the end, also where the daemon died."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)

    def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            if not self.fill():
                raise Unreachable("the daemon closed the connection in the middle of an answer")
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def exactly(self, count: int) -> Iterator[bytes]:
        while count:
            if not self.buffer and not self.fill():
                raise Unreachable("the daemon closed the connection in the middle of an answer")
            piece, self.buffer = self.buffer[:count], self.buffer[count:]
            count -= len(piece)
            yield piece


class Response:
    """An answer, its head read; the body is read by ``stream`` or ``read``."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.status = int(connection.line().split(b" ", 2)[1])
        self.headers: dict[str, str] = {}
        while line := connection.line():
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()

    def stream(self) -> Iterator[bytes]:
        """Pieces of the body as they come."""
        if self.status in (101, 204, 304):
            return
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self.connection.line().partition(b";")[0], 16):
                yield from self.connection.exactly(size)
                self.connection.line()
            self.connection.line()
        elif "content-length" in self.headers:
            yield from self.connection.exactly(int(self.headers["content-length"]))
        else:
            while self.connection.buffer or self.connection.fill():
                piece, self.connection.buffer = self.connection.buffer, b""
                yield piece

    def read(self) -> bytes:
        return b"".join(self.stream())

    def values(self) -> Iterator[Any]:
        """JSON values of a body that has one a line."""
        pending = b""
        for piece in self.stream():
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                if line.strip():
                    yield wire.decode(line)
        if pending.strip():
            yield wire.decode(pending)

    def check(self) -> Response:
        """Raise ``ApiError`` for a refusal."""
        if self.status >= 400:
            body = self.read()
            try:
                message = wire.decode(body)["message"]
            except (ValueError, KeyError, TypeError):
                message = body.decode(errors="replace").strip() or f"HTTP status {self.status}"
            raise ApiError(self.status, message)
        return self


class Client:
    """The daemon at ``host``. One connection is kept for the requests that end with their answer; those that
    stream have their own."""

    def __init__(self, host: str) -> None:
        if not host.startswith("unix://"):
            raise CommandError(f"cannot speak to {host!r}: only unix:// sockets are supported", 125)
        self.path = host.removeprefix("unix://")
        self._kept: Connection | None = None

    def reach(self) -> Connection:
        """The kept connection, made where there is none. Raises ``Unreachable``."""
        if self._kept is None:
            self._kept = Connection(self.path)
        return self._kept

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A request with a JSON answer (None for an empty one)."""
        data = self.request(method, path, body).check().read()
        return wire.decode(data) if data else None

    def request(self, method: str, path: str, body: Any = None) -> Response:
        """A request on the kept connection; the answer must be read to its end before the next one."""
        return self._ask(self.reach(), method, path, body)

    def open(self, method: str, path: str, body: Any = None) -> Response:
        """A request on a connection of its own, for answers that last."""
        return self._ask(Connection(self.path), method, path, body)

    def upload(self, method: str, path: str, source: Iterable[bytes]) -> Response:
        """A request whose body is a stream."""
        connection = Connection(self.path)
        connection.send(
            _head(method, path, "Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n")
        )
        try:
            for piece in source:
                connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            connection.send(b"0\r\n\r\n")
        except BrokenPipeError:
            # The daemon refused before it had read all; its answer says why.
            pass
        return Response(connection)

    def hijack(self, path: str) -> Connection:
        """A POST that turns its connection into a two-way stream. Raises ``ApiError``."""
        connection = Connection(self.path)
        connection.send(_head("POST", path, "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n"))
        Response(connection).check()
        return connection

    def _ask(self, connection: Connection, method: str, path: str, body: Any) -> Response:
        data = b"" if body is None else wire.encode(body).encode()
        headers = f"Content-Length: {len(data)}\r\n" if data or method == "POST" else ""
        if data:
            headers += "Content-Type: application/json\r\n"
        try:
            connection.send(_head(method, path, headers) + data)
        except BrokenPipeError:
            # It may have answered before it closed.
            pass
        return Response(connection)


def _head(method: str, path: str, headers: str) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: docker\r\nUser-Agent: cloche\r\n{headers}\r\n".encode()


def host_of(option: str | None) -> str:
    """The daemon's address: ``-H``, else ``CLOCHE_HOST``, else the default."""
    return option or os.environ.get("CLOCHE_HOST") or DEFAULT_HOST
