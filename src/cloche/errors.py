"""The errors that Cloche raises, one small tree.

    ClocheError
    ├── InvalidArgument   the request itself is wrong                       HTTP 400
    ├── Forbidden         the request is understood and refused             HTTP 403
    ├── NotFound          a name or id that does not exist                  HTTP 404
    ├── Conflict          the state of something is in the way              HTTP 409
    ├── NotModified       it already is as asked                            HTTP 304
    ├── Unsupported       Cloche does not do that (yet)                     HTTP 501
    ├── Unavailable       something needed is not there now                 HTTP 503
    └── Internal          a fault of Cloche or of the machine               HTTP 500

Each message says what was asked, what is in the way and, where it is known, what to do.
"""


class ClocheError(Exception):
    """Root of the tree; ``str(error)`` is the message for the user."""


class InvalidArgument(ClocheError):
    """The request itself is wrong."""


class Forbidden(ClocheError):
    """The request is understood and refused."""


class NotFound(ClocheError):
    """A name or an id that does not exist."""


class Conflict(ClocheError):
    """The state of something is in the way."""


class NotModified(ClocheError):
    """The thing already is as asked."""


class Unsupported(ClocheError):
    """Cloche does not do that."""


class Unavailable(ClocheError):
    """Something that is needed is not there at the moment."""


class Internal(ClocheError):
    """A fault of Cloche itself or of the machine under it."""
