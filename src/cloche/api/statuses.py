"""``cloche.errors`` to HTTP: the one table."""

from __future__ import annotations

from cloche import errors

STATUS: dict[type[errors.ClocheError], int] = {
    errors.InvalidArgument: 400,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.NotModified: 304,
    errors.Unsupported: 501,
    errors.Unavailable: 503,
    errors.Internal: 500,
}


def status(error: errors.ClocheError) -> int:
    """The HTTP status of an error; a subclass has its parent's."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500
