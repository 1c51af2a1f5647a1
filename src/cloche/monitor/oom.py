"""OOM kills of a container's cgroup.

Both versions count them; the notification says only when to look. On v1 the eventfd is also signalled
when the cgroup is removed, so it is never trusted alone.
"""

from __future__ import annotations

import os

from cloche.monitor.loop import READ, URGENT
from cloche.monitor.protocol import OomWatch


class OomWatcher:
    """Notices kills. Without a path, or where the kernel refuses, it notices none."""

    def __init__(self) -> None:
        self.descriptor = -1
        """To be watched for ``events``; -1 for none."""
        self.events = READ
        self._path = ""
        self._eventfd = -1
        self._count = 0

    def begin(self, watch: OomWatch) -> None:
        """Before that nothing is lost: the count of kills is read at the end in any case."""
        self._path = watch.path
        self.events = READ if watch.version == 1 else URGENT
        if not self._path:
            return
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            if watch.version == 1:
                self._register(file)
                os.close(file)
                self.descriptor = self._eventfd
            else:
                self.descriptor = file
        except OSError:
            # Then the count alone tells, at the end.
            pass

    def _register(self, file: int) -> None:
        self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        control = os.open(os.path.dirname(self._path) + "/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(control, b"%d %d" % (self._eventfd, file))
        finally:
            os.close(control)

    def look(self) -> bool:
        """True where there were kills since the last look."""
        if self._eventfd >= 0:
            try:
                os.eventfd_read(self._eventfd)
            except BlockingIOError:
                pass
        before, self._count = self._count, self._read()
        return self._count > before

    @property
    def killed(self) -> bool:
        return self._count > 0

    def close(self) -> None:
        """Before the cgroup is removed."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = self._eventfd = -1
        self._path = ""

    def _read(self) -> int:
        if not self._path:
            return self._count
        try:
            with open(self._path, "rb") as file:
                for line in file.read().splitlines():
                    if line.startswith(b"oom_kill "):
                        return int(line.split()[1])
        except OSError:
            pass
        return self._count
