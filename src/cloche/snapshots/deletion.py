"""Deleting what containers have made, however deep.

Any program can nest directories deeper than a path is long, than a stack, and than a process may have
descriptors. So nothing here walks down: a directory's own directories are moved up into the trash, and are
deleted there like it."""

from __future__ import annotations

import os
import uuid


def delete(trash: str, name: str) -> None:
    """Delete ``name``, a file or directory in the directory ``trash``. Follows no link. What cannot be
    deleted (an immutable file) stays."""
    top = os.open(trash, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        waiting = [name]
        while waiting:
            waiting += _delete_level(top, waiting.pop())
    finally:
        os.close(top)


def _delete_level(top: int, name: str) -> list[str]:
    """Delete one directory but for what its own directories hold; returns their new names in ``top``."""
    kind = name.partition("-")[0]
    moved = []
    try:
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    except NotADirectoryError:
        os.unlink(name, dir_fd=top)
        return []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.name, dir_fd=directory)
                    elif not _is_removed(directory, entry.name):
                        fresh = f"{kind}-{uuid.uuid4().hex}"
                        os.rename(entry.name, fresh, src_dir_fd=directory, dst_dir_fd=top)
                        moved.append(fresh)
                except OSError:
                    continue
    finally:
        os.close(directory)
    _is_removed(top, name)
    return moved


def _is_removed(directory: int, name: str) -> bool:
    """Remove an empty directory; false where it is not empty."""
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError:
        return False
    return True
