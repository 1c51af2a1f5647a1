"""Query parameters as Docker reads them."""

from __future__ import annotations

from collections.abc import Mapping

from cloche.engine.filters import moment
from cloche.errors import InvalidArgument

_FALSE = frozenset({"", "0", "no", "false", "none"})


def flag(query: Mapping[str, str], name: str, default: bool = False) -> bool:
    """Anything but Docker's words for false is true."""
    value = query.get(name)
    return default if value is None else value.strip().lower() not in _FALSE


def number(query: Mapping[str, str], name: str) -> int | None:
    """A whole number; ``None`` where the parameter is absent or empty."""
    value = query.get(name, "")
    if not value:
        return None
    try:
        return int(value)
    except ValueError:
        raise InvalidArgument(f"{name}: {value!r} is not a whole number") from None


def time(query: Mapping[str, str], name: str) -> int:
    """``since``/``until`` in nanoseconds since the epoch; absent or empty is 0."""
    value = query.get(name, "")
    return moment(value) if value else 0
