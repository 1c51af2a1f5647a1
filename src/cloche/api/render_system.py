"""The daemon and its machine in Docker's JSON."""

from __future__ import annotations

import os
import platform
import time

from cloche import __version__
from cloche.api import structs_system as s
from cloche.api import versions
from cloche.api.times import rfc3339
from cloche.engine.records import EngineInfo, Event

# Docker spells architectures as Go does in `version` and as uname does in `info`.
_GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def version() -> s.Version:
    """``GET /version``."""
    machine = os.uname()
    arch = _GO_ARCH.get(machine.machine, machine.machine)
    current, minimum = versions.text(versions.CURRENT), versions.text(versions.MINIMUM)
    details = {
        "ApiVersion": current,
        "Arch": arch,
        "Experimental": "false",
        "KernelVersion": machine.release,
        "MinAPIVersion": minimum,
        "Os": "linux",
        "PythonVersion": platform.python_version(),
    }
    return s.Version(
        Platform=s.Platform("Cloche"),
        Components=(s.Component("Engine", __version__, details),),
        Version=__version__,
        ApiVersion=current,
        MinAPIVersion=minimum,
        Os="linux",
        Arch=arch,
        KernelVersion=machine.release,
    )


def info(engine: EngineInfo, labels: tuple[str, ...], debug: bool, listeners: int) -> s.Info:
    """``GET /info``."""
    machine = os.uname()
    release = _os_release()
    return s.Info(
        ID=engine.id,
        Containers=engine.containers,
        ContainersRunning=engine.running,
        ContainersStopped=engine.stopped,
        Images=engine.images,
        Driver=engine.driver,
        DriverStatus=engine.driver_status,
        MemoryLimit=engine.memory_limit,
        SwapLimit=engine.swap_limit,
        CpuCfsPeriod=engine.cpu_quota,
        CpuCfsQuota=engine.cpu_quota,
        CPUShares=engine.cpu_shares,
        CPUSet=engine.cpuset,
        PidsLimit=engine.pids_limit,
        OomKillDisable=engine.cgroup_version == 1 and engine.memory_limit,
        IPv4Forwarding=engine.ipv4_forwarding,
        Debug=debug,
        NFd=len(os.listdir("/proc/self/fd")),
        NGoroutines=0,
        NEventsListener=listeners,
        SystemTime=rfc3339(time.time_ns()),
        CgroupDriver=engine.cgroup_driver,
        CgroupVersion=str(engine.cgroup_version),
        KernelVersion=machine.release,
        OperatingSystem=release.get("PRETTY_NAME", "Linux"),
        OSVersion=release.get("VERSION_ID", ""),
        Architecture=machine.machine,
        NCPU=len(os.sched_getaffinity(0)),
        MemTotal=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        DockerRootDir=engine.root,
        Name=machine.nodename,
        Labels=labels,
        ServerVersion=__version__,
        Runtimes={"cloche": s.Runtime("cloche-runtime")},
        SecurityOptions=engine.security_options,
        Warnings=engine.warnings,
    )


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def event(e: Event) -> s.Event:
    """One line of ``GET /events``."""
    old = e.kind in ("container", "image")
    return s.Event(
        status=e.action if old else "",
        id=e.actor_id if old else "",
        from_=e.attributes.get("image", "") if e.kind == "container" else "",
        Type=e.kind,
        Action=e.action,
        Actor=s.Actor(e.actor_id, e.attributes),
        scope="local",
        time=e.at // 1_000_000_000,
        timeNano=e.at,
    )
