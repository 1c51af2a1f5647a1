"""Links, addresses, routes and tables."""

from __future__ import annotations

from errno import ENODEV
from typing import TYPE_CHECKING

from cloche.kernel.netlink import Netlink
from cloche.plan.step import Step

if TYPE_CHECKING:
    from cloche.plan.execution import Execution


class CreateBridge(Step, frozen=True):
    """Host side: a bridge with an address, up. One that exists is used, and given the address if it lacks
    it."""

    name: str
    address: str
    prefix: int
    mac: str = ""


class CreateVeth(Step, frozen=True):
    """Host side, after ``Clone``: a veth whose peer is born in init's network namespace (moving it there
    would take 25 ms), its host end in the bridge and up. Undone by deleting it."""

    name: str
    peer: str
    """Name of the end in the container, e.g. ``eth0``."""
    bridge: str
    mac: str = ""
    """Of the container's end."""


class DeleteLink(Step, frozen=True):
    """Host side: remove a link; one that is not there is nothing to remove."""

    name: str

    def execute(self, run: Execution) -> None:
        with Netlink() as netlink:
            try:
                netlink.delete_link(self.name)
            except OSError as error:
                if error.errno != ENODEV:
                    raise

    def describe(self) -> str:
        return self.name

    def shell(self) -> str:
        return f"ip link delete {self.name} 2>/dev/null || true"


class ApplyNftables(Step, frozen=True):
    """Host side: apply nftables text in one transaction."""

    table: str
    """``family name`` of the one table that the text is about."""
    ruleset: str


class BringUpLoopback(Step, frozen=True):
    """Container side: ``lo`` up."""


class SetAddress(Step, frozen=True):
    """Container side, after ``Await("linked")``: give a link an address and bring it up."""

    link: str
    address: str
    prefix: int


class AddRoute(Step, frozen=True):
    """Container side: a route. An empty ``destination`` is the default route."""

    gateway: str
    destination: str = ""
    """``address/prefix``."""
