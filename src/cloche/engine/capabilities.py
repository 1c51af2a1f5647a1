"""Which capabilities a container gets: Docker's default set, tweaked by ``--cap-add`` and ``--cap-drop``."""

from __future__ import annotations

from cloche.errors import InvalidArgument
from cloche.runtime.defaults import ALL_CAPABILITIES, CAPABILITIES


def normalise(names: tuple[str, ...], option: str) -> tuple[str, ...]:
    """``net_admin`` to ``CAP_NET_ADMIN``; ``ALL`` stays. Raises ``InvalidArgument`` for one that does not
    exist."""
    found = []
    for name in names:
        full = name.upper()
        if full in ("ALL", "CAP_ALL"):
            found.append("ALL")
            continue
        full = full if full.startswith("CAP_") else "CAP_" + full
        if full not in ALL_CAPABILITIES:
            raise InvalidArgument(f'invalid {option}: unknown capability: "{full}"')
        found.append(full)
    return tuple(found)


def effective(add: tuple[str, ...], drop: tuple[str, ...], privileged: bool) -> tuple[str, ...]:
    """The set of the container. ``ALL`` on one side leaves the other side's names as the exceptions."""
    if privileged:
        return ALL_CAPABILITIES
    added, dropped = normalise(add, "CapAdd"), normalise(drop, "CapDrop")
    if "ALL" in added:
        return tuple(name for name in ALL_CAPABILITIES if name not in dropped)
    base = () if "ALL" in dropped else tuple(name for name in CAPABILITIES if name not in dropped)
    return base + tuple(name for name in added if name not in base)
