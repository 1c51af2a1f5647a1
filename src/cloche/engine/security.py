"""``--security-opt``, taken apart."""

from __future__ import annotations

import msgspec

from cloche.errors import InvalidArgument, Unsupported


class Security(msgspec.Struct, frozen=True):
    no_new_privileges: bool = False
    seccomp: bytes | None = None
    """A profile of the user's, JSON in Docker's form; ``None`` is the default one."""
    unconfined: bool = False
    """``seccomp=unconfined``."""


def parse(options: tuple[str, ...]) -> Security:
    """Raises ``InvalidArgument`` for an unknown option, ``Unsupported`` for one that Cloche does not
    enforce."""
    result = Security()
    for option in options:
        key, separator, value = _split(option)
        if key == "no-new-privileges":
            if value not in ("", "true", "false"):
                raise InvalidArgument(f'invalid --security-opt: "{option}"')
            result = msgspec.structs.replace(result, no_new_privileges=value != "false")
        elif key == "seccomp" and separator:
            unconfined = value == "unconfined"
            profile = None if value in ("unconfined", "builtin") else value.encode()
            result = msgspec.structs.replace(result, seccomp=profile, unconfined=unconfined)
        elif (key, value) not in (
            ("label", "disable"),
            ("apparmor", "unconfined"),
            ("systempaths", "unconfined"),
        ):
            if key in ("label", "apparmor"):
                raise Unsupported(f"--security-opt {option}: Cloche does not apply {key} policies")
            raise InvalidArgument(f'invalid --security-opt: "{option}"')
    return result


def _split(option: str) -> tuple[str, str, str]:
    """``key=value``, or ``key:value`` as Docker once wrote it."""
    separator = "=" if "=" in option else ":"
    return option.partition(separator)
