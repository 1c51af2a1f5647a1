"""What the daemon and the launcher say to each other.

One ``SOCK_SEQPACKET`` socket; each packet is one msgpack value, descriptors travel beside it (SCM_RIGHTS). A
request carries as its first descriptor one end of a socket pair: the forked process (monitor or job) answers
there, and its end of file is the end of that process. The launcher itself never answers, so it never waits
and is never waited for. A packet larger than the socket takes travels as a sealed memfd, which is then the
last descriptor."""

from __future__ import annotations

import msgspec

from cloche.monitor.protocol import MonitorConfig


class Launch(msgspec.Struct, frozen=True, tag="launch"):
    """Fork a monitor for one container, which runs the plan.

    Descriptors: the monitor's control socket, then one for each entry of ``attach`` (client connections).
    """

    monitor: MonitorConfig
    host: msgspec.Raw
    """``cloche.plan.codec`` msgpack of the host part; decoded in the starter, so that the launcher stays
    small."""
    container: msgspec.Raw
    """The container part; decoded in init, whose memory goes at exec."""


class RunPlan(msgspec.Struct, frozen=True, tag="plan"):
    """Fork a job that runs host steps only (a bridge, a table). Answers ``JobDone`` or ``JobFailed``."""

    host: msgspec.Raw


class Unpack(msgspec.Struct, frozen=True, tag="unpack"):
    """Fork a job that unpacks one layer into ``target``, rooted there. Answers ``LayerUnpacked`` or
    ``JobFailed``.

    Descriptors: the answer socket, then the layer's stream (a file; any compression, told by its magic).
    """

    target: str
    """An existing empty directory; it becomes the layer's ``diff`` directory. Whiteouts are overlay's: 0:0
    character devices and opaque xattrs."""


class Warm(msgspec.Struct, frozen=True, tag="warm"):
    """A start is near: get the kernel's cgroup attach past its grace period (the first attach after quiet
    waits about 12 ms for RCU, the next ones do not). Fire and forget; no descriptor."""


Request = Launch | RunPlan | Unpack | Warm


class JobDone(msgspec.Struct, frozen=True, tag="done"):
    pass


class LayerUnpacked(msgspec.Struct, frozen=True, tag="unpacked"):
    diff_id: str
    """``sha256:...`` of the uncompressed tar."""
    size: int
    """Bytes of file content unpacked."""
    files: int
    root: bool = False
    """Whether the layer says what its root directory itself is like."""


class JobFailed(msgspec.Struct, frozen=True, tag="failed"):
    message: str
    errno: int
    invalid: bool
    """True where the input is at fault (a broken or hostile archive), false where the machine is."""


JobAnswer = JobDone | LayerUnpacked | JobFailed
