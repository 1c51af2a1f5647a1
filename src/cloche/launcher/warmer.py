"""Getting the kernel ready for a cgroup attach.

The first write to a ``cgroup.procs`` after quiet waits for an RCU grace period, about 12 ms; the next
ones do not. A tiny child writes its own pid to its own cgroup when a start is near, and waits in the
container's stead.
"""

from __future__ import annotations

import os
import select
import time
from typing import NoReturn

from cloche.kernel import process

_OPEN = 0.1
"""Seconds for which attaches stay quick after a request."""
_INTERVAL = 5
"""Milliseconds between writes: well below a grace period."""


class Warmer:
    """A child of the launcher, and the pipe to it. Nothing happens where this machine has no cgroups."""

    def __init__(self, launcher_socket: int) -> None:
        self._pipe = -1
        procs = own_procs()
        if not procs:
            return
        requests, self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        if os.fork() == 0:
            os.close(launcher_socket)
            os.close(self._pipe)
            _serve(requests, procs)
        os.close(requests)

    def warm(self) -> None:
        """Returns at once; while one wait is under way more of them change nothing."""
        if self._pipe >= 0:
            try:
                os.write(self._pipe, b"w")
            except OSError:
                # Full, or the child is gone: the start itself will wait then.
                pass

    def forget(self) -> None:
        """In another child of the launcher: the pipe is not its own."""
        if self._pipe >= 0:
            os.close(self._pipe)


def own_procs() -> str:
    """``cgroup.procs`` of this process' own cgroup in one hierarchy (all share the lock that waits), or
    empty."""
    with open("/proc/self/cgroup") as file:
        own = [line.rstrip("\n").split(":", 2) for line in file]
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split() for line in file]
    for _, controllers, path in own:
        for fields in mounts:
            dash = fields.index("-")
            fstype, options, root = fields[dash + 1], fields[dash + 3].split(","), fields[3]
            same = (
                fstype == "cgroup2"
                if not controllers
                else fstype == "cgroup" and controllers.split(",")[0] in options
            )
            if same and path.startswith(root.rstrip("/")):
                procs = f"{fields[4]}/{path[len(root.rstrip('/')) :]}/cgroup.procs"
                if os.access(procs, os.W_OK):
                    return procs
    return ""


def _serve(requests: int, procs: str) -> NoReturn:
    process.set_name(b"cloche-warmer")
    os.set_blocking(requests, True)
    ready = select.poll()
    ready.register(requests, select.POLLIN)
    try:
        file = os.open(procs, os.O_WRONLY)
        while os.read(requests, 4096):
            end = time.monotonic() + _OPEN
            while time.monotonic() < end:
                os.write(file, b"0")
                if ready.poll(_INTERVAL):
                    break
    finally:
        os._exit(0)
