"""The end of a container: its code, its record on disk, its cgroups."""

from __future__ import annotations

import errno
import os
import time

import msgspec

from cloche.monitor.protocol import ExitRecord

KILLED = 128
"""Added to the number of the signal that ended the program, as shells do."""
_REMOVAL_PATIENCE = 5.0
"""Seconds to try to remove a cgroup whose dying processes still hold it."""


def exit_code(status: int) -> int:
    """The code that users see, of a wait status."""
    if os.WIFSIGNALED(status):
        return KILLED + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)


def write_record(path: str, record: ExitRecord) -> None:
    """Durable when this returns: the old file or the new one, whatever happens to the machine. Raises
    ``OSError``."""
    temporary = path + ".tmp"
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, msgspec.json.encode(record))
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(temporary, path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def kill_rest(directories: tuple[str, ...]) -> None:
    """Kill what is left in the container's cgroups: without a pid namespace of its own nobody else does."""
    for directory in directories:
        for pid in _processes(directory):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass


def remove_cgroups(directories: tuple[str, ...]) -> None:
    """Remove them, and those that the container made below them. One that cannot be removed is left: the
    daemon's next start sweeps."""
    deadline = time.monotonic() + _REMOVAL_PATIENCE
    for directory in directories:
        while not _remove(directory) and time.monotonic() < deadline:
            kill_rest((directory,))
            time.sleep(0.01)


def _remove(directory: str) -> bool:
    try:
        os.rmdir(directory)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            return True
    for name in _children(directory):
        _remove(f"{directory}/{name}")
    return False


def _children(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _processes(directory: str) -> list[int]:
    pids: list[int] = []
    for name in _children(directory):
        pids += _processes(f"{directory}/{name}")
    try:
        with open(f"{directory}/cgroup.procs", "rb") as file:
            pids += [int(line) for line in file.read().split()]
    except OSError:
        pass
    # 0 is a process of another pid namespace.
    return [pid for pid in pids if pid > 0]
