"""Links, addresses, routes and tables."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from cloche.kernel import namespaces, nftables
from cloche.kernel.netlink import Netlink
from cloche.plan.step import Step, quote

if TYPE_CHECKING:
    from cloche.plan.execution import Execution


class CreateBridge(Step, frozen=True):
    """Host side: a bridge with an address, up. One that exists is used, and given the address if it lacks
    it."""

    name: str
    address: str
    prefix: int
    mac: str = ""

    def execute(self, run: Execution) -> None:
        with Netlink() as netlink:
            try:
                netlink.add_bridge(self.name, self.mac or None)
                run.undo.append(lambda: _delete(self.name))
            except FileExistsError:
                pass
            link = netlink.link(self.name)
            if link.kind != "bridge":
                raise OSError(
                    errno.EEXIST, f"link {self.name} exists and is a {link.kind or 'device'}, not a bridge"
                )
            try:
                netlink.add_address(link.ifindex, self.address, self.prefix)
            except FileExistsError:
                pass
            netlink.set_up(link.ifindex)

    def describe(self) -> str:
        return f"{self.name} {self.address}/{self.prefix}"

    def shell(self) -> str:
        name, mac = quote(self.name), f" address {self.mac}" if self.mac else ""
        return (
            f"[ -e /sys/class/net/{name} ] || ip link add {name}{mac} type bridge\n"
            f"ip addr replace {self.address}/{self.prefix} brd + dev {name}\n"
            f"ip link set {name} up"
        )

    def hint(self, number: int) -> str:
        return "this kernel has no bridge: modprobe bridge" if number == errno.EOPNOTSUPP else ""


class CreateVeth(Step, frozen=True):
    """Host side, after ``Clone``: a veth whose peer is born in init's network namespace (moving it there
    would take 25 ms), its host end in the bridge and up. Undone by deleting it."""

    name: str
    peer: str
    """Name of the end in the container, e.g. ``eth0``."""
    bridge: str
    mac: str
    """Of the container's end."""

    def execute(self, run: Execution) -> None:
        path = namespaces.path(run.init_pid, "network")
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Netlink() as netlink:
                bridge = netlink.link_index(self.bridge)
                netlink.add_veth(self.name, self.peer, namespace, bridge, self.mac)
                run.undo.append(lambda: _delete(self.name))
        finally:
            os.close(namespace)

    def describe(self) -> str:
        return f"{self.name} in {self.bridge}, {self.peer} ({self.mac}) in the container"

    def shell(self) -> str:
        return self._lines(quote(self.name))

    def script(self) -> str:
        """The same with a host end of the script's own."""
        return self._lines('"$veth"')

    def _lines(self, name: str) -> str:
        return (
            f"ip link add {name} type veth peer name {quote(self.peer)} address {self.mac}"
            f' netns "$init"\nip link set {name} master {quote(self.bridge)} up'
        )

    def hint(self, number: int) -> str:
        if number == errno.EEXIST:
            return f"a link {self.name} exists"
        if number == errno.EXFULL:
            return "a Linux bridge has at most 1023 ports"
        return f"there is no bridge {self.bridge}" if number == errno.ENODEV else ""


class DeleteLink(Step, frozen=True):
    """Host side: remove a link; one that is not there is nothing to remove."""

    name: str

    def execute(self, run: Execution) -> None:
        try:
            _delete(self.name)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def describe(self) -> str:
        return self.name

    def shell(self) -> str:
        return f"ip link delete {quote(self.name)} 2>/dev/null || true"


class ApplyNftables(Step, frozen=True):
    """Host side: apply nftables text in one transaction."""

    table: str
    """``family name`` of the one table that the text is about."""
    ruleset: str

    def execute(self, run: Execution) -> None:
        nftables.apply(self.ruleset)

    def describe(self) -> str:
        return f"table {self.table}"

    def shell(self) -> str:
        return f"nft -f - <<'END'\n{self.ruleset.rstrip()}\nEND"


class BringUpLoopback(Step, frozen=True):
    """Container side: ``lo`` up."""

    def execute(self, run: Execution) -> None:
        with Netlink() as netlink:
            netlink.set_up("lo")

    def describe(self) -> str:
        return "lo"

    def shell(self) -> str:
        return "ip link set lo up"


class SetAddress(Step, frozen=True):
    """Container side, after ``Await("linked")``: give a link an address and bring it up, without the IPv6
    address that the kernel would make up."""

    link: str
    address: str
    prefix: int

    def execute(self, run: Execution) -> None:
        with Netlink() as netlink:
            index = netlink.link_index(self.link)
            netlink.add_address(index, self.address, self.prefix)
            netlink.disable_link_local(index)
            netlink.set_up(index)

    def describe(self) -> str:
        return f"{self.link} {self.address}/{self.prefix}"

    def shell(self) -> str:
        link = quote(self.link)
        return (
            f"ip addr add {self.address}/{self.prefix} brd + dev {link}\n"
            f"[ ! -e /proc/sys/net/ipv6 ] || ip link set {link} addrgenmode none\n"
            f"ip link set {link} up"
        )


class AddRoute(Step, frozen=True):
    """Container side: a route. An empty ``destination`` is the default route."""

    gateway: str
    destination: str = ""
    """``address/prefix``."""

    def execute(self, run: Execution) -> None:
        address, _, prefix = self.destination.partition("/")
        with Netlink() as netlink:
            netlink.add_route(self.gateway, address, int(prefix or 0))

    def describe(self) -> str:
        return f"{self.destination or 'default'} via {self.gateway}"

    def shell(self) -> str:
        return f"ip route add {self.destination or 'default'} via {self.gateway}"

    def hint(self, number: int) -> str:
        return "the gateway is in no network of a link that is up" if number == errno.ENETUNREACH else ""


def _delete(name: str) -> None:
    with Netlink() as netlink:
        netlink.delete_link(name)
