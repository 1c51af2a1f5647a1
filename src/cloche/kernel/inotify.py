"""inotify(7): be told of changes to files."""

from __future__ import annotations

import os
import struct
from ctypes import c_char_p, c_int, c_uint32
from typing import NamedTuple

from cloche.kernel.syscall import bind, c_string, check

IN_MODIFY = 0x2
IN_MOVED_TO = 0x80
IN_CREATE = 0x100

_EVENT = struct.Struct("=iIII")

_inotify_init1 = bind("inotify_init1", c_int)
_inotify_add_watch = bind("inotify_add_watch", c_int, c_char_p, c_uint32)


class Event(NamedTuple):
    watch: int
    """-1 when events were lost (IN_Q_OVERFLOW)."""
    mask: int
    name: str
    """Of the entry in a watched directory; empty for the watched file itself."""


def open_queue() -> int:
    """A queue of events: non-blocking, closed on exec."""
    return check(_inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")


def add_watch(queue: int, path: str, mask: int) -> int:
    """Watch a file or a directory's entries; the number that its events carry."""
    return check(
        _inotify_add_watch(queue, c_string(path), mask), "inotify_add_watch", queue, path, hex(mask)
    )


def read_events(queue: int) -> list[Event]:
    """The events that are there; empty when there are none."""
    try:
        data = os.read(queue, 1 << 16)
    except BlockingIOError:
        return []
    events = []
    offset = 0
    while offset < len(data):
        watch, mask, _, size = _EVENT.unpack_from(data, offset)
        offset += _EVENT.size
        events.append(Event(watch, mask, os.fsdecode(data[offset : offset + size].rstrip(b"\0"))))
        offset += size
    return events
