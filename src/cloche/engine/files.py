"""The small files of a container's /etc, written at each start: hostname, hosts and resolv.conf."""

from __future__ import annotations

import os

from cloche.engine.records import Container
from cloche.network import files


def write(directory: str, container: Container) -> None:
    """Raises ``InvalidArgument`` for an extra host or a nameserver that is no address."""
    contents = {
        "hostname": files.hostname(container.hostname),
        "hosts": _hosts(container),
        "resolv.conf": _resolv_conf(container),
    }
    for name, text in contents.items():
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(f"{directory}/{name}", flags, 0o644)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def _hosts(container: Container) -> str:
    config, endpoint = container.config, container.endpoint
    if config.network_mode == "host":
        return _read("/etc/hosts") + files.extra_hosts(config.extra_hosts, "127.0.0.1")
    return files.hosts(
        container.hostname,
        config.domainname,
        endpoint.address if endpoint else "",
        config.extra_hosts,
        endpoint.gateway if endpoint else "",
    )


def _resolv_conf(container: Container) -> str:
    config = container.config
    text = _read("/etc/resolv.conf")
    isolated = config.network_mode != "host"
    if isolated and files.needs_resolved(text):
        text = _read(files.RESOLVED)
    return files.resolv_conf(text, config.dns, config.dns_search, config.dns_options, isolated)


def _read(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        return os.read(descriptor, 1 << 16).decode(errors="replace")
    finally:
        os.close(descriptor)
