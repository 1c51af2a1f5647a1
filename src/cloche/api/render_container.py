"""``Container`` to Docker's JSON: ``inspect`` and ``ps``."""

from __future__ import annotations

import os.path
import time

import msgspec

from cloche.api import structs_container as s
from cloche.api.render_network import endpoint_id, endpoints
from cloche.api.times import human_duration, rfc3339
from cloche.engine.records import Container, ContainerConfig, EngineInfo

_DEFAULT_STOP_SIGNAL = "SIGTERM"


def inspect(container: Container, info: EngineInfo, size: tuple[int, int] | None) -> s.Inspect:
    """``GET /containers/{id}/json``; ``size`` is (writable layer, whole root file system) in bytes."""
    home = os.path.join(info.root, "containers", container.id)
    argv = container.entrypoint + container.command
    return s.Inspect(
        Id=container.id,
        Created=rfc3339(container.created_at),
        Path=argv[0] if argv else "",
        Args=argv[1:],
        State=_state(container),
        Image=container.image_id,
        ResolvConfPath=os.path.join(home, "resolv.conf"),
        HostnamePath=os.path.join(home, "hostname"),
        HostsPath=os.path.join(home, "hosts"),
        LogPath=os.path.join(home, f"{container.id}-json.log")
        if container.config.log.driver != "none"
        else "",
        Name=f"/{container.name}",
        Driver=container.driver,
        HostConfig=_host_config(container.config),
        GraphDriver=s.GraphDriver(container.driver, {"ID": container.id}),
        SizeRw=size[0] if size else msgspec.UNSET,
        SizeRootFs=size[1] if size else msgspec.UNSET,
        Mounts=_mounts(container.config),
        Config=_config(container),
        NetworkSettings=_network_settings(container, info.id),
    )


def _state(container: Container) -> s.State:
    state = container.state
    return s.State(
        Status=state.status,
        Running=state.status == "running",
        Paused=False,
        Restarting=False,
        OOMKilled=state.oom_killed,
        Dead=state.status == "dead",
        Pid=state.pid if state.status == "running" else 0,
        ExitCode=state.exit_code,
        Error=state.error,
        StartedAt=rfc3339(state.started_at),
        FinishedAt=rfc3339(state.finished_at),
    )


def _config(container: Container) -> s.Config:
    asked = container.config
    return s.Config(
        Hostname=container.hostname,
        Domainname=asked.domainname,
        User=container.user,
        AttachStdin=asked.attach_stdin,
        AttachStdout=asked.attach_stdout,
        AttachStderr=asked.attach_stderr,
        ExposedPorts={port: {} for port in asked.exposed_ports} or msgspec.UNSET,
        Tty=asked.terminal,
        OpenStdin=asked.open_stdin,
        StdinOnce=asked.stdin_once,
        Env=container.environment,
        Cmd=container.command or None,
        Image=asked.image,
        WorkingDir=container.working_dir,
        Entrypoint=container.entrypoint or None,
        Labels=container.labels,
        StopSignal=container.stop_signal
        if container.stop_signal not in ("", _DEFAULT_STOP_SIGNAL)
        else msgspec.UNSET,
        StopTimeout=msgspec.UNSET if asked.stop_timeout is None else asked.stop_timeout,
    )


def _host_config(c: ContainerConfig) -> s.HostConfig:
    return s.HostConfig(
        Binds=c.binds or None,
        LogConfig=s.LogConfig(c.log.driver, c.log.options),
        NetworkMode="bridge" if c.network_mode == "default" else c.network_mode,
        RestartPolicy=s.RestartPolicy(c.restart_policy),
        AutoRemove=c.auto_remove,
        ConsoleSize=c.console_size,
        CapAdd=c.cap_add or None,
        CapDrop=c.cap_drop or None,
        CgroupnsMode=c.cgroupns_mode or ("host" if c.privileged else "private"),
        Dns=c.dns,
        DnsOptions=c.dns_options,
        DnsSearch=c.dns_search,
        ExtraHosts=c.extra_hosts or None,
        GroupAdd=c.group_add or None,
        IpcMode=c.ipc_mode or "private",
        OomScoreAdj=c.oom_score_adj,
        PidMode=c.pid_mode,
        Privileged=c.privileged,
        ReadonlyRootfs=c.readonly_rootfs,
        SecurityOpt=c.security_opt or None,
        Tmpfs=c.tmpfs or msgspec.UNSET,
        UTSMode=c.uts_mode,
        ShmSize=c.shm_size,
        Sysctls=c.sysctls or msgspec.UNSET,
        CpuShares=c.cpu_shares,
        Memory=c.memory,
        NanoCpus=c.nano_cpus,
        CgroupParent=c.cgroup_parent,
        BlkioWeight=c.blkio_weight,
        CpuPeriod=c.cpu_period,
        CpuQuota=c.cpu_quota,
        CpusetCpus=c.cpuset_cpus,
        CpusetMems=c.cpuset_mems,
        Devices=tuple(s.Device(d.host_path, d.container_path, d.access) for d in c.devices),
        MemoryReservation=c.memory_reservation,
        MemorySwap=c.memory_swap,
        MemorySwappiness=c.memory_swappiness,
        OomKillDisable=c.oom_kill_disable,
        Init=True if c.init else msgspec.UNSET,
        PidsLimit=c.pids_limit,
        Ulimits=tuple(s.Ulimit(u.name, u.hard, u.soft) for u in c.ulimits),
        MaskedPaths=c.masked_paths,
        ReadonlyPaths=c.readonly_paths,
    )


def _mounts(config: ContainerConfig) -> tuple[s.MountPoint, ...]:
    points = []
    for bind in config.binds:
        source, _, rest = bind.partition(":")
        target, _, mode = rest.partition(":")
        options = mode.split(",")
        propagation = next(
            (o for o in options if o.lstrip("r") in ("shared", "slave", "private")), "rprivate"
        )
        points.append(s.MountPoint("bind", source, target, mode, "ro" not in options, propagation))
    return tuple(points)


def _network_settings(container: Container, engine_id: str) -> s.NetworkSettings:
    networks = endpoints(container, engine_id)
    running = container.state.status == "running"
    at = container.endpoint if running else None
    return s.NetworkSettings(
        SandboxID=container.id if running else "",
        SandboxKey=f"/proc/{container.state.pid}/ns/net" if running else "",
        Ports=dict.fromkeys(container.config.exposed_ports) if running else {},
        EndpointID=endpoint_id(container) if at else "",
        Gateway=at.gateway if at else "",
        IPAddress=at.address if at else "",
        IPPrefixLen=at.prefix if at else 0,
        MacAddress=at.mac if at else "",
        Networks=networks,
    )


def summary(
    container: Container, engine_id: str, image: str, size: tuple[int, int] | None, now: int
) -> s.Summary:
    """A row of ``GET /containers/json``. ``image`` is the name to show, ``now`` nanoseconds since the
    epoch."""
    return s.Summary(
        Id=container.id,
        Names=(f"/{container.name}",),
        Image=image,
        ImageID=container.image_id,
        Command=" ".join(f"'{a}'" if " " in a else a for a in container.entrypoint + container.command),
        Created=container.created_at // 1_000_000_000,
        SizeRw=size[0] if size else msgspec.UNSET,
        SizeRootFs=size[1] if size else msgspec.UNSET,
        Labels=container.labels,
        State=container.state.status,
        Status=status(container, now),
        HostConfig=s.SummaryHostConfig(
            "bridge" if container.config.network_mode == "default" else container.config.network_mode
        ),
        NetworkSettings=s.SummaryNetworks(endpoints(container, engine_id)),
        Mounts=_mounts(container.config),
    )


def status(container: Container, now: int | None = None) -> str:
    """``Up 5 minutes``, ``Exited (0) 3 hours ago``: people and scripts match on this text."""
    state = container.state
    at = time.time_ns() if now is None else now
    if state.status == "running":
        return f"Up {human_duration(at - state.started_at)}"
    if state.status == "exited":
        return f"Exited ({state.exit_code}) {human_duration(at - state.finished_at)} ago"
    return {"created": "Created", "removing": "Removal In Progress", "dead": "Dead"}.get(
        state.status, state.status
    )


def image_name(container: Container, current: str | None) -> str:
    """What ``ps`` shows as the image: the name it was made from while that still means the same image, else
    the id. ``current`` is the id that the name has now."""
    return container.config.image if current == container.image_id else container.image_id
