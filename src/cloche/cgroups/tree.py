"""What v1 and v2 share: paths, and verbs on a directory tree of cgroups."""

from __future__ import annotations

import os
import time

from cloche.errors import InvalidArgument

_REMOVAL_SECONDS = 2.0


def chain(mountpoint: str, parent: str, name: str) -> tuple[str, ...]:
    """``/NAME/ID`` below a mount as directories to make, parents first. Raises ``InvalidArgument`` for a
    path that leaves the hierarchy or names its root."""
    parts = [part for part in f"{parent}/{name}".split("/") if part and part != "."]
    if not parts or ".." in parts:
        raise InvalidArgument(
            f"cgroup path {parent!r} with {name!r}: it may not be the root and not contain '..'"
        )
    return tuple(f"{mountpoint}/{'/'.join(parts[: end + 1])}" for end in range(len(parts)))


def processes(directory: str) -> list[int]:
    """Process ids in this cgroup and all below it; none where it does not exist."""
    found = []
    for path, _, _ in os.walk(directory):
        try:
            found += [int(line) for line in read(f"{path}/cgroup.procs").split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    # 0 is a process of another pid namespace, and to kill(2) the caller's own group.
    return [process for process in found if process > 0]


def remove(leaves: tuple[str, ...]) -> None:
    """rmdir each cgroup and what its processes made below it. A killed process keeps its cgroup busy
    until it is reaped, so EBUSY is retried, for two seconds in all. Raises ``OSError`` (EBUSY) after
    that."""
    deadline = time.monotonic() + _REMOVAL_SECONDS
    for leaf in leaves:
        pause = 0.0005
        while True:
            try:
                _remove_tree(leaf)
                break
            except FileNotFoundError:
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, 0.05)


def read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def write(path: str, value: str) -> None:
    """One write(2): the kernel takes a value whole or not at all."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode("ascii"))
    finally:
        os.close(descriptor)


def _remove_tree(leaf: str) -> None:
    """The leaf alone first: most have nothing below them."""
    try:
        os.rmdir(leaf)
        return
    except FileNotFoundError:
        return
    except OSError:
        pass
    for path, _, _ in os.walk(leaf, topdown=False):
        os.rmdir(path)
