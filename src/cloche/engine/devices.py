"""Devices of the host for a container: nodes to be made, and rules that let them be used."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from cloche.engine.records import ContainerConfig
from cloche.errors import InvalidArgument
from cloche.runtime.spec import Device, DeviceCgroup

# Mounts of the container's own are there, or the console.
_NOT_PASSED_ON = frozenset(("pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"))


def find(config: ContainerConfig) -> tuple[tuple[Device, ...], tuple[DeviceCgroup, ...]]:
    """What ``--device`` asks for (a directory gives all devices in it); all of the host's /dev for a
    privileged container. Raises ``InvalidArgument`` for a path that is no device."""
    if config.privileged:
        return tuple(_below("/dev", "/dev")), ()
    nodes: list[Device] = []
    rules: list[DeviceCgroup] = []
    for asked in config.devices:
        target = asked.container_path or asked.host_path
        found = _one_or_more(asked.host_path, target)
        nodes += found
        rules += [DeviceCgroup(True, node.type, node.major, node.minor, asked.access) for node in found]
    return tuple(nodes), tuple(rules)


def _one_or_more(path: str, target: str) -> list[Device]:
    problem = f'error gathering device information while adding custom device "{path}"'
    try:
        found = list(_below(path, target)) if os.path.isdir(path) else [_node(path, target)]
    except OSError as error:
        raise InvalidArgument(f"{problem}: {error.strerror}") from error
    nodes = [node for node in found if node]
    if not nodes:
        raise InvalidArgument(f"{problem}: not a device node")
    return nodes


def _below(directory: str, target: str) -> Iterator[Device]:
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name in _NOT_PASSED_ON or entry.is_symlink():
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, f"{target}/{entry.name}")
            elif node := _node(entry.path, f"{target}/{entry.name}"):
                yield node


def _node(path: str, target: str) -> Device | None:
    status = os.stat(path)
    if stat.S_ISCHR(status.st_mode):
        kind = "c"
    elif stat.S_ISBLK(status.st_mode):
        kind = "b"
    else:
        return None
    return Device(
        target,
        kind,
        os.major(status.st_rdev),
        os.minor(status.st_rdev),
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
    )
