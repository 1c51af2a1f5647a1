"""JSON for a command that must be quick to start.

``import json`` pulls in ``re`` and ``enum``, ``msgspec`` pulls in ``typing`` and ``inspect``: each costs a
command more time than its whole conversation with the daemon. The interpreter's own scanner, which ``json``
itself stands on, costs nothing, and what it lacks to be a decoder and an encoder is little."""

from __future__ import annotations

from _json import encode_basestring_ascii, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Context:
    """What the scanner asks of ``json.JSONDecoder``."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


_scan = make_scanner(_Context())  # type: ignore[arg-type]


def decode(data: bytes) -> Any:
    """One JSON value. Raises ``ValueError``."""
    text = data.decode().strip()
    try:
        return _scan(text, 0)[0]
    except StopIteration:
        raise ValueError(f"not JSON: {text[:80]!r}") from None


def encode(value: Any) -> str:
    """``value`` (dicts, lists, strings, numbers, booleans, None) as JSON on one line."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "{" + ",".join(f"{_text(key)}:{encode(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(encode, value)) + "]"
    return repr(value)


def _text(text: str) -> str:
    """What was not UTF-8 in our arguments becomes U+FFFD, byte by byte, as in Docker's command."""
    if not text.isascii():
        text = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return encode_basestring_ascii(text)
