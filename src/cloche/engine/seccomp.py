"""The seccomp filter of a container, ready: profiles are resolved and compiled once for each set of
capabilities."""

from __future__ import annotations

from cloche.engine import capabilities, security
from cloche.engine.records import ContainerConfig
from cloche.runtime.seccomp import Filter, program, resolve
from cloche.runtime.spec import Seccomp

Ready = tuple[Seccomp, Filter]
MOST = 16
"""Filters in memory: a profile of a user's own is as large as the user likes."""


class FilterCache:
    """In memory; behind it ``directory`` keeps what was compiled over restarts of the daemon."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._ready: dict[tuple[bytes | None, tuple[str, ...]], Ready] = {}

    def get(self, config: ContainerConfig) -> Ready | None:
        """``None`` for a container without a filter. Raises ``InvalidArgument`` for a broken profile."""
        asked = security.parse(config.security_opt)
        if asked.unconfined or (config.privileged and asked.seccomp is None):
            return None
        key = (asked.seccomp, capabilities.effective(config.cap_add, config.cap_drop, config.privileged))
        ready = self._ready.pop(key, None)
        if ready is None:
            resolved = resolve(*key)
            ready = resolved, program(resolved, self._directory)
        # The last one used is the last one in the dict.
        self._ready[key] = ready
        if len(self._ready) > MOST:
            del self._ready[next(iter(self._ready))]
        return ready
