"""What the daemon and a container's monitor say to each other.

``SOCK_SEQPACKET``, one msgpack value per packet, descriptors beside it. The daemon that launched the
container holds one end of a socket pair; any later daemon connects to ``MonitorConfig.socket_path``. On each
new connection the monitor first sends its ``Status``. Several daemons at once are allowed: each gets every
message."""

from __future__ import annotations

import msgspec

from cloche.plan.step import StepFailure, Trace


class LogConfig(msgspec.Struct, frozen=True):
    """Where output goes. ``driver`` is ``json-file`` or ``none``."""

    driver: str
    path: str
    """The live file; rotated ones are ``path.1.gz`` (newest) and up; ``path.1`` while it is being
    compressed."""
    max_size: int
    """Bytes at which the file is rotated."""
    max_file: int
    """Files kept, the live one included."""
    compress: bool


class Attachment(msgspec.Struct, frozen=True):
    """A client connection handed to the monitor: from then on the daemon is not in the data path.

    Without a terminal, output is framed as Docker frames it (8-byte head: stream, 3 zero bytes, big-endian
    length)."""

    stdin: bool
    stdout: bool
    stderr: bool
    prefix: bytes
    """Bytes of stdin that the daemon had already read from the connection."""
    detach_keys: bytes
    """The key sequence that detaches (only with a terminal); empty for none. Docker's default is ``10
    11``."""
    framed: bool


class OomWatch(msgspec.Struct, frozen=True):
    """How to learn of OOM kills. v1: ``memory.oom_control`` (eventfd through ``cgroup.event_control``);
    v2: ``memory.events``. Empty path: no watch."""

    version: int
    path: str


class MonitorConfig(msgspec.Struct, frozen=True):
    """All that a monitor needs beside the plan."""

    id: str
    socket_path: str
    """Listens here until the container's end was told or the daemon says ``Release``."""
    exit_path: str
    """The exit record: msgspec JSON of ``ExitRecord``, written with write, fsync, rename before anyone is
    told."""
    terminal: bool
    rows: int
    columns: int
    open_stdin: bool
    """Without it the program's stdin is /dev/null."""
    stdin_once: bool
    """Close the program's stdin when the first client that attached to it goes."""
    log: LogConfig
    oom: OomWatch
    cgroup_paths: tuple[str, ...]
    """The container's cgroup directories: removed after its last process is gone."""
    attach: tuple[Attachment, ...]
    """Clients that attached before the start; their descriptors come with the launch."""
    start_limit: int
    """Seconds after which a start that hangs is killed, with all that it has forked."""


# --- monitor to daemon -------------------------------------------------------------------------------


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The program's exec succeeded."""

    pid: int
    """Of the container's init, in the host's pid namespace."""
    start_time: int
    """Field 22 of /proc/PID/stat: (pid, start_time) never means another process."""
    started_at: int
    """Nanoseconds since the epoch."""
    trace: Trace


class StartFailed(msgspec.Struct, frozen=True, tag="start-failed"):
    """A step failed; everything was undone. ``exit_code`` is 127 (not found), 126 (not executable) or
    128."""

    failure: StepFailure
    exit_code: int


class OutOfMemory(msgspec.Struct, frozen=True, tag="oom"):
    """The kernel killed something of the container for memory."""

    at: int


class Detached(msgspec.Struct, frozen=True, tag="detached"):
    """A client left by its detach keys."""


class ExitRecord(msgspec.Struct, frozen=True, tag="exited"):
    """The container's end. ``code`` is 128+n for death by signal n."""

    code: int
    oom_killed: bool
    started_at: int
    finished_at: int


class Status(msgspec.Struct, frozen=True, tag="status"):
    """Greeting on a new connection: what happened so far."""

    monitor_pid: int
    started: Started | None
    exited: ExitRecord | None
    oom: bool


FromMonitor = Status | Started | StartFailed | OutOfMemory | Detached | ExitRecord

# --- daemon to monitor -------------------------------------------------------------------------------


class Attach(msgspec.Struct, frozen=True, tag="attach"):
    """One descriptor: the client's connection."""

    attachment: Attachment


class Resize(msgspec.Struct, frozen=True, tag="resize"):
    rows: int
    columns: int


class Signal(msgspec.Struct, frozen=True, tag="signal"):
    """Send to init. The monitor is its parent, so the pid cannot have been recycled."""

    number: int


class Release(msgspec.Struct, frozen=True, tag="release"):
    """The daemon has stored the exit; the monitor may go. Without it a monitor of an ended container stays
    only as long as a daemon is connected or output is still being delivered; the exit record on disk is the
    truth."""


ToMonitor = Attach | Resize | Signal | Release
