"""Signals as people write them."""

from __future__ import annotations

import signal

from cloche.errors import InvalidArgument

_NUMBERS = {member.name.removeprefix("SIG"): member.value for member in signal.Signals}
_NUMBERS |= {"CLD": signal.SIGCHLD.value, "IOT": signal.SIGABRT.value, "POLL": signal.SIGIO.value}
LAST = 64


def number(text: str) -> int:
    """``SIGTERM``, ``term``, ``15``, ``RTMIN+3`` or ``RTMAX-1`` to the number. Raises
    ``InvalidArgument``."""
    value = int(text) if text.isdigit() else _named(text.upper().removeprefix("SIG"))
    if not 1 <= value <= LAST:
        raise InvalidArgument(f"invalid signal: {text}")
    return value


def _named(name: str) -> int:
    for base, sign in (("RTMIN+", 1), ("RTMAX-", -1)):
        offset = name.removeprefix(base)
        if offset != name and offset.isdigit():
            return _NUMBERS[base[:-1]] + sign * int(offset)
    return _NUMBERS.get(name, 0)
