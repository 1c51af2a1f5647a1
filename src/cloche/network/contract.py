"""What a network is to the rest: an endpoint in, steps out. Nothing here touches the kernel; a driver
plans.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from cloche.plan.step import Step


class Endpoint(msgspec.Struct, frozen=True):
    """A container's place in a network; decided when it starts, known before anything is made."""

    address: str
    prefix: int
    gateway: str
    mac: str
    host_link: str
    """Name of the veth's host end; another one at each start, because the kernel lets go of the old one
    late."""


class Attachment(msgspec.Struct, frozen=True):
    """The steps that give one container its network. ``Signal("linked")`` comes after the host's part;
    the container's part comes after ``Await("linked")``."""

    host: tuple[Step, ...]
    container: tuple[Step, ...]


class Network(Protocol):
    """One network of one driver."""

    def setup(self) -> tuple[Step, ...]:
        """Host steps that make the network; harmless where it is there, also with containers in it."""

    def teardown(self) -> tuple[Step, ...]:
        """Host steps that remove all of it."""

    def endpoint(self, used: frozenset[str], after: str, token: str) -> Endpoint:
        """A free place, beyond the ``used`` addresses; the search begins behind the address ``after``
        (empty: at the start). ``token``: seven hexadecimal digits that no other link of this engine has.
        Raises ``Unavailable``."""
        raise NotImplementedError

    def attach(self, endpoint: Endpoint) -> Attachment:
        raise NotImplementedError
