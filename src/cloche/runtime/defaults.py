"""Docker's defaults for a container, as data: what ``docker run IMAGE`` gives without any other option."""

from __future__ import annotations

import os

from cloche.kernel import capabilities
from cloche.runtime.spec import DeviceCgroup, Mount, Namespace

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

ALL_CAPABILITIES = capabilities.NAMES
"""What ``--privileged`` and ``--cap-add ALL`` ask for; the kernel's own bounding set has the last word."""

NAMESPACES = tuple(Namespace(kind) for kind in ("mount", "uts", "ipc", "pid", "network", "cgroup"))

ENVIRONMENT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

DEVICE_RULES = (
    DeviceCgroup(allow=False, access="rwm"),
    # A node may be made for any device, which is harmless where it cannot be opened.
    DeviceCgroup(allow=True, type="c", access="m"),
    DeviceCgroup(allow=True, type="b", access="m"),
    DeviceCgroup(allow=True, type="c", major=1, minor=3, access="rwm"),  # null
    DeviceCgroup(allow=True, type="c", major=1, minor=5, access="rwm"),  # zero
    DeviceCgroup(allow=True, type="c", major=1, minor=7, access="rwm"),  # full
    DeviceCgroup(allow=True, type="c", major=1, minor=8, access="rwm"),  # random
    DeviceCgroup(allow=True, type="c", major=1, minor=9, access="rwm"),  # urandom
    DeviceCgroup(allow=True, type="c", major=5, minor=0, access="rwm"),  # tty
    DeviceCgroup(allow=True, type="c", major=5, minor=1, access="rwm"),  # console
    DeviceCgroup(allow=True, type="c", major=5, minor=2, access="rwm"),  # ptmx
    DeviceCgroup(allow=True, type="c", major=136, access="rwm"),  # pts/*
)

ALL_DEVICES_RULES = (DeviceCgroup(allow=True, access="rwm"),)
"""``--privileged``."""

SHM_SIZE = 64 << 20


def mounts(*, shm_size: int = SHM_SIZE, writable: bool = False) -> tuple[Mount, ...]:
    """The mounts of every container, in order. ``writable`` is ``--privileged``: /sys and cgroups are
    writable. A ``shm_size`` of 0 leaves /dev/shm out, for an IPC namespace whose /dev/shm is bound from
    elsewhere."""
    access = () if writable else ("ro",)
    system = ("nosuid", "noexec", "nodev")
    shm = Mount("/dev/shm", "tmpfs", "shm", (*system, "mode=1777", f"size={shm_size}"))
    return (
        Mount("/proc", "proc", "proc", system),
        Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        Mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        ),
        Mount("/sys", "sysfs", "sysfs", (*system, *access)),
        Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*system, *access)),
        Mount("/dev/mqueue", "mqueue", "mqueue", system),
        *((shm,) if shm_size else ()),
    )


def throttle_paths(cpus: str = "/sys/devices/system/cpu") -> tuple[str, ...]:
    """The ``thermal_throttle`` directories of this machine, which Docker masks as well: a side channel."""
    names = sorted(name for name in os.listdir(cpus) if name.startswith("cpu") and name[3:].isdigit())
    paths = (f"{cpus}/{name}/thermal_throttle" for name in names)
    return tuple(path for path in paths if os.path.exists(path))
