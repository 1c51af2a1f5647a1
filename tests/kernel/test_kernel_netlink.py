"""rtnetlink and nftables in throw-away network namespaces; iproute2 says what is really there."""

import errno
import json
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from sandbox import forked

from cloche.kernel import namespaces, nftables
from cloche.kernel.netlink import Netlink

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="network namespaces need root")


def ip(*arguments: str) -> list[dict[str, Any]]:
    output = subprocess.run(
        ["ip", "-json", "-details", *arguments], capture_output=True, text=True, check=True
    )
    found: list[dict[str, Any]] = json.loads(output.stdout or "[]")
    return found


def in_network(work: Callable[[], Any]) -> Any:
    return forked(work, namespaces.CLONE_NEWNET)


def other_network() -> tuple[int, int]:
    """A network namespace held by a process that ends with us: its descriptor, the pid."""
    reader, writer = os.pipe()
    ready, tell = os.pipe()
    pid = namespaces.clone3(namespaces.CLONE_NEWNET)
    if pid == 0:
        os.close(writer)
        os.write(tell, b".")
        os.read(reader, 1)
        os._exit(0)
    os.read(ready, 1)
    return os.open(namespaces.path(pid, "network"), os.O_RDONLY), pid


def inside(network: int, work: Callable[[], Any]) -> Any:
    def enter() -> Any:
        namespaces.setns(network, namespaces.CLONE_NEWNET)
        return work()

    return forked(enter)


def test_everything_listed_is_what_ip_lists() -> None:
    """Also on a namespace full of links, whose dump takes several reads."""

    def work() -> None:
        with Netlink() as netlink:
            netlink.set_up("lo")
            for number in range(60):
                netlink.add_bridge(f"br{number}", f"02:42:00:00:00:{number:02x}")
            netlink.add_bridge("own")
            netlink.set_up("br7")
            netlink.add_address(netlink.link_index("br7"), "10.7.0.1", 24)
            netlink.add_address(netlink.link_index("br7"), "fd07::1", 64)
            netlink.add_route("10.7.0.254")
            netlink.add_route("10.7.0.253", "10.99.0.0", 16)
            netlink.add_route("", "10.98.0.0", 24, netlink.link_index("br7"))
            links, addresses, routes = netlink.links(), netlink.addresses(), netlink.routes()
        shown = ip("address", "show")
        assert [
            (link["ifindex"], link["ifname"], link["address"], "UP" in link["flags"], link["mtu"])
            for link in shown
        ] == [(link.ifindex, link.name, link.mac, link.up, link.mtu) for link in links]
        assert [link.get("linkinfo", {}).get("info_kind", "") for link in shown] == [
            link.kind for link in links
        ]
        assert sorted(
            (link["ifindex"], address["local"], address["prefixlen"])
            for link in shown
            for address in link["addr_info"]
        ) == sorted(addresses)
        br7 = next(link for link in shown if link["ifname"] == "br7")
        assert br7["addr_info"][0]["broadcast"] == "10.7.0.255"
        names = {link.ifindex: link.name for link in links}
        main = [route for route in routes if route.table == 254]
        assert sorted(
            (r["dst"], r.get("gateway", ""), r["dev"]) for r in ip("-4", "route", "show")
        ) == sorted(
            (f"{r.destination}/{r.prefix}" if r.destination else "default", r.gateway, names[r.ifindex])
            for r in main
        )

    in_network(work)


def test_a_veth_is_born_in_both_namespaces() -> None:
    def work() -> None:
        network, pid = other_network()
        with Netlink() as netlink:
            netlink.add_bridge("b0", "02:42:0a:00:00:01")
            master = netlink.link_index("b0")
            netlink.set_up(master)
            netlink.add_veth("host0", "eth0", network, master, "02:42:0a:00:00:02")
            host = netlink.link("host0")
        assert (host.kind, host.up, host.master) == ("veth", True, master)

        def container() -> None:
            (eth0,) = (link for link in ip("link", "show") if link["ifname"] != "lo")
            assert (eth0["ifname"], eth0["address"]) == ("eth0", "02:42:0a:00:00:02")
            assert "UP" not in eth0["flags"]
            with Netlink() as own:
                ifindex = own.link_index("eth0")
                assert own.link("eth0").peer == host.ifindex
                own.add_address(ifindex, "10.0.0.2", 24)
                own.set_up(ifindex)
                own.add_route("10.0.0.1")
            assert ip("-4", "route", "show", "default")[0]["gateway"] == "10.0.0.1"

        inside(network, container)
        (host0,) = ip("link", "show", "host0")
        assert host0["master"] == "b0"
        with Netlink() as netlink:
            netlink.delete_link("host0")
        assert inside(network, lambda: [link["ifname"] for link in ip("link", "show")]) == ["lo"]
        os.kill(pid, 9)
        os.waitpid(pid, 0)

    in_network(work)


def test_a_link_without_link_local_stays_without_ipv6() -> None:
    def work() -> list[list[str]]:
        network, pid = other_network()
        with Netlink() as netlink:
            netlink.add_bridge("b0")
            netlink.set_up("b0")
            for number in (0, 1):
                netlink.add_veth(
                    f"h{number}",
                    f"c{number}",
                    network,
                    netlink.link_index("b0"),
                    f"02:42:00:00:00:0{number}",
                )

        def container() -> list[list[str]]:
            with Netlink() as own:
                own.disable_link_local("c1")
                own.set_up("c1")
                own.set_up("c0")
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                found = [ip("-6", "address", "show", link) for link in ("c0", "c1")]
                families = [
                    [a["local"][:4] for item in one for a in item.get("addr_info", [])] for one in found
                ]
                if families[0]:
                    break
                time.sleep(0.02)
            return families

        found: list[list[str]] = inside(network, container)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        return found

    assert in_network(work) == [["fe80"], []]


def test_refusals_have_the_kernels_words() -> None:
    def work() -> list[tuple[int, str]]:
        found = []
        with Netlink() as netlink:
            netlink.add_bridge("b0")
            ifindex = netlink.link_index("b0")
            netlink.add_address(ifindex, "10.0.0.1", 24)
            attempts: list[Callable[[], object]] = [
                lambda: netlink.add_bridge("b0"),
                lambda: netlink.add_bridge("a-name-of-sixteen"),
                lambda: netlink.link("missing"),
                lambda: netlink.delete_link("missing"),
                lambda: netlink.set_up("missing"),
                lambda: netlink.add_address(ifindex, "10.0.0.1", 24),
                lambda: netlink.add_address(ifindex, "10.0.0.300", 24),
                lambda: netlink.add_route("10.9.9.9"),
                lambda: netlink.add_bridge("a\0b"),
            ]
            for attempt in attempts:
                try:
                    attempt()
                    found.append((0, "done"))
                except OSError as error:
                    found.append((error.errno or 0, str(error)))
            # The socket is as good as before.
            assert netlink.link("b0").ifindex == ifindex
        return found

    found = in_network(work)
    assert [number for number, _ in found] == [
        errno.EEXIST,
        errno.ERANGE,
        errno.ENODEV,
        errno.ENODEV,
        errno.ENODEV,
        errno.EEXIST,
        errno.EINVAL,
        errno.ENETUNREACH,
        errno.EINVAL,
    ]
    assert "add bridge('b0', NULL): File exists" in found[0][1]
    assert "get link('missing'): No such device" in found[2][1]
    assert "Nexthop has invalid gateway" in found[7][1]


def test_up() -> None:
    def work() -> list[bool]:
        with Netlink() as netlink:
            states = [netlink.link("lo").up]
            netlink.set_up("lo")
            return [*states, netlink.link("lo").up]

    assert in_network(work) == [False, True]


def test_nftables_is_one_transaction() -> None:
    good = "table ip cloche-test { chain c { type filter hook input priority 0; counter accept; }\n}"

    def work() -> tuple[str, str, str, str]:
        nftables.apply(good)
        before = nftables.apply("list ruleset")
        errors = []
        for bad in (f"delete table ip cloche-test\n{good}\nadd rule ip nowhere c accept", "tabel ip x {}"):
            try:
                nftables.apply(bad)
            except OSError as error:
                errors.append(str(error))
        return before, nftables.apply("list ruleset"), errors[0], errors[1]

    before, after, nowhere, syntax = in_network(work)
    assert "counter packets 0 bytes 0 accept" in before
    assert after == before
    assert "No such file or directory" in nowhere
    assert "syntax error" in syntax
