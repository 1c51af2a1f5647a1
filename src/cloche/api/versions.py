"""Which versions of Docker's API are spoken, and the refusals in Docker's words."""

from __future__ import annotations

from cloche.errors import InvalidArgument

MINIMUM = (1, 24)
CURRENT = (1, 51)


def text(version: tuple[int, int]) -> str:
    """``1.51``."""
    return f"{version[0]}.{version[1]}"


def check(asked: str) -> tuple[int, int]:
    """The version of a ``/vX.Y/`` prefix. InvalidArgument where it is out of range: clients show the
    text."""
    major, _, minor = asked.partition(".")
    version = (int(major), int(minor or 0))
    if version > CURRENT:
        raise InvalidArgument(
            f"client version {asked} is too new. Maximum supported API version is {text(CURRENT)}"
        )
    if version < MINIMUM:
        raise InvalidArgument(
            f"client version {asked} is too old. Minimum supported API version is {text(MINIMUM)}, "
            "please upgrade your client to a newer version"
        )
    return version
