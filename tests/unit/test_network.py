"""Planning a network: subnets, addresses, rules, and the files that name them."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.errors import ClocheError, Conflict, InvalidArgument, Unavailable
from cloche.kernel.netlink import Address, Route
from cloche.network import bridge, files, ipam
from cloche.network.bridge import Bridge
from cloche.plan.steps.network import (
    AddRoute,
    ApplyNftables,
    CreateBridge,
    CreateVeth,
    DeleteLink,
    SetAddress,
)
from cloche.plan.steps.process import WriteSysctl

DEFAULT_ROUTE = Route("", 0, "192.0.2.1", 2, 254)


def route(network: str, ifindex: int = 2) -> Route:
    destination, _, prefix = network.partition("/")
    return Route(destination, int(prefix), "", ifindex, 254)


def test_the_first_free_subnet_is_taken() -> None:
    def chosen(*taken: str) -> str:
        return str(ipam.free_interface([IPv4Network(network) for network in taken]))

    assert chosen() == "172.17.0.1/16"
    assert chosen("172.17.0.0/16", "172.18.5.0/24") == "172.19.0.1/16"
    assert chosen("172.16.0.0/12") == "192.168.0.1/20"
    assert chosen("172.16.0.0/12", "192.168.0.0/16") == "10.0.0.1/24"
    assert chosen("172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/9") == "10.128.0.1/24"
    # The default route is no use of everything.
    assert chosen("0.0.0.0/0") == "172.17.0.1/16"
    with pytest.raises(Unavailable, match="--bip"):
        chosen("172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bridge",
        "172.30.0.1",
        "172.30.0.0/16",
        "172.30.255.255/16",
        "172.30.0.1/31",
        "fd00::1/64",
        "1.2.3/8",
    ],
)
def test_a_bad_bridge_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="bridge address"):
        ipam.parse_interface(text)


def test_addresses_go_round() -> None:
    interface = IPv4Interface("10.0.0.1/29")
    used: list[str] = []
    for _ in range(5):
        used.append(ipam.free_address(interface, frozenset(used), used[-1] if used else ""))
    assert used == ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    with pytest.raises(Unavailable, match="all 5 addresses"):
        ipam.free_address(interface, frozenset(used), "10.0.0.6")
    # One given back is taken last: after .4 comes .5, though .2 is free.
    assert ipam.free_address(interface, frozenset(["10.0.0.3", "10.0.0.4"]), "10.0.0.4") == "10.0.0.5"
    assert ipam.free_address(interface, frozenset(used[1:]), "10.0.0.6") == "10.0.0.2"
    # A last address of another subnet (the bridge has moved) begins anew.
    assert ipam.free_address(interface, frozenset(), "172.17.0.9") == "10.0.0.2"


@given(st.integers(20, 30), st.integers(0, 2**32 - 1), st.sets(st.integers(0, 40)), st.integers(0, 40))
def test_an_address_is_free_and_inside(prefix: int, number: int, used: set[int], after: int) -> None:
    network = IPv4Network((number, prefix), strict=False)
    interface = IPv4Interface((network[1], prefix))
    taken = frozenset(str(network[n]) for n in used if n < network.num_addresses)
    last = str(network[min(after, network.num_addresses - 1)])
    try:
        address = IPv4Address(ipam.free_address(interface, taken, last))
    except Unavailable:
        assert len(taken | {str(interface.ip)}) >= network.num_addresses - 2
        return
    assert str(address) not in taken
    assert address in network
    assert address not in (interface.ip, network.network_address, network.broadcast_address)


def test_a_bridge_that_is_there_is_found_again() -> None:
    there = [Address(1, "127.0.0.1", 8), Address(5, "10.5.0.1", 24), Address(5, "fe80::1", 64)]
    routes = [DEFAULT_ROUTE, route("10.5.0.0/24", 5)]
    assert bridge.decide("box", "", 5, there, routes) == Bridge("box", "10.5.0.1", 24)
    assert bridge.decide("box", "10.5.0.1/24", 5, there, routes) == Bridge("box", "10.5.0.1", 24)
    with pytest.raises(Conflict, match="ip link delete box0"):
        bridge.decide("box", "10.6.0.1/24", 5, there, routes)


def test_a_new_bridge_avoids_routes_and_addresses() -> None:
    addresses = [Address(3, "172.17.0.1", 16)]
    assert bridge.decide("box", "", -1, addresses, [DEFAULT_ROUTE]).address == "172.18.0.1"
    assert bridge.decide("box", "", -1, [], [route("172.17.4.0/24")]).address == "172.18.0.1"
    with pytest.raises(Conflict, match=r"overlaps 172\.17\.0\.0/16"):
        bridge.decide("box", "172.17.9.1/24", -1, addresses, [])


@pytest.mark.parametrize("name", ["", "0box", "Box", "a b", "ninechars", 'x"y', "é"])
def test_a_name_that_cannot_name_links_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="names links"):
        bridge.decide(name, "", -1, [], [])


def test_the_plan_of_the_bridge() -> None:
    box = Bridge("box", "172.17.0.1", 16)
    create, rules, forward = box.setup()
    assert create == CreateBridge("box0", "172.17.0.1", 16, "02:42:ac:11:00:01")
    assert forward == WriteSysctl("net/ipv4/ip_forward", "1")
    assert isinstance(rules, ApplyNftables)
    assert rules.table == "ip box"
    # Replaced whole in one transaction: made if missing, deleted, made.
    assert rules.ruleset.startswith("table ip box\ndelete table ip box\ntable ip box {\n")
    assert 'ip saddr 172.17.0.0/16 oifname != "box0" masquerade' in rules.ruleset
    assert box.teardown() == (
        ApplyNftables("ip box", "table ip box\ndelete table ip box\n"),
        DeleteLink("box0"),
    )


def test_the_plan_of_an_endpoint() -> None:
    box = Bridge("box", "172.17.0.1", 16)
    endpoint = box.endpoint(frozenset(["172.17.0.2"]), "", "0a1b2c3")
    assert endpoint.address == "172.17.0.3"
    attachment = box.attach(endpoint)
    assert attachment.host == (CreateVeth("box0a1b2c3", "eth0", "box0", "02:42:ac:11:00:03"),)
    assert attachment.container == (SetAddress("eth0", "172.17.0.3", 16), AddRoute("172.17.0.1"))
    assert len("x" * 8 + "0a1b2c3") <= 15


def test_hosts() -> None:
    text = files.hosts(
        "web", "example.org", "172.17.0.2", ["db:10.0.0.9", "six:[fd00::1]", "up:host-gateway"], "172.17.0.1"
    )
    lines = text.splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-4:] == [
        "10.0.0.9\tdb",
        "fd00::1\tsix",
        "172.17.0.1\tup",
        "172.17.0.2\tweb.example.org web",
    ]
    assert "web" not in files.hosts("web")
    for bad in (
        "db",
        "db:",
        ":1.2.3.4",
        "db:not-an-address",
        "db:1.2.3.4\n6.6.6.6 bank",
        "a b:1.2.3.4",
        "up:host-gateway",
    ):
        with pytest.raises(InvalidArgument, match="extra host"):
            files.hosts("web", extra=[bad])


HOST_RESOLV = """\
# a comment
nameserver 127.0.0.53
nameserver 10.0.0.53 ; mine
nameserver fd00::53
domain old.example
search example.org corp.example
options ndots:2
options edns0 trust-ad
"""


def test_resolv_conf_leaves_out_what_cannot_be_reached() -> None:
    assert files.resolv_conf(HOST_RESOLV) == (
        "nameserver 10.0.0.53\nsearch example.org corp.example\noptions ndots:2 edns0 trust-ad\n"
    )
    assert files.resolv_conf(HOST_RESOLV, isolated=False).startswith(
        "nameserver 127.0.0.53\nnameserver 10.0.0.53\n"
    )
    assert files.resolv_conf("nameserver ::1\n") == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    assert files.resolv_conf("", isolated=False) == ""


def test_resolv_conf_as_asked() -> None:
    text = files.resolv_conf(HOST_RESOLV, ["1.1.1.1", "127.0.0.1"], ["."], ["timeout:1"])
    assert text == "nameserver 1.1.1.1\nnameserver 127.0.0.1\noptions timeout:1\n"
    with pytest.raises(InvalidArgument, match="not an IP address"):
        files.resolv_conf("", ["dns.example"])


def test_the_stub_of_systemd_resolved_is_known() -> None:
    assert files.needs_resolved("nameserver 127.0.0.53\noptions edns0\n")
    assert not files.needs_resolved(HOST_RESOLV)
    assert not files.needs_resolved("")


@given(st.text(max_size=200))
def test_any_resolv_conf_is_read(text: str) -> None:
    try:
        result = files.resolv_conf(text)
    except ClocheError:
        pytest.fail("the host's file is no fault of the user")
    assert result.startswith("nameserver ")
