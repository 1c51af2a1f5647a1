"""Networks as ``docker network ls`` and ``inspect`` show them."""

from __future__ import annotations

import msgspec

from cloche.api.times import NEVER


class IPAMPool(msgspec.Struct, frozen=True):
    Subnet: str
    Gateway: str


class IPAM(msgspec.Struct, frozen=True):
    Driver: str = "default"
    Options: None = None
    Config: tuple[IPAMPool, ...] = ()


class NetworkContainer(msgspec.Struct, frozen=True):
    Name: str
    EndpointID: str
    MacAddress: str
    IPv4Address: str
    IPv6Address: str = ""


class ConfigFrom(msgspec.Struct, frozen=True):
    Network: str = ""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    Name: str
    Id: str
    Created: str = NEVER
    Scope: str = "local"
    Driver: str
    EnableIPv4: bool = True
    EnableIPv6: bool = False
    IPAM: IPAM
    Internal: bool = False
    Attachable: bool = False
    Ingress: bool = False
    ConfigFrom: ConfigFrom = ConfigFrom()
    ConfigOnly: bool = False
    Containers: dict[str, NetworkContainer]
    Options: dict[str, str]
    Labels: dict[str, str] = {}
