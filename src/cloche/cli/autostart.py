"""The daemon, started when it is first needed: detached from the terminal, with its log beside its
socket."""

from __future__ import annotations

import os
import sys
import time

from cloche.cli.client import DEFAULT_HOST, Client
from cloche.cli.errors import CommandError, Unreachable

PATIENCE = 10.0
"""Seconds until a started daemon must answer."""
LOG = "/run/cloche/daemon.log"


def connect(host: str) -> Client:
    """A client of a daemon that answers. The one at the default address is started if need be; any other
    address was somebody's choice, and so are that daemon's options."""
    client = Client(host)
    try:
        client.reach()
    except Unreachable:
        if host != DEFAULT_HOST:
            raise
        if os.geteuid() != 0:
            raise CommandError(
                "no daemon answers, and starting one needs root: sudo cloche daemon", 125
            ) from None
        _start(client)
    return client


def _start(client: Client) -> None:
    os.makedirs(os.path.dirname(LOG), mode=0o711, exist_ok=True)
    process = _spawn()
    deadline = time.monotonic() + PATIENCE
    ended = 0
    while time.monotonic() < deadline:
        try:
            client.reach()
            return
        except Unreachable:
            pass
        # It may have ended because another command started one at the same time: that one gets a moment.
        if not ended and os.waitpid(process, os.WNOHANG)[0]:
            ended = process
            deadline = min(deadline, time.monotonic() + 1.0)
        time.sleep(0.005)
    raise CommandError(f"the daemon did not start; its log ({LOG}) ends with:\n{_tail()}", 125)


def _spawn() -> int:
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    process = os.fork()
    if process:
        os.close(log)
        os.close(nothing)
        return process
    try:
        os.setsid()
        os.chdir("/")
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.execv(sys.executable, [sys.executable, "-I", "-m", "cloche.cli.daemon"])
    finally:
        os._exit(127)


def _tail() -> str:
    with open(LOG, "rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - 2000))
        return "\n".join(log.read().decode(errors="replace").splitlines()[-10:])
