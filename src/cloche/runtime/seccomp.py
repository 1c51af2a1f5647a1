"""Seccomp profiles: Docker's conditions resolved to OCI's flat form, compiled by libseccomp, cached as
BPF."""

from __future__ import annotations

import msgspec

from cloche.runtime.spec import Seccomp


class Filter(msgspec.Struct, frozen=True):
    """A compiled filter."""

    program: bytes
    """``struct sock_filter[]``."""
    digest: str
    """Of the resolved profile, the architecture and libseccomp's version: the name of the cache entry."""
    rules: int
    """System calls that the profile names."""
    flags: int = 0
    """``SECCOMP_FILTER_FLAG_*`` for seccomp(2)."""


def resolve(profile: bytes | None, capabilities: tuple[str, ...]) -> Seccomp:
    """A Docker profile (``None``: the default) as the flat OCI form, for these capabilities, this
    machine's architecture and kernel. This is what belongs into ``spec.linux.seccomp``. Raises
    ``InvalidArgument`` for a broken profile."""
    raise NotImplementedError


def program(seccomp: Seccomp, cache: str | None) -> Filter:
    """Compile, or take from the ``cache`` directory. Raises ``InvalidArgument`` for what libseccomp refuses,
    ``Unavailable`` where libseccomp is not installed."""
    raise NotImplementedError
