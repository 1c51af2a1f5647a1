"""Listening sockets. Imports little: they are bound before the daemon loads anything big, so that clients
can queue."""

from __future__ import annotations

import grp
import os
import socket
import stat

from cloche.errors import InvalidArgument, Unavailable

_MAX_PATH = 107
"""Bytes of ``sun_path`` without its NUL, see unix(7)."""


def bind(path: str) -> socket.socket:
    """A listening unix socket for root and the group ``docker``. A socket that nobody listens on any more is
    replaced.

    Raises InvalidArgument for a path that is too long or taken by something else, Unavailable where another
    daemon answers on it."""
    if len(os.fsencode(path)) > _MAX_PATH:
        raise InvalidArgument(
            f"cannot listen on unix://{path}: a socket's path has at most {_MAX_PATH} bytes"
        )
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise InvalidArgument(f"cannot listen on unix://{path}: {error.strerror or error}") from None
    finally:
        os.umask(mask)
    try:
        os.chown(path, 0, grp.getgrnam("docker").gr_gid)
        os.chmod(path, 0o660)
    except (KeyError, PermissionError):
        pass
    listener.listen(1024)
    return listener


def _clear(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise InvalidArgument(f"cannot listen on unix://{path}: something that is no socket is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            os.unlink(path)
            return
        except OSError:
            pass
    raise Unavailable(
        f"cannot listen on unix://{path}: another daemon answers there; stop it or choose another -H"
    )
