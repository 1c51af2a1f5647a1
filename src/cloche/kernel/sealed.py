"""The interpreter as a sealed memfd.

A process forked from the launcher shows the interpreter as /proc/PID/exe to the container that it is about
to become. Whoever could open that for writing would own the host (CVE-2019-5736). A memfd sealed against
writing refuses, so the launcher, once, is started from such a copy; all its children share it for nothing.
"""

from __future__ import annotations

import fcntl
import os

from cloche.kernel.files import memfd_seal


def copy_of(path: str) -> int:
    """A sealed, close-on-exec memfd with the content of ``path``. Raises ``OSError``."""
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        memfd = os.memfd_create("cloche", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            left = os.fstat(source).st_size
            while left:
                left -= os.sendfile(memfd, source, None, left)
            memfd_seal(memfd)
        except BaseException:
            os.close(memfd)
            raise
        return memfd
    finally:
        os.close(source)


def running() -> bool:
    """Whether this process is such a copy."""
    interpreter = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return bool(fcntl.fcntl(interpreter, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE)
    except OSError:  # EINVAL: no memfd
        return False
    finally:
        os.close(interpreter)


def library_directory() -> str:
    """Directory of the shared libpython of this process, empty where the interpreter is one static file.

    An interpreter that finds its library by ``$ORIGIN`` looks beside /proc/self/exe, which for a memfd is
    nowhere: it has to be told."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line[line.find("/") :].rstrip() if "/" in line else ""
            name = path.rpartition("/")[2]
            if name.startswith("libpython") and ".so" in name:
                return path.rpartition("/")[0]
    return ""
