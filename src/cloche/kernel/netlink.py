"""Links, addresses and routes over rtnetlink (rtnetlink(7)): a codec for the dozen messages that a
container needs.

A library for all of netlink (pyroute2) is the field's tool, yet it costs a quarter of a second and 24
MiB to import. This is on the path of every start, in a process that is forked for every container: the
small codec costs a tenth of a millisecond a message and no memory to speak of. Its answers are tested
against ``ip -json``.
"""

from __future__ import annotations

import errno
import struct
from _socket import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_UNSPEC,
    SOCK_CLOEXEC,
    SOCK_RAW,
    inet_ntop,
    inet_pton,
    socket,
)
from collections.abc import Iterator
from typing import NamedTuple

from cloche.kernel.syscall import c_string, failure

NETLINK_ROUTE = 0
SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_EXCL = 0x200
NLM_F_ACK_TLVS = 0x200
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLMSGERR_ATTR_MSG = 1

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_GETROUTE = 26

IFF_UP = 0x1
IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_LINK = 5
IFLA_MASTER = 10
IFLA_LINKINFO = 18
IFLA_AF_SPEC = 26
IFLA_NET_NS_FD = 28
IFLA_INET6_ADDR_GEN_MODE = 8
IN6_ADDR_GEN_MODE_NONE = 1
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
VETH_INFO_PEER = 1
NLA_F_NESTED = 0x8000
_KIND_MASK = 0x3FFF

IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_BROADCAST = 4

RTA_DST = 1
RTA_OIF = 4
RTA_GATEWAY = 5
RTA_TABLE = 15
RT_TABLE_MAIN = 254
RTPROT_STATIC = 4
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RTN_UNICAST = 1

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")


class Link(NamedTuple):
    ifindex: int
    name: str
    kind: str
    """``bridge``, ``veth``...; empty for hardware and the loopback."""
    mac: str
    up: bool
    mtu: int
    master: int
    """Index of the bridge it is a port of; 0 for none."""
    peer: int
    """Index of the other end, in that one's namespace; 0 for none."""


class Address(NamedTuple):
    ifindex: int
    """Of the link."""
    address: str
    prefix: int


class Route(NamedTuple):
    destination: str
    """Empty for the default route."""
    prefix: int
    gateway: str
    """Empty where the destination is on the link."""
    ifindex: int
    table: int


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute: length, kind, payload, padded to four bytes."""
    size = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(size, kind) + payload + bytes(-size % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in ``data``; one that is cut off ends them."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < _ATTRIBUTE.size or offset + size > len(data):
            return
        yield kind & _KIND_MASK, data[offset + _ATTRIBUTE.size : offset + size]
        offset += size + -size % 4


class Netlink:
    """A socket to the rtnetlink of the network namespace that the caller is in when it is made.

    Each verb waits for the kernel's answer and raises ``OSError`` with the kernel's own text where it
    gives one."""

    def __init__(self) -> None:
        self._socket = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    # --- verbs -----------------------------------------------------------------------------------

    def link(self, name: str) -> Link:
        """One link. Raises ``OSError`` (ENODEV) where there is none of that name."""
        body = _LINK.pack(AF_UNSPEC, 0, 0, 0, 0) + _name(name)
        for answer in self._exchange(RTM_GETLINK, 0, body, "get link", name):
            return _link(answer)
        raise failure(errno.ENODEV, "get link", name)

    def link_index(self, name: str) -> int:
        return self.link(name).ifindex

    def add_bridge(self, name: str, mac: str | None = None) -> None:
        """A bridge, down. Raises ``OSError`` (EEXIST) where the name is taken. Without ``mac`` its
        address follows its ports, and changes when they come and go."""
        body = _LINK.pack(AF_UNSPEC, 0, 0, 0, 0) + _name(name)
        if mac:
            body += attribute(IFLA_ADDRESS, _mac(mac))
        body += attribute(IFLA_LINKINFO | NLA_F_NESTED, attribute(IFLA_INFO_KIND, b"bridge"))
        self._create(RTM_NEWLINK, body, "add bridge", name, mac)

    def add_veth(self, name: str, peer: str, peer_netns_fd: int, master_index: int, mac: str) -> None:
        """A veth in one message: ``name`` here, up and a port of the bridge ``master_index``; ``peer``,
        down, with that ``mac``, made directly in the namespace of the descriptor. A link that is moved
        instead is renamed, taken down and announced twice, each time under the lock that all of
        networking shares."""
        body = _LINK.pack(AF_UNSPEC, 0, 0, IFF_UP, IFF_UP) + _name(name)
        body += attribute(IFLA_MASTER, struct.pack("=I", master_index))
        other = _LINK.pack(AF_UNSPEC, 0, 0, 0, 0) + _name(peer)
        other += attribute(IFLA_NET_NS_FD, struct.pack("=i", peer_netns_fd))
        other += attribute(IFLA_ADDRESS, _mac(mac))
        data = attribute(VETH_INFO_PEER | NLA_F_NESTED, other)
        info = attribute(IFLA_INFO_KIND, b"veth") + attribute(IFLA_INFO_DATA | NLA_F_NESTED, data)
        body += attribute(IFLA_LINKINFO | NLA_F_NESTED, info)
        self._create(RTM_NEWLINK, body, "add veth", name, peer, peer_netns_fd, master_index, mac)

    def set_up(self, link: int | str) -> None:
        self._exchange(RTM_NEWLINK, NLM_F_ACK, _link_reference(link, IFF_UP, IFF_UP), "set link up", link)

    def disable_link_local(self, link: int | str) -> None:
        """The kernel gives the link no IPv6 address of its own making: it stays silent on a network that
        has no IPv6. For a link that is down; in one message with ``set_up`` it would come too late."""
        mode = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
        body = _link_reference(link, 0, 0)
        body += attribute(IFLA_AF_SPEC | NLA_F_NESTED, attribute(AF_INET6 | NLA_F_NESTED, mode))
        try:
            self._exchange(RTM_NEWLINK, NLM_F_ACK, body, "set link addrgenmode none", link)
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:  # a kernel without IPv6 makes no such address
                raise

    def delete_link(self, link: int | str) -> None:
        """Raises ``OSError`` (ENODEV) where there is none. Either end of a veth takes the other one
        along."""
        self._exchange(RTM_DELLINK, NLM_F_ACK, _link_reference(link, 0, 0), "delete link", link)

    def add_address(self, index: int, address: str, prefix: int) -> None:
        """Give a link an address, with the broadcast address that IPv4 has. Raises ``OSError`` (EEXIST)."""
        family, raw = _address(address)
        body = _ADDRESS.pack(family, prefix, 0, RT_SCOPE_UNIVERSE, index)
        body += attribute(IFA_LOCAL, raw) + attribute(IFA_ADDRESS, raw)
        if family == AF_INET and prefix < 31:
            number = int.from_bytes(raw, "big") | (1 << 32 - prefix) - 1
            body += attribute(IFA_BROADCAST, number.to_bytes(4, "big"))
        self._create(RTM_NEWADDR, body, "add address", index, address, prefix)

    def add_route(self, gateway: str, destination: str = "", prefix: int = 0, index: int = 0) -> None:
        """A route in the main table: the default one without ``destination``; on the link ``index``
        without ``gateway``. Raises ``OSError`` (ENETUNREACH) where the gateway is on no link that is up."""
        family = _address(gateway or destination)[0]
        scope = RT_SCOPE_UNIVERSE if gateway else RT_SCOPE_LINK
        body = _ROUTE.pack(family, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, 0)
        if destination:
            body += attribute(RTA_DST, _address(destination)[1])
        if gateway:
            body += attribute(RTA_GATEWAY, _address(gateway)[1])
        if index:
            body += attribute(RTA_OIF, struct.pack("=I", index))
        self._create(RTM_NEWROUTE, body, "add route", gateway, destination, prefix, index)

    def links(self) -> list[Link]:
        body = _LINK.pack(AF_UNSPEC, 0, 0, 0, 0)
        return [_link(answer) for answer in self._dump(RTM_GETLINK, body, "get links")]

    def addresses(self) -> list[Address]:
        """Of all links, IPv4 and IPv6."""
        body = _ADDRESS.pack(AF_UNSPEC, 0, 0, 0, 0)
        return [_parse_address(answer) for answer in self._dump(RTM_GETADDR, body, "get addresses")]

    def routes(self) -> list[Route]:
        """The IPv4 routes to other machines and networks, of all tables."""
        body = _ROUTE.pack(AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        found = (_parse_route(answer) for answer in self._dump(RTM_GETROUTE, body, "get routes"))
        return [route for route in found if route is not None]

    # --- messages -----------------------------------------------------------------------------------

    def _create(self, kind: int, body: bytes, call: str, *subject: object) -> None:
        self._exchange(kind, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body, call, *subject)

    def _dump(self, kind: int, body: bytes, call: str) -> list[bytes]:
        """A dump that the kernel found changed under its hands is asked for again."""
        for _ in range(16):
            try:
                return self._exchange(kind, NLM_F_DUMP, body, call)
            except InterruptedError:
                continue
        raise failure(errno.EBUSY, call, detail="it changes faster than it can be read")

    def _exchange(self, kind: int, flags: int, body: bytes, call: str, *subject: object) -> list[bytes]:
        """Send one request; the bodies of its answers, up to the acknowledgement, the end of a dump or
        the one answer of a plain get."""
        self._sequence += 1
        size = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(size, kind, flags | NLM_F_REQUEST, self._sequence, 0) + body)
        answers: list[bytes] = []
        interrupted = False
        while True:
            for kind_back, flags_back, payload in self._receive():
                interrupted |= bool(flags_back & NLM_F_DUMP_INTR)
                if kind_back == NLMSG_ERROR:
                    _raise_error(flags_back, payload, call, *subject)
                    return answers
                if kind_back == NLMSG_DONE:
                    if interrupted:
                        raise InterruptedError(errno.EINTR, call)
                    return answers
                answers.append(payload)
            if answers and not flags & (NLM_F_ACK | NLM_F_DUMP):
                return answers

    def _receive(self) -> list[tuple[int, int, bytes]]:
        """The messages of one datagram that answer the last request: kind, flags, body."""
        data = self._socket.recv(1 << 16)
        messages = []
        offset = 0
        while offset + _HEADER.size <= len(data):
            size, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            if size < _HEADER.size:
                break
            if sequence == self._sequence:
                messages.append((kind, flags, data[offset + _HEADER.size : offset + size]))
            offset += size + -size % 4
        return messages


def _raise_error(flags: int, payload: bytes, call: str, *subject: object) -> None:
    number = -_ERROR.unpack_from(payload)[0]
    if number == 0:
        return
    detail = ""
    if flags & NLM_F_ACK_TLVS:
        # With NETLINK_CAP_ACK the request's header comes back, its body does not.
        for kind, text in attributes(payload[_ERROR.size + _HEADER.size :]):
            if kind == NLMSGERR_ATTR_MSG:
                detail = text.rstrip(b"\0").decode(errors="replace")
    raise failure(number, call, *subject, detail=detail)


def _name(name: str) -> bytes:
    return attribute(IFLA_IFNAME, (c_string(name) or b"") + b"\0")


def _mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _address(address: str) -> tuple[int, bytes]:
    family = AF_INET6 if ":" in address else AF_INET
    try:
        return family, inet_pton(family, address)
    except OSError:
        raise failure(errno.EINVAL, "inet_pton", address) from None


def _link_reference(link: int | str, flags: int, change: int) -> bytes:
    if isinstance(link, int):
        return _LINK.pack(AF_UNSPEC, 0, link, flags, change)
    return _LINK.pack(AF_UNSPEC, 0, 0, flags, change) + _name(link)


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    found = dict(attributes(body[_LINK.size :]))
    info = dict(attributes(found.get(IFLA_LINKINFO, b"")))
    return Link(
        ifindex=index,
        name=_text(found.get(IFLA_IFNAME, b"")),
        kind=_text(info.get(IFLA_INFO_KIND, b"")),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        up=bool(flags & IFF_UP),
        mtu=_number(found.get(IFLA_MTU)),
        master=_number(found.get(IFLA_MASTER)),
        peer=_number(found.get(IFLA_LINK)),
    )


def _parse_address(body: bytes) -> Address:
    family, prefix, _, _, index = _ADDRESS.unpack_from(body)
    found = dict(attributes(body[_ADDRESS.size :]))
    # On a point-to-point link IFA_ADDRESS is the other end; IPv6 has no IFA_LOCAL unless there
    # is such an end.
    raw = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS, b"")
    return Address(index, inet_ntop(family, raw), prefix)


def _parse_route(body: bytes) -> Route | None:
    family, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
    if kind != RTN_UNICAST or family != AF_INET:
        return None
    found = dict(attributes(body[_ROUTE.size :]))
    return Route(
        destination=inet_ntop(family, found[RTA_DST]) if RTA_DST in found else "",
        prefix=prefix,
        gateway=inet_ntop(family, found[RTA_GATEWAY]) if RTA_GATEWAY in found else "",
        ifindex=_number(found.get(RTA_OIF)),
        table=_number(found.get(RTA_TABLE)) or table,
    )


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


def _number(raw: bytes | None) -> int:
    return int(struct.unpack("=I", raw)[0]) if raw else 0
