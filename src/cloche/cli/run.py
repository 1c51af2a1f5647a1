"""``run``, ``create``, ``start`` and ``attach``: the commands that make containers and join terminals to
them."""

from __future__ import annotations

import os

from cloche.cli import creation, signals, terminal
from cloche.cli.arguments import parse
from cloche.cli.attachment import Attachment
from cloche.cli.client import Client, Connection, Response, query, quote
from cloche.cli.errors import ApiError, CommandError, Unreachable, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

RUN = f"""
Usage: cloche run [OPTIONS] IMAGE [COMMAND] [ARG...]

Make a container from an image and run a command in it

Options:
  -d, --detach                     Leave it running, print its id
      --detach-keys KEYS           Keys that detach: ctrl-p,ctrl-q
      --sig-proxy                  Pass signals on (the default; --sig-proxy=false does not)
{creation.OPTIONS}"""

CREATE = f"""
Usage: cloche create [OPTIONS] IMAGE [COMMAND] [ARG...]

Make a container from an image, without starting it

Options:
{creation.OPTIONS}"""

START = """
Usage: cloche start [OPTIONS] CONTAINER [CONTAINER...]

Start containers that do not run

Options:
  -a, --attach             Attach to its output, and end with its exit status
      --detach-keys KEYS   Keys that detach: ctrl-p,ctrl-q
  -i, --interactive        Attach to its stdin
"""

ATTACH = """
Usage: cloche attach [OPTIONS] CONTAINER

Join stdin, stdout and stderr to a running container

Options:
      --detach-keys KEYS   Keys that detach: ctrl-p,ctrl-q
      --no-stdin           Leave stdin alone
      --sig-proxy          Pass signals on (the default; --sig-proxy=false does not)
"""

DEFAULT_IMAGE = (
    "busybox",
    "busybox:latest",
    "docker.io/library/busybox",
    "docker.io/library/busybox:latest",
)
"""Names of the image that the daemon can make by itself."""


def run(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(RUN, argv, interspersed=False)
    if arguments.detach and arguments.attach:
        raise UsageError("--detach and --attach exclude each other")
    attached = not arguments.detach
    body = creation.body(arguments, attached=attached)
    if attached and arguments.tty and arguments.interactive and not os.isatty(0):
        raise CommandError("the input device is not a terminal: leave -t out to pipe into a container", 1)
    _keys(arguments.detach_keys)
    try:
        client = connect()
        container = _create(client, body, arguments)
        if not attached:
            client.call("POST", f"/containers/{container}/start")
            print(container)
            return 0
        streams = {
            name: body.get(f"Attach{name.capitalize()}", False) for name in ("stdin", "stdout", "stderr")
        }
        session = Session(
            client, container, tty=arguments.tty, streams=streams, detach_keys=arguments.detach_keys
        )
        session.proxy = arguments.sig_proxy is not False
        return session.start_and_follow("removed" if arguments.rm else "next-exit")
    except ApiError as error:
        message = f"Error response from daemon: {error}"
        raise CommandError(message, exit_code(str(error))) from None
    except Unreachable as error:
        raise CommandError(str(error), 125) from None


def exit_code(message: str) -> int:
    """Docker's exit status for a start that failed, told by the message as its own command does."""
    message = message.lower()
    if (
        "not found in $path" in message
        or "executable file not found" in message
        or "no such file" in message
    ):
        return 127
    if "permission denied" in message or "is a directory" in message:
        return 126
    return 125


def create(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(CREATE, argv, interspersed=False)
    print(_create(connect(), creation.body(arguments, attached=True), arguments))
    return 0


def _create(client: Client, body: dict[str, Any], arguments: Any) -> str:
    path = "/containers/create" + query(name=arguments.name)
    try:
        created = client.call("POST", path, body)
    except ApiError as error:
        if not make_default_image(client, body["Image"], error):
            raise
        created = client.call("POST", path, body)
    for warning in created.get("Warnings") or []:
        os.write(2, f"WARNING: {warning}\n".encode())
    container: str = created["Id"]
    if arguments.cidfile:
        try:
            with open(arguments.cidfile, "x") as file:
                file.write(container)
        except OSError as error:
            client.call("DELETE", f"/containers/{container}")
            raise CommandError(f"cidfile {arguments.cidfile}: {error.strerror}", 125) from None
    return container


def make_default_image(client: Client, image: str, error: ApiError) -> bool:
    """Where ``error`` says that ``image`` is missing and it is the one that the daemon can make, have it
    made. Raises ``ApiError`` with the ways to get any other one."""
    if error.status != 404:
        return False
    if image not in DEFAULT_IMAGE:
        ways = "'cloche load -i ARCHIVE', 'cloche import ROOTFS.tar NAME' or 'cloche image from-host'"
        raise ApiError(404, f"{error}; get one by {ways}")
    client.call("POST", "/images/default")
    return True


class Session:
    """One container with this command's streams joined to it."""

    def __init__(
        self, client: Client, container: str, *, tty: bool, streams: dict[str, bool], detach_keys: str | None
    ) -> None:
        self.client = client
        self.container = container
        self.tty = tty
        self.stdin = streams["stdin"]
        self.streams = streams
        self.detach_keys = detach_keys
        self.keys = _keys(detach_keys)
        self.proxy = True

    def attach(self) -> Connection:
        options = query(stream=True, detachKeys=self.detach_keys, **self.streams)
        return self.client.hijack(f"/containers/{self.container}/attach{options}")

    def start_and_follow(self, condition: str) -> int:
        """Attach, then start, so that no output is missed; the container's exit status."""
        # The signals are caught before the start: one that comes in between must not end this command alone.
        pipe = self._catch()
        connection = self.attach() if any(self.streams.values()) else None
        waiting = self._wait(condition)
        self.client.call("POST", f"/containers/{self.container}/start")
        if connection is not None and self._follow(connection, pipe):
            return 0
        return self._status(waiting)

    def follow(self) -> int:
        """Attach to a container that runs already."""
        pipe = self._catch()
        waiting = self._wait("")
        connection = self.attach()
        # A change of size makes the program draw its screen again; the right size follows.
        self._resize(larger=1)
        return 0 if self._follow(connection, pipe) else self._status(waiting)

    def _catch(self) -> signals.SignalPipe:
        proxied = signals.PROXIED if self.proxy and not self.tty else ()
        return signals.SignalPipe((*proxied, signals.SIGWINCH))

    def _wait(self, condition: str) -> Response:
        return self.client.open(
            "POST", f"/containers/{self.container}/wait" + query(condition=condition)
        ).check()

    def _follow(self, connection: Connection, pipe: signals.SignalPipe) -> bool:
        """Copy until the output ends; true where the user detached instead."""
        raw = self.tty and self.stdin and os.isatty(0)
        attachment = Attachment(
            connection, stdin=self.stdin, terminal=self.tty, detach_keys=self.keys if raw else b""
        )
        if self.tty:
            self._signalled(bytes([signals.SIGWINCH]))
        mode = terminal.RawMode(0) if raw else None
        try:
            attachment.run(pipe.descriptor, lambda: self._signalled(pipe.read()))
        finally:
            if mode:
                mode.restore()
        connection.close()
        if attachment.detached:
            os.write(1, b"\r\n")
        return attachment.detached

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            try:
                if number == signals.SIGWINCH:
                    self._resize()
                else:
                    self.client.call(
                        "POST", f"/containers/{self.container}/kill" + query(signal=str(number))
                    )
            except ApiError:
                # It ended meanwhile.
                pass

    def _resize(self, larger: int = 0) -> None:
        rows, columns = terminal.size()
        if self.tty and rows:
            size = query(h=rows + larger, w=columns + larger)
            self.client.call("POST", f"/containers/{self.container}/resize{size}")

    def _status(self, waiting: Response) -> int:
        for answer in waiting.values():
            if (answer.get("Error") or {}).get("Message"):
                raise CommandError(answer["Error"]["Message"], 125)
            return int(answer["StatusCode"])
        raise CommandError("the daemon closed the connection before the container's end", 125)


def start(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(START, argv)
    client = connect()
    if not arguments.attach and not arguments.interactive:
        for name in arguments.operands:
            client.request("POST", f"/containers/{quote(name)}/start").check().read()
            print(name)
        return 0
    if len(arguments.operands) != 1:
        raise UsageError("only one container can be attached to")
    session = _joined(client, arguments, stdin=arguments.interactive)
    return session.start_and_follow("next-exit")


def attach(connect: Callable[[], Client], argv: list[str]) -> int:
    arguments = parse(ATTACH, argv)
    session = _joined(connect(), arguments, stdin=not arguments.no_stdin)
    session.proxy = arguments.sig_proxy is not False
    return session.follow()


def _joined(client: Client, arguments: Any, *, stdin: bool) -> Session:
    name = arguments.operands[0]
    config = client.call("GET", f"/containers/{quote(name)}/json")["Config"]
    streams = {"stdin": stdin and config["OpenStdin"], "stdout": True, "stderr": True}
    return Session(client, name, tty=config["Tty"], streams=streams, detach_keys=arguments.detach_keys)


def _keys(text: str | None) -> bytes:
    try:
        return terminal.keys("ctrl-p,ctrl-q" if text is None else text)
    except ValueError as error:
        raise UsageError(str(error)) from None
