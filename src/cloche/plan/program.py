"""Finding a program in the container, and why it does not start."""

from __future__ import annotations

import errno
import os
import stat
import struct

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MACHINES = {
    3: "i386",
    8: "mips",
    21: "ppc64",
    22: "s390",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv",
}
_PT_INTERP = 3


def find(name: str, path: str) -> str:
    """The file that ``name`` means: itself where it has a slash, else the first executable one in ``path``.

    Raises ``OSError`` in the words of Docker's runtimes, which clients parse."""
    if "/" in name:
        _check_executable(name)
        return name
    if name:
        for directory in path.split(":"):
            candidate = f"{directory or '.'}/{name}"
            try:
                found = os.stat(candidate)
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode) and found.st_mode & 0o111:
                return candidate
    raise OSError(errno.ENOENT, f'exec: "{name}": executable file not found in $PATH')


def _check_executable(name: str) -> None:
    try:
        found = os.stat(name)
    except OSError as error:
        text = os.strerror(error.errno or 0).lower()
        raise OSError(error.errno, f'exec: "{name}": stat {name}: {text}') from None
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, f'exec: "{name}": is a directory')
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o111:
        raise OSError(errno.EACCES, f'exec: "{name}": permission denied')


def diagnose(path: str) -> str:
    """Why the kernel may refuse to execute an existing file, or ``""``."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(4096)
    except OSError:
        return ""
    if head[:2] == b"#!":
        return _diagnose_script(path, head)
    if head[:4] == b"\x7fELF":
        return _diagnose_elf(path, head)
    if not head:
        return f"{path} is empty"
    return f"{path} is neither an ELF program nor a script: a script begins with #! and its interpreter"


def _diagnose_script(path: str, head: bytes) -> str:
    line = head[2:].split(b"\n", 1)[0]
    if line.endswith(b"\r"):
        return f"the first line of {path} ends with a carriage return: save the script with Unix line ends"
    words = line.split()
    interpreter = os.fsdecode(words[0]) if words else ""
    if not os.path.exists(interpreter):
        return f"{path} is a script for {interpreter or 'no interpreter'}, which is not in the container"
    return ""


def _diagnose_elf(path: str, head: bytes) -> str:
    if len(head) < 64:
        return f"{path} is a truncated program"
    machine = struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)[0]
    name, ours = _MACHINES.get(machine, f"machine {machine}"), os.uname().machine
    if name != ours and (name, ours) != ("i386", "x86_64"):
        return f"{path} is a program for {name}, this machine is {ours}"
    loader = _loader(head) if head[4] == 2 else ""
    if loader and not os.path.exists(loader):
        return f"{path} needs the loader {loader}, which is not in the container (another C library?)"
    return ""


def _loader(head: bytes) -> str:
    """PT_INTERP of a 64-bit little-endian program, as far as it lies in ``head``."""
    offset, size, count = struct.unpack_from("<32xQ14xHH", head)
    for index in range(count):
        at = offset + index * size
        if at + 56 > len(head):
            break
        kind, begin, length = struct.unpack_from("<I4xQ16xQ", head, at)
        if kind == _PT_INTERP:
            return os.fsdecode(head[begin : begin + length].rstrip(b"\0"))
    return ""
