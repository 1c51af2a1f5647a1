"""A container's end of a network, as steps."""

from __future__ import annotations

from ipaddress import IPv4Address

from cloche.network.contract import Attachment, Endpoint
from cloche.plan.steps.network import AddRoute, BringUpLoopback, CreateVeth, SetAddress
from cloche.plan.steps.process import WriteSysctl

LINK = "eth0"
"""The container's link, as everyone calls it."""


def mac_of(address: str) -> str:
    """Docker's rule, 02:42 and the address: whoever gets an address again is known by the same MAC."""
    return (b"\x02\x42" + IPv4Address(address).packed).hex(":")


def plan_attachment(endpoint: Endpoint, bridge: str, ipv6: bool) -> Attachment:
    """A veth between the bridge and the container, with the endpoint's address and a default route.

    IPv6 is turned off on a link of a network without it, before the link is up: it would announce itself
    there."""
    quiet = (WriteSysctl(f"net/ipv6/conf/{LINK}/disable_ipv6", "1"),) if ipv6 else ()
    return Attachment(
        host=(CreateVeth(endpoint.host_link, LINK, bridge, endpoint.mac),),
        container=(
            BringUpLoopback(),
            *quiet,
            SetAddress(LINK, endpoint.address, endpoint.prefix),
            AddRoute(endpoint.gateway),
        ),
    )


def plan_loopback() -> Attachment:
    """``--network none``: nothing but the loopback."""
    return Attachment(host=(), container=(BringUpLoopback(),))
