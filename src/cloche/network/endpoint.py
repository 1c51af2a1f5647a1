"""A container's end of a network, as steps."""

from __future__ import annotations

from ipaddress import IPv4Address

from cloche.network.contract import Attachment, Endpoint
from cloche.plan.steps.network import AddRoute, CreateVeth, SetAddress

LINK = "eth0"
"""The container's link, as everyone calls it."""


def mac_of(address: str) -> str:
    """Docker's rule, 02:42 and the address: whoever gets an address again is known by the same MAC."""
    return (b"\x02\x42" + IPv4Address(address).packed).hex(":")


def plan_attachment(endpoint: Endpoint, bridge: str) -> Attachment:
    """A veth between the bridge and the container, with the endpoint's address and a default route."""
    return Attachment(
        host=(CreateVeth(endpoint.host_link, LINK, bridge, endpoint.mac),),
        container=(SetAddress(LINK, endpoint.address, endpoint.prefix), AddRoute(endpoint.gateway)),
    )
