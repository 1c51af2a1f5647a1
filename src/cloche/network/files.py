"""The contents of /etc/hosts, /etc/resolv.conf and /etc/hostname in a container."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_address

from cloche.errors import InvalidArgument

_LOCALHOST = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""

_PUBLIC_NAMESERVERS = ("8.8.8.8", "8.8.4.4")

RESOLVED = "/run/systemd/resolve/resolv.conf"
"""Where systemd-resolved writes the real nameservers, while /etc/resolv.conf names its stub on the
loopback.
"""


def hostname(name: str) -> str:
    return f"{name}\n"


def hosts(
    name: str, domainname: str = "", address: str = "", extra: Iterable[str] = (), gateway: str = ""
) -> str:
    """The container's own line comes last, as in Docker; without an ``address`` there is none.

    ``extra``: ``NAME:ADDRESS``, where ``host-gateway`` means ``gateway``. Raises ``InvalidArgument``."""
    text = _LOCALHOST + extra_hosts(extra, gateway)
    if address:
        names = f"{name}.{domainname} {name}" if domainname else name
        text += f"{address}\t{names}\n"
    return text


def extra_hosts(extra: Iterable[str], gateway: str = "") -> str:
    """Lines for ``--add-host`` entries. Raises ``InvalidArgument``."""
    text = ""
    for entry in extra:
        name, colon, address = entry.partition(":")
        if address == "host-gateway":
            if not gateway:
                raise InvalidArgument(f"extra host {entry!r}: this network has no gateway to the host")
            address = gateway
        address = address.removeprefix("[").removesuffix("]")
        if not name or not colon or not _is_address(address) or any(c.isspace() for c in name):
            raise InvalidArgument(f"extra host {entry!r}: want NAME:ADDRESS or NAME:host-gateway")
        text += f"{address}\t{name}\n"
    return text


def resolv_conf(
    host: str,
    nameservers: Iterable[str] = (),
    search: Collection[str] = (),
    options: Collection[str] = (),
    isolated: bool = True,
) -> str:
    """The host's file with what was asked for (``--dns``, ``--dns-search``, ``--dns-option``) in its
    place.

    ``isolated``: the container has a network of its own, in which a nameserver on the host's loopback or
    over IPv6 cannot be reached; where none is left, Docker's public ones. A search of ``.`` means none.
    Raises ``InvalidArgument``."""
    found = _read(host)
    servers = list(nameservers)
    for server in servers:
        if not _is_address(server):
            raise InvalidArgument(f"nameserver {server!r}: not an IP address")
    for word in (*search, *options):
        if not word or not word.isprintable() or " " in word:
            raise InvalidArgument(f"search domain or option {word!r} of the resolver: not one word")
    if not servers:
        servers = [s for s in found["nameserver"] if not isolated or _is_reachable(s)]
        if isolated and not servers:
            servers = list(_PUBLIC_NAMESERVERS)
    domains = list(search) or found["search"]
    lines = [f"nameserver {server}" for server in servers]
    if domains and domains != ["."]:
        lines.append(f"search {' '.join(domains)}")
    if settings := list(options) or found["options"]:
        lines.append(f"options {' '.join(settings)}")
    return "".join(f"{line}\n" for line in lines)


def needs_resolved(host: str) -> bool:
    """All nameservers of /etc/resolv.conf are systemd-resolved's stub: ``RESOLVED`` has the real ones."""
    servers = _read(host)["nameserver"]
    return bool(servers) and all(server == "127.0.0.53" for server in servers)


def _read(text: str) -> dict[str, list[str]]:
    """resolv.conf(5): nameservers and options add up, the last search (or domain) holds."""
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            found["nameserver"].append(words[1])
        elif words[0] in ("search", "domain"):
            found["search"] = words[1:]
        elif words[0] == "options":
            found["options"] += words[1:]
    return found


def _is_address(text: str) -> bool:
    address, _, scope = text.partition("%")
    try:
        ip_address(address)
    except ValueError:
        return False
    return not any(c.isspace() for c in scope)


def _is_reachable(server: str) -> bool:
    return _is_address(server) and ":" not in server and not ip_address(server).is_loopback
