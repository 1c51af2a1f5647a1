"""Addresses: a free subnet for a bridge, a free address for a container. Pure: what is in use is given."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError

from cloche.errors import InvalidArgument, Unavailable

POOLS: tuple[tuple[str, int], ...] = (
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
    ("10.0.0.0/8", 24),
)
"""Where subnets are taken from, in this order, and the length of their prefix. The first ones are
Docker's: scripts know 172.17.0.1 as the host.
"""


def parse_interface(text: str) -> IPv4Interface:
    """``ADDRESS/PREFIX`` of a bridge. Raises ``InvalidArgument`` unless it is a host's address in an
    IPv4 network that has room for at least one container."""
    try:
        interface = IPv4Interface(text)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise InvalidArgument(f"bridge address {text!r}: {error}; give it as 172.30.0.1/16") from None
    network = interface.network
    if "/" not in text or network.prefixlen > 30:
        raise InvalidArgument(f"bridge address {text!r}: needs a prefix of at most /30, as in 172.30.0.1/16")
    if interface.ip in (network.network_address, network.broadcast_address):
        raise InvalidArgument(
            f"bridge address {text!r}: is the network's own, not a host's; try {network[1]}"
        )
    return interface


def free_interface(taken: Iterable[IPv4Network]) -> IPv4Interface:
    """The first address of the first subnet that overlaps none of ``taken``. Raises ``Unavailable``."""
    in_use = [network for network in taken if network.prefixlen]
    for pool, prefix in POOLS:
        whole = IPv4Network(pool)
        near = [network for network in in_use if network.overlaps(whole)]
        for subnet in whole.subnets(new_prefix=prefix):
            if not any(subnet.overlaps(network) for network in near):
                return IPv4Interface((subnet[1], prefix))
    raise Unavailable(
        "every private subnet overlaps a route of this host: choose one with --bip ADDRESS/PREFIX"
    )


def free_address(interface: IPv4Interface, used: frozenset[str], after: str = "") -> str:
    """A free address of the bridge's subnet, behind ``after`` and round: an address just given back is
    taken again last, because neighbours may still remember whose it was. Raises ``Unavailable`` when
    none is free."""
    network = interface.network
    first, last = int(network.network_address) + 1, int(network.broadcast_address) - 1
    start = first
    if after and IPv4Address(after) in network:
        start = int(IPv4Address(after)) + 1
    for number in (*range(start, last + 1), *range(first, min(start, last + 1))):
        address = str(IPv4Address(number))
        if number != int(interface.ip) and address not in used:
            return address
    raise Unavailable(f"all {last - first} addresses of {network} are in use")
