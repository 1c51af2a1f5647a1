"""Packets of the ``SOCK_SEQPACKET`` sockets between daemon, launcher and monitors: one msgpack value,
descriptors beside it.

A value larger than a socket surely takes travels in a sealed memfd, which is then the last descriptor, and
the packet itself is msgpack's nil."""

from __future__ import annotations

import _socket
import os
import struct
from collections.abc import Sequence

from cloche.kernel.files import memfd_seal

PACKET_LIMIT = 128 << 10
"""Bytes. The kernel's default send buffer is 208 KiB, of which its own bookkeeping takes a part."""
SCM_MAX_FD = 253
"""Descriptors that the kernel passes with one packet."""

_BODY_IN_MEMFD = b"\xc0"
_ANCILLARY_SPACE = _socket.CMSG_SPACE(4 * SCM_MAX_FD)


class Truncated(Exception):
    """A packet or its descriptors did not arrive whole."""


def send(socket: _socket.socket, message: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send one packet. Raises ``BlockingIOError`` on a full non-blocking socket, ``OSError`` when the peer
    is gone."""
    if len(message) <= PACKET_LIMIT:
        _send(socket, message, descriptors)
        return
    memfd = os.memfd_create("cloche-message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(message)
        while view:
            view = view[os.write(memfd, view) :]
        memfd_seal(memfd)
        _send(socket, _BODY_IN_MEMFD, [*descriptors, memfd])
    finally:
        os.close(memfd)


def _send(socket: _socket.socket, message: bytes, descriptors: Sequence[int]) -> None:
    ancillary = []
    if descriptors:
        packed = struct.pack(f"{len(descriptors)}i", *descriptors)
        ancillary.append((_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed))
    socket.sendmsg([message], ancillary, _socket.MSG_NOSIGNAL)


def receive(socket: _socket.socket) -> tuple[bytes, list[int]] | None:
    """Next packet and its descriptors (close-on-exec), ``None`` at the end of the connection.

    Raises ``BlockingIOError`` where nothing is there, ``Truncated`` for a packet that came in part."""
    message, ancillary, flags, _ = socket.recvmsg(PACKET_LIMIT, _ANCILLARY_SPACE, _socket.MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            descriptors.extend(struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4]))
    if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
        close(descriptors)
        raise Truncated(f"a packet of more than {PACKET_LIMIT} bytes or {SCM_MAX_FD} descriptors arrived")
    if not message:
        close(descriptors)
        return None
    if message == _BODY_IN_MEMFD and descriptors:
        message = _read_memfd(descriptors.pop())
    return message, descriptors


def _read_memfd(memfd: int) -> bytes:
    try:
        size = os.fstat(memfd).st_size
        message = os.pread(memfd, size, 0)
        if len(message) != size:
            raise Truncated(f"{len(message)} of {size} bytes of a large message could be read")
        return message
    finally:
        os.close(memfd)


def close(descriptors: Sequence[int]) -> None:
    """Close them all."""
    for descriptor in descriptors:
        os.close(descriptor)
