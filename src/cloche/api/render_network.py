"""The three networks there are: ``bridge``, ``host``, ``none``."""

from __future__ import annotations

import hashlib
import ipaddress

from cloche.api.structs_container import Endpoint
from cloche.api.structs_network import IPAM, IPAMPool, Network, NetworkContainer
from cloche.engine.records import Container

DRIVERS = {"bridge": "bridge", "host": "host", "none": "null"}


def network_id(engine_id: str, name: str) -> str:
    """The networks have no record of their own; the id is steady as long as the engine's is."""
    return hashlib.sha256(f"{engine_id}/network/{name}".encode()).hexdigest()


def endpoint_id(container: Container) -> str:
    return hashlib.sha256(f"{container.id}/endpoint".encode()).hexdigest()


def network_name(container: Container) -> str:
    """Name of the container's network; empty where it shares another container's."""
    mode = container.config.network_mode
    if mode.startswith("container:"):
        return ""
    return "bridge" if mode == "default" else mode


def endpoints(container: Container, engine_id: str) -> dict[str, Endpoint]:
    """``NetworkSettings.Networks``; ids and addresses only while it runs, as Docker shows it."""
    name = network_name(container)
    if not name:
        return {}
    if container.state.status != "running":
        return {name: Endpoint()}
    at = container.endpoint
    if at is None:
        return {name: Endpoint(NetworkID=network_id(engine_id, name), EndpointID=endpoint_id(container))}
    return {
        name: Endpoint(
            NetworkID=network_id(engine_id, name),
            EndpointID=endpoint_id(container),
            MacAddress=at.mac,
            Gateway=at.gateway,
            IPAddress=at.address,
            IPPrefixLen=at.prefix,
        )
    }


def network(name: str, engine_id: str, subnet: str, bridge: str, containers: list[Container]) -> Network:
    """One network with the running containers on it. ``subnet`` is the bridge's address and prefix, where
    known."""
    members = [c for c in containers if c.state.status == "running" and network_name(c) == name]
    pools: tuple[IPAMPool, ...] = ()
    if name == "bridge" and subnet:
        interface = ipaddress.ip_interface(subnet)
        pools = (IPAMPool(Subnet=str(interface.network), Gateway=str(interface.ip)),)
    return Network(
        Name=name,
        Id=network_id(engine_id, name),
        Driver=DRIVERS[name],
        IPAM=IPAM(Config=pools),
        Containers={c.id: _member(c) for c in members},
        Options={"com.docker.network.bridge.name": bridge} if name == "bridge" else {},
    )


def _member(container: Container) -> NetworkContainer:
    at = container.endpoint
    return NetworkContainer(
        Name=container.name,
        EndpointID=endpoint_id(container),
        MacAddress=at.mac if at else "",
        IPv4Address=f"{at.address}/{at.prefix}" if at else "",
    )
