"""The daemon's main: ``cloched`` and ``cloche daemon``. It runs in the foreground until SIGTERM or SIGINT.

What is big is imported after the sockets are bound and the root is locked: a client that starts the daemon
can connect at once, and a second daemon is refused in a few milliseconds.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cloche.api import options
from cloche.api.listener import bind
from cloche.errors import ClocheError, Conflict, Internal

if TYPE_CHECKING:
    import socket

_LEVELS = {"debug": "DEBUG", "info": "INFO", "warn": "WARNING", "error": "ERROR", "fatal": "CRITICAL"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon with the command line's arguments; the exit status."""
    try:
        asked = options.parse(sys.argv[1:] if arguments is None else arguments)
        os.umask(0o022)
        # The descriptors hold the locks until the process ends, however it ends.
        locks = [_lock_directory(directory) for directory in (asked.settings.root, asked.settings.run_dir)]
        locks.append(_lock_name(asked.settings.name))
        listeners = [bind(path) for path in asked.hosts]
        _serve(asked, listeners)
    except ClocheError as error:
        print(f"cloched: {error}", file=sys.stderr)
        return 1
    for lock in locks:
        os.close(lock)
    return 0


def _lock_directory(directory: str) -> int:
    """Two daemons on one directory would tear it apart. Raises Conflict naming the other one's pid."""
    try:
        os.makedirs(directory, mode=0o711, exist_ok=True)
    except OSError as error:
        raise Internal(f"cannot use {directory}: {error.strerror}") from None
    return _lock(f"{directory}/cloched.pid", directory, "choose another --root and --run-dir")


def _lock_name(name: str) -> int:
    """Two daemons of one name would give out the same addresses, and replace each other's rules, on one
    bridge. The file stays, like a run directory's. Raises Conflict naming the other one's pid."""
    return _lock(f"/run/cloche-{name}.pid", f"the name {name!r}", "choose another --name")


def _lock(path: str, what: str, way_out: str) -> int:
    try:
        # Whoever can open a file can lock it, and keep a daemon from starting.
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Internal(f"cannot use {path}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 32).decode(errors="replace").strip()
        os.close(lock)
        raise Conflict(f"{what} is in use by another daemon (pid {holder}): stop it, or {way_out}") from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _serve(asked: options.Options, listeners: list[socket.socket]) -> None:
    import gc

    # Imports make many objects and no garbage: looking for it would take a tenth of the start.
    gc.disable()
    import asyncio
    import logging

    logging.basicConfig(
        level=_LEVELS[asked.log_level],
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    asyncio.run(_run(asked, listeners))


def _import_http() -> None:
    """aiohttp reads the machine's CA certificates while it is imported: a quarter of the daemon's start, for
    connections that it makes later or never. Whoever connects over TLS brings
    ``ssl.create_default_context()``."""
    import ssl

    # Hides the method of the C class that SSLContext derives from.
    ssl.SSLContext.set_default_verify_paths = lambda *_: None  # type: ignore[method-assign]
    try:
        import aiohttp  # noqa: F401
    finally:
        del ssl.SSLContext.set_default_verify_paths


async def _run(asked: options.Options, listeners: list[socket.socket]) -> None:
    import asyncio
    import gc
    import signal

    _import_http()
    from cloche.api.call import Service
    from cloche.api.server import Server
    from cloche.engine.engine import Engine

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    engine = Engine(asked.settings)
    server = Server(Service(engine, asked.settings, asked.log_level == "debug"))
    try:
        for listener in listeners:
            await server.listen(listener)
        await engine.start()
    except BaseException:
        await server.close()
        raise
    try:
        server.ready()
        # The state's writer and the trash's worker give way to the loop within a millisecond, not in five.
        sys.setswitchinterval(0.001)
        # What is loaded now stays: no collection needs to look at it again.
        gc.freeze()
        gc.enable()
        await stop.wait()
    finally:
        await server.close()
        await engine.close()


if __name__ == "__main__":
    sys.exit(main())
