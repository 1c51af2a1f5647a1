"""Which files of this host a command needs: its loader and libraries, its interpreter, the links on the way.

The search for libraries is the loader's own (ld.so(8)): DT_RPATH of the asking file and of those that asked
for it (unless the asking file has DT_RUNPATH), DT_RUNPATH, the directories of /etc/ld.so.conf, the default
ones. $ORIGIN is the directory of the file that says it."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import stat
from typing import NamedTuple

from cloche.errors import InvalidArgument
from cloche.images import elf
from cloche.images.layer_writer import LayerWriter

_DEFAULT = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
_SKIPPED_MODULES = (
    "site-packages",
    "dist-packages",
    "__pycache__",
    "test",
    "idlelib",
    "lib2to3",
    "ensurepip",
)
"""Parts of Python's standard library that a container does not miss."""


class _Program(NamedTuple):
    """A file that is being looked through, and the DT_RPATHs that count for what it needs."""

    path: str
    inherited: tuple[str, ...]


_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Not the daemon's own PATH: who started it must not decide what an image holds, and the wrappers of version
switchers, found there first, run nothing without their home."""


class HostFiles:
    """Collects files; ``write`` puts them into a layer at the paths that they have on the host."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        """Regular files, by paths without links."""
        self._links: dict[str, str] = {}
        self._seen: set[str] = set()
        self._configured = _configured()

    def add_command(self, command: str) -> str:
        """A command by name (looked up in the system's directories) or by absolute path, with all it needs.
        Returns its path. Raises ``InvalidArgument``."""
        path = shutil.which(command, path=None if "/" in command else _SEARCH_PATH)
        if path is None or not os.path.isabs(path):
            raise InvalidArgument(
                f"this host has no command {command!r} (absolute paths and names in {_SEARCH_PATH} count)"
            )
        self._program(_Program(path, ()))
        return path

    def _program(self, program: _Program) -> None:
        real = self._add(program.path)
        if real in self._seen:
            return
        self._seen.add(real)
        try:
            headers = elf.read(real)
        except elf.NotElf:
            self._script(real)
            return
        if headers.interpreter:
            self._program(_Program(headers.interpreter, ()))
        own = _expand(headers.rpath, real) if not headers.runpath else ()
        inherited = own + program.inherited
        for name in headers.needed:
            library = self._library(name, headers, real, () if headers.runpath else inherited)
            self._program(_Program(library, inherited))
        if os.path.basename(real).startswith("python3"):
            self._python(real)

    def _library(self, name: str, headers: elf.Elf, asking: str, rpath: tuple[str, ...]) -> str:
        if "/" in name:
            return name
        directories = [*rpath, *_expand(headers.runpath, asking), *self._configured, *_defaults()]
        for directory in directories:
            path = os.path.join(directory, name)
            try:
                found = elf.read(path)
            except (OSError, elf.NotElf):
                continue
            if (found.bits, found.machine) == (headers.bits, headers.machine):
                return path
        raise InvalidArgument(
            f"{asking} needs the library {name}, which is in none of {', '.join(directories)}"
        )

    def _script(self, path: str) -> None:
        with open(path, "rb") as file:
            line = file.readline(4096)
        if not line.startswith(b"#!"):
            return
        words = line[2:].decode(errors="replace").split()
        if not words:
            return
        self._program(_Program(words[0], ()))
        if os.path.basename(words[0]) == "env" and len(words) > 1:
            named = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
            if named:
                self.add_command(named[0])

    def _python(self, real: str) -> None:
        """The standard library of an interpreter, with the libraries that its extension modules need."""
        version = os.path.basename(real).removeprefix("python")
        prefix = os.path.dirname(os.path.dirname(real))
        for library in (f"{prefix}/lib/python{version}", f"/usr/lib/python{version}"):
            if os.path.isfile(f"{library}/os.py"):
                self._tree(library)
                return

    def _tree(self, top: str) -> None:
        for directory, names, files in os.walk(top):
            names[:] = [name for name in names if name not in _SKIPPED_MODULES]
            for file in files:
                path = os.path.join(directory, file)
                if os.path.isfile(path):
                    if file.endswith(".so"):
                        self._program(_Program(path, ()))
                    else:
                        self._add(path)

    def _add(self, path: str) -> str:
        """Note a file and every symbolic link on the way to it; returns its path without links. Raises
        ``InvalidArgument``."""
        done = ""
        rest = path.split("/")[1:]
        for _ in range(4096):
            if not rest:
                break
            part = rest.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                done = os.path.dirname(done)
                continue
            here = f"{done}/{part}"
            try:
                status = os.lstat(here)
            except OSError as error:
                raise InvalidArgument(f"{path} is needed and cannot be read: {error.strerror}") from None
            if stat.S_ISLNK(status.st_mode):
                target = self._links[here] = os.readlink(here)
                rest = target.split("/") + rest
                done = "" if target.startswith("/") else done
            else:
                done = here
                if stat.S_ISREG(status.st_mode):
                    self._files.add(here)
        return done

    def write(self, layer: LayerWriter) -> None:
        """Links first, then files; parents are made by the writer."""
        for path, target in sorted(self._links.items()):
            layer.symlink(path[1:], target)
        for path in sorted(self._files):
            layer.copy(path[1:], path)


def _expand(paths: tuple[str, ...], file: str) -> tuple[str, ...]:
    origin = os.path.dirname(file)
    return tuple(path.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for path in paths)


def _defaults() -> list[str]:
    """Debian keeps libraries in a directory named for the architecture also where ld.so.conf does not say
    it."""
    triplet = f"{platform.machine()}-linux-gnu"
    return [f"/lib/{triplet}", f"/usr/lib/{triplet}", *_DEFAULT]


def _configured() -> list[str]:
    found: list[str] = []
    _read_configuration("/etc/ld.so.conf", found, 8)
    return found


def _read_configuration(path: str, found: list[str], depth: int) -> None:
    try:
        with open(path) as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        line = line.partition("#")[0].strip()
        if line.startswith("include") and depth:
            for pattern in line.split()[1:]:
                for name in sorted(glob.glob(os.path.join(os.path.dirname(path), pattern))):
                    _read_configuration(name, found, depth - 1)
        elif line.startswith("/"):
            found.append(line)
