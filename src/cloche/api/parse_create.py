"""``POST /containers/create`` to ``ContainerConfig``: the one place where Docker's names become ours."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from cloche.api.structs_create import (
    CreateRequest,
    HostConfigRequest,
    LogConfigRequest,
    MountRequest,
)
from cloche.engine.records import ContainerConfig, Device, LogSettings, Ulimit
from cloche.errors import InvalidArgument, Unsupported

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "Annotations": (),
    "BlkioDeviceReadBps": (),
    "BlkioDeviceReadIOps": (),
    "BlkioDeviceWriteBps": (),
    "BlkioDeviceWriteIOps": (),
    "BlkioWeightDevice": (),
    "Cgroup": (),
    "CpuCount": (),
    "CpuPercent": (),
    "CpuRealtimePeriod": (),
    "CpuRealtimeRuntime": (),
    "DeviceCgroupRules": (),
    "DeviceRequests": (),
    "IOMaximumBandwidth": (),
    "IOMaximumIOps": (),
    "Isolation": ("default",),
    "KernelMemory": (),
    "KernelMemoryTCP": (),
    "Links": (),
    "PortBindings": (),
    "PublishAllPorts": (),
    "Runtime": ("cloche",),
    "StorageOpt": (),
    "UsernsMode": ("host",),
    "VolumeDriver": ("local",),
    "VolumesFrom": (),
}
"""Fields of HostConfig that Cloche does not enforce, with the values that ask for nothing beside the empty
ones. Taking a limit or a mount in silence would be a lie, so anything else is refused by name."""

_ENDPOINT_FIELDS = ("IPAMConfig", "Links", "Aliases", "MacAddress", "DriverOpts")
_LOG_OPTIONS = frozenset({"max-size", "max-file", "compress"})
_DEFAULT_SHM = 64 << 20

_create = msgspec.json.Decoder(CreateRequest)
_host = msgspec.json.Decoder(HostConfigRequest)


def parse(body: bytes) -> ContainerConfig:
    """InvalidArgument for JSON of another shape, for the source of a mount and for a network that do not
    exist (on NotFound the docker command would look for the image), Unsupported for a field that is not
    enforced."""
    if not body.strip():
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    try:
        request = _create.decode(body)
        raw = b"{}" if bytes(request.HostConfig) == b"null" else bytes(request.HostConfig)
        _refuse_unsupported(request, msgspec.json.decode(raw, type=dict[str, Any]))
        host = _host.decode(raw)
    except RecursionError:
        raise InvalidArgument("invalid JSON: it is nested too deeply") from None
    return msgspec.structs.replace(
        _program(request), **_isolation(host), **_limits(host), **_network(request, host)
    )


def _refuse_unsupported(request: CreateRequest, host: dict[str, Any]) -> None:
    for field, harmless in UNSUPPORTED.items():
        value = host.get(field)
        if value and value not in harmless:
            raise Unsupported(
                f"HostConfig.{field}: Cloche does not support this option yet (asked for {value!r}); leave "
                "it out"
            )
    restart = host.get("RestartPolicy") or {}
    if isinstance(restart, dict) and restart.get("Name") not in (None, "", "no"):
        raise Unsupported(
            "HostConfig.RestartPolicy: Cloche does not restart containers yet (asked for "
            f"{restart['Name']!r}); "
            "leave it out or use 'no'"
        )
    if request.Volumes:
        raise Unsupported(
            f"Volumes: Cloche has no volumes yet (asked for {', '.join(request.Volumes)}); "
            "bind a host directory with -v /HOST:/CONTAINER or use --tmpfs"
        )
    if request.MacAddress:
        raise Unsupported("MacAddress: Cloche chooses the MAC address itself; leave it out")
    if request.Healthcheck and (request.Healthcheck.get("Test") or ["NONE"]) != ["NONE"]:
        raise Unsupported("Healthcheck: Cloche does not run health checks yet; leave it out")


def _program(request: CreateRequest) -> ContainerConfig:
    if not request.Image:
        raise InvalidArgument("no image given: set Image to a name or an id")
    entrypoint = _words(request.Entrypoint)
    command = _words(request.Cmd)
    return ContainerConfig(
        image=request.Image,
        # `--entrypoint ""` arrives as [""] and means none at all, also where the image has one.
        entrypoint=() if entrypoint == ("",) else entrypoint,
        command=command or None,
        environment=tuple(request.Env or ()),
        working_dir=request.WorkingDir or "",
        user=request.User or "",
        hostname=request.Hostname or "",
        domainname=request.Domainname or "",
        terminal=bool(request.Tty),
        open_stdin=bool(request.OpenStdin),
        stdin_once=bool(request.StdinOnce),
        attach_stdin=bool(request.AttachStdin),
        attach_stdout=bool(request.AttachStdout),
        attach_stderr=bool(request.AttachStderr),
        labels=request.Labels or {},
        stop_signal=request.StopSignal or "",
        stop_timeout=request.StopTimeout,
        exposed_ports=tuple(request.ExposedPorts or ()),
    )


def _words(value: list[str] | str | None) -> tuple[str, ...] | None:
    """A command as Docker takes it: a list, or one string that is one word. An empty list is as good as
    none."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if value else None


def _isolation(host: HostConfigRequest) -> dict[str, Any]:
    tmpfs = dict(host.Tmpfs or {})
    binds = [_bind(bind) for bind in host.Binds or ()]
    for mount in host.Mounts or ():
        _add_mount(mount, binds, tmpfs)
    return {
        "console_size": host.ConsoleSize or (0, 0),
        "pid_mode": host.PidMode or "",
        "ipc_mode": host.IpcMode or "",
        "uts_mode": host.UTSMode or "",
        "cgroupns_mode": host.CgroupnsMode or "",
        "privileged": bool(host.Privileged),
        "readonly_rootfs": bool(host.ReadonlyRootfs),
        "init": bool(host.Init),
        "auto_remove": bool(host.AutoRemove),
        "cap_add": tuple(host.CapAdd or ()),
        "cap_drop": tuple(host.CapDrop or ()),
        "security_opt": tuple(host.SecurityOpt or ()),
        "masked_paths": None if host.MaskedPaths is None else tuple(host.MaskedPaths),
        "readonly_paths": None if host.ReadonlyPaths is None else tuple(host.ReadonlyPaths),
        "tmpfs": tmpfs,
        "binds": tuple(binds),
        "devices": tuple(
            Device(d.PathOnHost, d.PathInContainer or d.PathOnHost, d.CgroupPermissions or "rwm")
            for d in host.Devices or ()
        ),
        "group_add": tuple(host.GroupAdd or ()),
        "sysctls": host.Sysctls or {},
        "ulimits": tuple(Ulimit(u.Name, u.Soft, u.Hard) for u in host.Ulimits or ()),
        "shm_size": _shm_size(host.ShmSize or 0),
        "oom_score_adj": host.OomScoreAdj or 0,
        "log": _log(host.LogConfig),
    }


def _shm_size(asked: int) -> int:
    if asked < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    return asked or _DEFAULT_SHM


def _bind(bind: str) -> str:
    """``HOST:CONTAINER[:OPTIONS]`` with both absolute."""
    source, _, rest = bind.partition(":")
    if not rest:
        raise Unsupported(
            f"HostConfig.Binds: {bind!r} asks for an anonymous volume; Cloche has no volumes yet"
        )
    if not source.startswith("/"):
        raise Unsupported(
            f"HostConfig.Binds: {bind!r} names the volume {source!r}; Cloche has no volumes yet: "
            "bind a host directory by its absolute path"
        )
    return bind


def _add_mount(mount: MountRequest, binds: list[str], tmpfs: dict[str, str]) -> None:
    """``--mount``: the same two kinds that ``-v`` and ``--tmpfs`` give, spelt differently."""
    if not mount.Target.startswith("/"):
        raise InvalidArgument(f"invalid mount target {mount.Target!r}: it must be an absolute path")
    if mount.Type == "bind":
        if not (mount.Source or "").startswith("/"):
            raise InvalidArgument(
                f"invalid mount source {mount.Source!r}: a bind needs an absolute host path"
            )
        if ":" in f"{mount.Source}{mount.Target}":
            raise Unsupported(
                f"HostConfig.Mounts: Cloche binds no path with a colon yet: {mount.Source} at {mount.Target}"
            )
        # Unlike -v, --mount makes no directory of a misspelt name.
        make = mount.BindOptions and mount.BindOptions.CreateMountpoint
        if not make and not os.path.exists(mount.Source or ""):
            raise InvalidArgument(
                f'invalid mount config for type "bind": bind source path does not exist: {mount.Source}'
            )
        options = ["ro"] if mount.ReadOnly else []
        if mount.BindOptions and mount.BindOptions.Propagation:
            options.append(mount.BindOptions.Propagation)
        binds.append(
            ":".join(part for part in (mount.Source or "", mount.Target, ",".join(options)) if part)
        )
    elif mount.Type == "tmpfs":
        options = ["ro"] if mount.ReadOnly else []
        if mount.TmpfsOptions and mount.TmpfsOptions.SizeBytes:
            options.append(f"size={mount.TmpfsOptions.SizeBytes}")
        if mount.TmpfsOptions and mount.TmpfsOptions.Mode:
            options.append(f"mode={mount.TmpfsOptions.Mode:o}")
        tmpfs[mount.Target] = ",".join(options)
    else:
        raise Unsupported(
            f"HostConfig.Mounts: Cloche mounts 'bind' and 'tmpfs' so far, not {mount.Type!r} (at "
            f"{mount.Target})"
        )


def _log(log: LogConfigRequest | None) -> LogSettings:
    driver = (log and log.Type) or "json-file"
    options = (log and log.Config) or {}
    if driver not in ("json-file", "none"):
        raise Unsupported(f"HostConfig.LogConfig: Cloche logs with 'json-file' or 'none', not {driver!r}")
    for name in options:
        if driver == "none" or name not in _LOG_OPTIONS:
            raise InvalidArgument(f"unknown log opt '{name}' for {driver} log driver")
    return LogSettings(driver, options)


def _limits(host: HostConfigRequest) -> dict[str, Any]:
    swappiness = host.MemorySwappiness
    pids = host.PidsLimit
    return {
        "cgroup_parent": host.CgroupParent or "",
        "memory": host.Memory or 0,
        "memory_reservation": host.MemoryReservation or 0,
        "memory_swap": host.MemorySwap or 0,
        # The docker command sends -1 for "not given".
        "memory_swappiness": None if swappiness == -1 else swappiness,
        "oom_kill_disable": bool(host.OomKillDisable),
        "nano_cpus": host.NanoCpus or 0,
        "cpu_shares": host.CpuShares or 0,
        "cpu_period": host.CpuPeriod or 0,
        "cpu_quota": host.CpuQuota or 0,
        "cpuset_cpus": host.CpusetCpus or "",
        "cpuset_mems": host.CpusetMems or "",
        "pids_limit": pids if pids is not None and pids > 0 else None,
        "blkio_weight": host.BlkioWeight or 0,
    }


def _network(request: CreateRequest, host: HostConfigRequest) -> dict[str, Any]:
    mode = "none" if request.NetworkDisabled else host.NetworkMode or "default"
    if mode not in ("default", "bridge", "none", "host") and not mode.startswith("container:"):
        raise InvalidArgument(f"network {mode} not found: Cloche has bridge, host and none so far")
    endpoints = (request.NetworkingConfig and request.NetworkingConfig.EndpointsConfig) or {}
    for name, settings in endpoints.items():
        if name not in ("default", "bridge", "none", "host"):
            raise InvalidArgument(f"network {name} not found: Cloche has bridge, host and none so far")
        for field in _ENDPOINT_FIELDS:
            if (settings or {}).get(field):
                raise Unsupported(
                    f"NetworkingConfig.EndpointsConfig.{name}.{field}: not supported by Cloche yet"
                )
    return {
        "network_mode": mode,
        "dns": tuple(host.Dns or ()),
        "dns_search": tuple(host.DnsSearch or ()),
        "dns_options": tuple(host.DnsOptions or ()),
        "extra_hosts": tuple(host.ExtraHosts or ()),
    }
