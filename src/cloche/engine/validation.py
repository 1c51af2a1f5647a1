"""What is wrong with a request to create a container, found before anything is made."""

from __future__ import annotations

import os
import re

import msgspec

from cloche.cgroups.contract import Layout
from cloche.engine import capabilities, mounts, security, signals
from cloche.engine.records import Container, ContainerConfig, LogSettings
from cloche.errors import InvalidArgument, Unsupported
from cloche.network import files

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?")
_SYSCTL = re.compile(r"\w[\w@%:*+./-]*\w")
"""Of ``net``, an interface may be a part of it."""
_ULIMITS = frozenset(
    (
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    )
)
MINIMUM_MEMORY = 6 << 20


def check_name(name: str) -> None:
    """Docker's rule for names of containers. Raises ``InvalidArgument``."""
    if not NAME.fullmatch(name):
        raise InvalidArgument(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")


def check(config: ContainerConfig, layout: Layout) -> list[str]:
    """Raises ``InvalidArgument`` or ``Unsupported`` for the first thing that is wrong; returns warnings."""
    _check_process(config)
    _check_modes(config)
    _check_isolation(config)
    _check_network(config)
    _check_cgroup_parent(config.cgroup_parent)
    warnings = [*_check_memory(config, layout), *_check_cpu(config)]
    parse_log(config.log)
    if config.privileged and config.readonly_paths:
        warnings.append("read-only paths are ignored for a privileged container")
    return warnings


def check_strings(container: Container) -> None:
    """The kernel's strings end at a null byte: what comes behind it would be lost. Raises
    ``InvalidArgument``."""
    for record in (container.config, container):
        for field in record.__struct_fields__:
            _check_strings(field.replace("_", " "), getattr(record, field))


def _check_strings(what: str, value: object) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidArgument(f"invalid {what}: {value!r} has a null byte")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_strings(what, key)
            _check_strings(what, item)
    elif isinstance(value, tuple):
        for item in value:
            _check_strings(what, item)
    elif isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            _check_strings(what, getattr(value, field))


def _check_process(config: ContainerConfig) -> None:
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    if config.stop_signal:
        signals.number(config.stop_signal)
    if config.hostname and (len(config.hostname) > 63 or not _HOSTNAME.fullmatch(config.hostname)):
        raise InvalidArgument(f"invalid hostname format: {config.hostname}")
    if len(config.domainname) > 64 or any(c.isspace() for c in config.domainname):
        raise InvalidArgument(f"invalid domainname format: {config.domainname!r}")
    for variable in config.environment:
        if variable.startswith("=") or not variable:
            raise InvalidArgument(f"invalid environment variable: {variable!r}")
    for limit in config.ulimits:
        if limit.name not in _ULIMITS:
            raise InvalidArgument(f"invalid ulimit type: {limit.name}")
        if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
            raise InvalidArgument(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )


def _check_modes(config: ContainerConfig) -> None:
    if config.restart_policy not in ("", "no"):
        if config.auto_remove:
            raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
        raise Unsupported(f"restart policy {config.restart_policy}: restart policies are not built yet")
    if config.published_ports:
        raise Unsupported(f"publish {', '.join(config.published_ports)}: published ports are not built yet")
    network = config.network_mode
    if network.startswith("container:") and (config.hostname or config.domainname):
        raise InvalidArgument("conflicting options: hostname and the network mode")
    if config.uts_mode == "host" and (config.hostname or config.domainname):
        raise InvalidArgument("conflicting options: hostname and the UTS mode")
    if network not in ("", "default", "bridge", "none", "host") and not network.startswith("container:"):
        raise Unsupported(
            f"network {network}: user-defined networks are not built yet; "
            "there are bridge, host, none and container:ID"
        )
    for option, value, allowed in (
        ("pid", config.pid_mode, ("", "host")),
        ("ipc", config.ipc_mode, ("", "none", "private", "shareable", "host")),
        ("uts", config.uts_mode, ("", "host")),
        ("cgroupns", config.cgroupns_mode, ("", "private", "host")),
    ):
        joins = option in ("pid", "ipc") and value.startswith("container:") and value != "container:"
        if joins and option == "ipc":
            raise Unsupported(
                f"ipc mode {value}: sharing another container's IPC namespace is not built yet"
            )
        if value not in allowed and not joins:
            raise InvalidArgument(f"invalid {option} mode: {value}")


def _check_isolation(config: ContainerConfig) -> None:
    capabilities.effective(config.cap_add, config.cap_drop, False)
    security.parse(config.security_opt)
    targets = set()
    for text in config.binds:
        target = mounts.parse_bind(text).target
        if target in targets:
            raise InvalidArgument(f"Duplicate mount point: {target}")
        targets.add(target)
    for target, options in config.tmpfs.items():
        if mounts.parse_tmpfs(target, options).destination in targets:
            raise InvalidArgument(f"Duplicate mount point: {target}")
    if config.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    if not -1000 <= config.oom_score_adj <= 1000:
        raise InvalidArgument(
            f"Invalid value {config.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    for device in config.devices:
        if not device.access or not set(device.access) <= set("rwm"):
            raise InvalidArgument(f"invalid device mode: {device.access}")
        if not os.path.exists(device.host_path):
            raise InvalidArgument(
                f'error gathering device information while adding custom device "{device.host_path}": '
                "no such file or directory"
            )
    _check_sysctls(config)


def _check_network(config: ContainerConfig) -> None:
    """What goes into /etc/hosts and /etc/resolv.conf."""
    has_gateway = config.network_mode in ("", "default", "bridge", "host")
    files.extra_hosts(config.extra_hosts, "127.0.0.1" if has_gateway else "")
    files.resolv_conf("", config.dns, config.dns_search, config.dns_options)


def _check_cgroup_parent(parent: str) -> None:
    for part in parent.split("/"):
        if part in (".", "..") or not part.isprintable() or len(part.encode()) > 255:
            raise InvalidArgument(
                f"invalid cgroup parent {parent!r}: it is a path below the root of the cgroups, such as "
                "/mine/this"
            )


def _check_sysctls(config: ContainerConfig) -> None:
    """Only what belongs to a namespace of the container's own: the others would change the host."""
    for name in config.sysctls:
        if not _SYSCTL.fullmatch(name) or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise InvalidArgument(f"sysctl '{name}' is not a name such as net.core.somaxconn")
        path = name.replace("/", ".")
        ipc = path.startswith("fs.mqueue.") or re.fullmatch(r"kernel\.(msg|sem|shm)\w*", path)
        if path.startswith("net."):
            if config.network_mode == "host":
                raise InvalidArgument(f"sysctl '{name}' not allowed in host network namespace")
        elif ipc:
            if config.ipc_mode == "host":
                raise InvalidArgument(f"sysctl '{name}' not allowed in host ipc namespace")
        elif path != "kernel.domainname" or config.uts_mode == "host":
            raise InvalidArgument(f"sysctl '{name}' is not allowed: it does not belong to a namespace")


def _check_memory(config: ContainerConfig, layout: Layout) -> list[str]:
    memory, swap, reservation = config.memory, config.memory_swap, config.memory_reservation
    if memory and memory < MINIMUM_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if reservation and reservation < MINIMUM_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if memory and reservation > memory:
        raise InvalidArgument(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    if swap > 0 and not memory:
        raise InvalidArgument(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if 0 < swap < memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    swappiness = config.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidArgument(f"invalid value: {swappiness}, valid memory swappiness range is 0-100")
    if swap > 0 and not counts_swap(layout):
        raise InvalidArgument("memory-swap: this kernel does not count swap (boot with swapaccount=1)")
    if config.oom_kill_disable and not memory:
        return [
            "OOM killer is disabled for the container, but no memory limit is set: it can use up the host's"
        ]
    return []


def counts_swap(layout: Layout) -> bool:
    """Whether memory plus swap can be limited here."""
    return "memory.memsw.limit_in_bytes" in layout.files or "memory.swap.max" in layout.files


def _check_cpu(config: ContainerConfig) -> list[str]:
    count = os.cpu_count() or 1
    if config.nano_cpus:
        if config.cpu_period or config.cpu_quota:
            other = "CPU Period" if config.cpu_period else "CPU Quota"
            raise InvalidArgument(f"Conflicting options: Nano CPUs and {other} cannot both be set")
        if not 10_000_000 <= config.nano_cpus <= count * 1_000_000_000:
            raise InvalidArgument(
                f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
            )
    if config.cpu_period and not 1000 <= config.cpu_period <= 1_000_000:
        raise InvalidArgument(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < config.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if config.cpu_shares < 0:
        raise InvalidArgument(f"invalid CPU shares ({config.cpu_shares}): value must be a positive integer")
    _check_set("cpus", config.cpuset_cpus, "/sys/devices/system/cpu/online")
    _check_set("mems", config.cpuset_mems, "/sys/devices/system/node/online")
    if config.blkio_weight and not 10 <= config.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    return []


def _check_set(kind: str, text: str, online: str) -> None:
    if not text:
        return
    wanted = _numbers(text)
    if wanted is None:
        raise InvalidArgument(f"Invalid value {text} for cpuset {kind}")
    try:
        with open(online) as file:
            there = file.read().strip()
    except OSError:
        there = "0"
    if not wanted <= (_numbers(there) or set()):
        what = "CPUs" if kind == "cpus" else "memory nodes"
        raise InvalidArgument(f"Requested {what} are not available - requested {text}, available: {there}")


def _numbers(text: str) -> set[int] | None:
    """``0-2,5`` to its numbers; None where it is not such a list."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            return None
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers


# --- logs -----------------------------------------------------------------------------------------


class LogLimits(msgspec.Struct, frozen=True):
    max_size: int = 64 << 20
    """Bytes; -1 is without end."""
    max_file: int = 4
    compress: bool = True


def parse_log(log: LogSettings) -> LogLimits:
    """Docker's options of the json-file driver. Bounded where nothing is said. Raises
    ``InvalidArgument``."""
    if log.driver not in ("json-file", "none"):
        raise InvalidArgument(
            f'logger: no log driver named "{log.driver}" is registered; there are json-file and none'
        )
    limits = LogLimits()
    for key, value in log.options.items():
        if key == "max-size":
            limits = msgspec.structs.replace(limits, max_size=_size(value))
        elif key == "max-file":
            if not value.isdigit() or int(value) < 1:
                raise InvalidArgument(f"max-file cannot be less than 1: {value}")
            limits = msgspec.structs.replace(limits, max_file=int(value))
        elif key == "compress":
            if value not in ("true", "false", "1", "0"):
                raise InvalidArgument(f"log-opt compress: {value!r} is neither true nor false")
            limits = msgspec.structs.replace(limits, compress=value in ("true", "1"))
        else:
            raise InvalidArgument(f"unknown log opt '{key}' for {log.driver} log driver")
    return limits


def _size(text: str) -> int:
    if text == "-1":
        return -1
    match = re.fullmatch(r"(\d+)([bkmg]?)b?", text.lower())
    if not match or not int(match[1]):
        raise InvalidArgument(f"log-opt max-size: invalid size: '{text}'")
    return int(match[1]) << {"": 0, "b": 0, "k": 10, "m": 20, "g": 30}[match[2]]
