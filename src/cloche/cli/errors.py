"""How a command ends other than well."""

from __future__ import annotations


class CommandError(Exception):
    """Ends the command: ``str(error)`` goes to stderr, ``code`` is the exit status."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class UsageError(CommandError):
    """The command line itself is wrong; Docker's exit status for that is 125."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 125)


class ApiError(CommandError):
    """The daemon refused; ``status`` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(CommandError):
    """No daemon answers on the socket, or not any more."""
