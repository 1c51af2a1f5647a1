"""Sizes, durations and times, as Docker writes and reads them."""

from __future__ import annotations

import time

from cloche.cli.errors import UsageError

BINARY = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def size_in_bytes(text: str, option: str) -> int:
    """``64m`` -> 67108864; also ``1.5g``, ``64MB``, ``64MiB``; ``-1`` is passed on (unlimited)."""
    if text == "-1":
        return -1
    digits = text.lower().strip()
    number = digits.rstrip("bkmgtpi ")
    unit = digits[len(number) :].strip()
    unit = unit if unit in BINARY else unit.removesuffix("b").removesuffix("i")
    try:
        return int(float(number) * BINARY[unit])
    except (ValueError, KeyError):
        raise UsageError(
            f"invalid argument {text!r} for {option}: a size such as 64m or 1g is wanted"
        ) from None


def human_size(count: float) -> str:
    """Decimal, three digits: ``4.26MB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{_digits(count)}{unit}"


def human_binary(count: float) -> str:
    """Binary, four digits: ``23.54GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.4g}{unit}"


def _digits(number: float) -> str:
    text = f"{number:.3g}"
    return f"{number:.0f}" if "e" in text else text


def human_duration(seconds: float) -> str:
    """``Less than a second``, ``5 seconds``, ``About a minute``, ``3 weeks``..."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(whole / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for count, limit, unit in (
        (hours, 48, "hours"),
        (hours // 24, 14, "days"),
        (hours // 24 // 7, 9, "weeks"),
        (hours // 24 // 30, 24, "months"),
    ):
        if count < limit or (unit == "weeks" and hours // 24 < 60):
            return f"{count} {unit}"
    return f"{hours // 24 // 365} years"


def ago(seconds_since_epoch: float) -> str:
    return human_duration(time.time() - seconds_since_epoch) + " ago"


def moment(text: str | None) -> str | None:
    """``--since`` and ``--until``: a duration before now (``10m``, ``1h30m``) becomes seconds since the
    epoch; what else it may be (a time stamp, RFC 3339) is the daemon's to read."""
    if not text or not text[-1].isalpha() or text[-1] == "Z":
        return text
    seconds, number = 0.0, ""
    for character in text.replace("ms", "u"):
        if character in "0123456789.":
            number += character
            continue
        scale = {"h": 3600, "m": 60, "s": 1, "u": 1e-3}.get(character)
        if scale is None or not number:
            raise UsageError(f"invalid time {text!r}: a duration such as 10m or a time stamp is wanted")
        seconds += float(number) * scale
        number = ""
    return f"{time.time() - seconds:.9f}"
