"""The default bridge: a bridge NAME0 with an address, and the table ``ip NAME`` that lets its containers
out.

A rule of another table can still refuse what is accepted here: nftables asks every table. Docker beside
Cloche sets the policy of its FORWARD chain to drop.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Interface, IPv4Network

import msgspec

from cloche.errors import Conflict, InvalidArgument
from cloche.kernel.netlink import Address, Netlink, Route
from cloche.network.contract import Attachment, Endpoint
from cloche.network.endpoint import mac_of, plan_attachment
from cloche.network.ipam import free_address, free_interface, parse_interface
from cloche.plan.step import Step
from cloche.plan.steps.network import ApplyNftables, CreateBridge, DeleteLink
from cloche.plan.steps.process import WriteSysctl

# IFNAMSIZ leaves 15 bytes, of which a container's link needs seven for its own digits.
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,7}")


class Bridge(msgspec.Struct, frozen=True):
    """A ``Network``: the bridge of the engine ``name``."""

    name: str
    address: str
    prefix: int

    @property
    def link(self) -> str:
        return f"{self.name}0"

    @property
    def interface(self) -> IPv4Interface:
        return IPv4Interface(f"{self.address}/{self.prefix}")

    def setup(self) -> tuple[Step, ...]:
        """The bridge, its table (replaced whole, in one transaction) and forwarding, which Docker turns
        on too."""
        return (
            CreateBridge(self.link, self.address, self.prefix, mac_of(self.address)),
            ApplyNftables(f"ip {self.name}", ruleset(self)),
            WriteSysctl("net/ipv4/ip_forward", "1"),
        )

    def teardown(self) -> tuple[Step, ...]:
        """All but forwarding, which others may have come to rely on."""
        table = f"ip {self.name}"
        # The first line makes the second one succeed also where there is no table.
        return (ApplyNftables(table, f"table {table}\ndelete table {table}\n"), DeleteLink(self.link))

    def endpoint(self, used: frozenset[str], after: str, token: str) -> Endpoint:
        address = free_address(self.interface, used, after)
        return Endpoint(address, self.prefix, self.address, mac_of(address), f"{self.name}{token}")

    def attach(self, endpoint: Endpoint) -> Attachment:
        return plan_attachment(endpoint, self.link)


def ruleset(bridge: Bridge) -> str:
    """Containers reach each other, the host and, behind the host's address, everything else; from
    elsewhere only answers reach them. The host itself reaches them anyway: its packets are not
    forwarded."""
    table, link, subnet = f"ip {bridge.name}", bridge.link, bridge.interface.network
    return f"""\
table {table}
delete table {table}
table {table} {{
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname "{link}" accept
        oifname "{link}" ct state established,related accept
        oifname "{link}" drop
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {subnet} oifname != "{link}" masquerade
    }}
}}
"""


def find(name: str, asked: str) -> Bridge:
    """The engine's bridge on this host: the one that is there, or where a new one would be. Changes
    nothing.

    ``asked`` is ``ADDRESS/PREFIX`` or empty. Raises ``InvalidArgument``, ``Conflict`` or
    ``Unavailable``."""
    with Netlink() as netlink:
        ifindex = next((link.ifindex for link in netlink.links() if link.name == f"{name}0"), -1)
        return decide(name, asked, ifindex, netlink.addresses(), netlink.routes())


def decide(name: str, asked: str, ifindex: int, addresses: list[Address], routes: list[Route]) -> Bridge:
    """Pure part of ``find``; ``ifindex`` is the bridge's, -1 where there is none yet."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"engine name {name!r}: it names links: at most 8 of a-z, 0-9, - and _, a letter first"
        )
    interfaces = [
        (a.ifindex, IPv4Interface(f"{a.address}/{a.prefix}")) for a in addresses if ":" not in a.address
    ]
    own = [interface for holder, interface in interfaces if holder == ifindex]
    routed = (route for route in routes if route.ifindex != ifindex and route.prefix)
    taken = [IPv4Network((route.destination, route.prefix)) for route in routed]
    # A link that is down has its address and no route.
    taken += [interface.network for holder, interface in interfaces if holder != ifindex]
    if not asked:
        wanted = own[0] if own else free_interface(taken)
        return Bridge(name, str(wanted.ip), wanted.network.prefixlen)
    wanted = parse_interface(asked)
    if own and wanted not in own:
        raise Conflict(
            f"{asked} was asked for, but bridge {name}0 has the address {own[0]}: stop its containers and "
            f"remove it with `ip link delete {name}0`, or ask for {own[0]}"
        )
    clash = next((network for network in taken if network.overlaps(wanted.network)), None)
    if clash:
        raise Conflict(
            f"bridge address {asked} overlaps {clash}, which this host has a route to: choose another --bip"
        )
    return Bridge(name, str(wanted.ip), wanted.network.prefixlen)
