"""What users mount into a container: binds and tmpfs, from Docker's syntax to the OCI spec's."""

from __future__ import annotations

import posixpath
import re

import msgspec

from cloche.errors import InvalidArgument, Unsupported
from cloche.runtime.spec import Mount

PROPAGATIONS = frozenset(("private", "rprivate", "slave", "rslave", "shared", "rshared"))
_READONLY = frozenset(("ro", "readonly"))
# SELinux labels, and hints for file sharing with a virtual machine: accepted, of no effect here.
_KINDS = (
    PROPAGATIONS,
    _READONLY | {"rw"},
    frozenset(("z", "Z")),
    frozenset(("nocopy",)),
    frozenset(("consistent", "cached", "delegated")),
    frozenset(("bind-nonrecursive",)),
)
"""Options of a bind: of each kind one at most."""
_TMPFS_FLAGS = frozenset(
    (
        "async",
        "atime",
        "bind",
        "rbind",
        "defaults",
        "dev",
        "nodev",
        "diratime",
        "nodiratime",
        "dirsync",
        "exec",
        "noexec",
        "lazytime",
        "nolazytime",
        "loud",
        "mand",
        "nomand",
        "noatime",
        "norelatime",
        "nostrictatime",
        "private",
        "rprivate",
        "rw",
        "ro",
        "relatime",
        "remount",
        "rshared",
        "rslave",
        "shared",
        "silent",
        "slave",
        "strictatime",
        "suid",
        "nosuid",
        "sync",
        "unbindable",
        "runbindable",
    )
)
_TMPFS_DATA = frozenset(("mode", "uid", "gid", "nr_inodes", "nr_blocks", "size", "mpol", "huge"))


class BindMount(msgspec.Struct, frozen=True):
    """``HOST:CONTAINER[:OPTIONS]``, taken apart."""

    source: str
    target: str
    readonly: bool
    recursive: bool
    propagation: str


def parse_bind(text: str) -> BindMount:
    """Raises ``InvalidArgument`` for bad syntax, ``Unsupported`` for a named volume."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise InvalidArgument(f"invalid volume specification: '{text}'")
    source, target = parts[0], parts[1]
    if not target.startswith("/"):
        raise InvalidArgument(f"invalid volume specification: '{text}': mount path must be absolute")
    if posixpath.normpath(target) == "/":
        raise InvalidArgument(f"invalid volume specification: '{text}': destination can't be '/'")
    if not source.startswith("/"):
        raise Unsupported(
            f"{text}: named volumes are not built yet; bind a directory of the host: /PATH:{target}"
        )
    options = parts[2].split(",") if len(parts) == 3 else []
    kinds = [kind for option in options for kind in _KINDS if option in kind]
    if len(kinds) < len(options) or len(set(kinds)) < len(kinds):
        raise InvalidArgument(f"invalid mode: {parts[2]}")
    return BindMount(
        source=posixpath.normpath(source),
        target=posixpath.normpath(target),
        readonly=not _READONLY.isdisjoint(options),
        recursive="bind-nonrecursive" not in options,
        propagation=next((option for option in options if option in PROPAGATIONS), "rprivate"),
    )


def bind(mount: BindMount) -> Mount:
    """The bind as the spec writes it."""
    options = ["rbind" if mount.recursive else "bind", mount.propagation]
    if mount.readonly:
        options.append("ro")
    return Mount(mount.target, "bind", mount.source, tuple(options))


def parse_tmpfs(target: str, text: str) -> Mount:
    """``--tmpfs TARGET:OPTIONS``; noexec, nosuid and nodev unless told otherwise. Raises
    ``InvalidArgument``."""
    if not target.startswith("/") or posixpath.normpath(target) == "/":
        raise InvalidArgument(f"invalid tmpfs target {target!r}: it must be an absolute path below /")
    options = ["noexec", "nosuid", "nodev"]
    for option in filter(None, text.split(",")):
        key, separator, value = option.partition("=")
        if separator:
            _check_data(option, key, value)
        elif option not in _TMPFS_FLAGS:
            raise InvalidArgument(f"invalid tmpfs option [{msgspec.json.encode(option).decode()}]")
        opposite = option.removeprefix("no") if option.startswith("no") else "no" + option
        options = [kept for kept in options if kept not in (opposite, option)]
        if option != "defaults":
            options.append(option)
    return Mount(posixpath.normpath(target), "tmpfs", "tmpfs", tuple(options))


def _check_data(option: str, key: str, value: str) -> None:
    if key not in _TMPFS_DATA:
        raise InvalidArgument(f"invalid tmpfs option [{msgspec.json.encode(option).decode()}]")
    pattern = {"size": r"\d+[kKmMgG%]?", "mode": "[0-7]{1,4}"}.get(key, r"\d+[kKmMgG]?")
    if key not in ("mpol", "huge") and not re.fullmatch(pattern, value):
        raise InvalidArgument(f"invalid tmpfs option [{msgspec.json.encode(option).decode()}]")


def merge(defaults: tuple[Mount, ...], given: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """All mounts in the order of their depth, so that none hides another; what is given replaces a
    default at its place."""
    targets = {mount.destination for mount in given}
    kept = [mount for mount in defaults if mount.destination not in targets]
    return tuple(sorted([*kept, *given], key=lambda mount: mount.destination.rstrip("/").count("/")))
