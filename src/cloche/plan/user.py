"""Docker's USER string, looked up in a container's own /etc/passwd and /etc/group (passwd(5), group(5))."""

from __future__ import annotations

import errno
from typing import NamedTuple

_LAST = 2**31 - 1


class User(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary."""
    home: str


def look_up(user: str, more_groups: tuple[str, ...], passwd: bytes, group: bytes) -> User:
    """Who ``USER[:GROUP]`` is. A number needs no entry; a name does. A group that is named takes the place
    of the supplementary groups that the files give. Raises ``OSError`` (EINVAL) in Docker's words where
    there is none."""
    name, _, group_name = user.partition(":")
    uid, gid, home, login = _user(name, _records(passwd, 7))
    entries = _records(group, 4)
    groups: tuple[int, ...] = ()
    if group_name:
        gid = _group(group_name, entries)
    elif login:
        members = (entry for entry in entries if login in entry[3].split(","))
        groups = tuple(_id(entry[2]) for entry in members if _is_number(entry[2]))
    # The primary group is among them: a setgid program could win it back otherwise (CVE-2022-36109).
    groups = (gid, *groups, *(_group(one, entries) for one in more_groups))
    return User(uid, gid, tuple(dict.fromkeys(groups)), home or "/")


def _user(name: str, entries: list[list[str]]) -> tuple[int, int, str, str]:
    name = name or "0"
    for entry in entries:
        if _is(entry, name) and _is_number(entry[3]):
            return _id(entry[2]), _id(entry[3]), entry[5], entry[0]
    if _is_number(name):
        return _id(name), 0, "/", ""
    raise OSError(errno.EINVAL, f"unable to find user {name}: no matching entries in passwd file")


def _group(name: str, entries: list[list[str]]) -> int:
    for entry in entries:
        if _is(entry, name):
            return _id(entry[2])
    if _is_number(name):
        return _id(name)
    raise OSError(errno.EINVAL, f"unable to find group {name}: no matching entries in group file")


def _is(entry: list[str], name: str) -> bool:
    """A number is an id and never a name: an image's user called 1000 may be root (CVE-2016-3697)."""
    if not _is_number(entry[2]):
        return False
    return int(entry[2]) == int(name) if _is_number(name) else entry[0] == name


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _id(text: str) -> int:
    if not 0 <= int(text) <= _LAST:
        raise OSError(errno.EINVAL, f"uids and gids must be in range 0-{_LAST}: {text}")
    return int(text)


def _records(data: bytes, fields: int) -> list[list[str]]:
    """The lines that have enough fields; short ones are filled, as a hand-made file may lack the last."""
    lines = data.decode(errors="surrogateescape").split("\n")
    records = (line.strip().split(":") for line in lines if line and line[0] != "#")
    return [record + [""] * (fields - len(record)) for record in records if len(record) >= 3]
