"""From a container's record to the OCI spec that its plan is made from: pure."""

from __future__ import annotations

import msgspec

from cloche.engine import capabilities, mounts, security
from cloche.engine.records import Container, ContainerConfig
from cloche.runtime import defaults
from cloche.runtime.spec import (
    BlockIO,
    Box,
    Capabilities,
    Cpu,
    Device,
    DeviceCgroup,
    Linux,
    Memory,
    Mount,
    Namespace,
    Pids,
    Process,
    Resources,
    Rlimit,
    Root,
    Seccomp,
    Spec,
)

CPU_PERIOD = 100_000
UNLIMITED = (1 << 64) - 1
INIT = "/sbin/docker-init"


class Surroundings(msgspec.Struct, frozen=True):
    """What the spec needs to know of the machine and of other containers, found by the engine beforehand."""

    rootfs: str
    """Where the root file system is mounted, in the container's own mount namespace."""
    files: str
    """Directory with this container's hostname, hosts and resolv.conf."""
    joined: dict[str, str]
    """Namespaces of other containers: type -> /proc/PID/ns/..."""
    devices: tuple[Device, ...]
    """Nodes to be made beside the default ones."""
    device_rules: tuple[DeviceCgroup, ...]
    counts_swap: bool
    init: str
    """The host's static init program, for ``--init``."""
    throttle: tuple[str, ...]
    """Paths of this machine that are masked beside Docker's."""
    rows: int = 0
    columns: int = 0


def specify(container: Container, around: Surroundings, seccomp: Seccomp | None) -> Spec:
    """The whole spec. ``seccomp`` is the resolved profile, ``None`` for unconfined."""
    config = container.config
    uts_own = config.uts_mode != "host" and "uts" not in around.joined
    return Spec(
        oci_version="1.2.0",
        root=Root(around.rootfs, config.readonly_rootfs),
        process=process(container, around),
        mounts=all_mounts(container, around),
        hostname=container.hostname if uts_own else "",
        domainname=config.domainname if uts_own else "",
        linux=linux(container, around, seccomp),
    )


def process(container: Container, around: Surroundings) -> Process:
    config = container.config
    names = capabilities.effective(config.cap_add, config.cap_drop, config.privileged)
    arguments = (*container.entrypoint, *container.command)
    return Process(
        cwd=container.working_dir or "/",
        args=(INIT, "--", *arguments) if config.init else arguments,
        env=environment(container),
        terminal=config.terminal,
        console_size=Box(around.rows, around.columns) if around.rows and config.terminal else None,
        # No inheritable ones (CVE-2022-24769): a file's inheritable capabilities would give them back to any
        # user.
        capabilities=Capabilities(bounding=names, effective=names, permitted=names),
        rlimits=tuple(
            Rlimit(f"RLIMIT_{limit.name.upper()}", _limit(limit.soft), _limit(limit.hard))
            for limit in config.ulimits
        ),
        no_new_privileges=security.parse(config.security_opt).no_new_privileges,
        oom_score_adj=config.oom_score_adj,
    )


def _limit(value: int) -> int:
    return UNLIMITED if value < 0 else value


def environment(container: Container) -> tuple[str, ...]:
    """What Docker gives every program, replaced by what image and user say."""
    given = [f"{defaults.ENVIRONMENT_PATH}", f"HOSTNAME={container.hostname}"]
    if container.config.terminal:
        given.append("TERM=xterm")
    variables = {variable.partition("=")[0]: variable for variable in given}
    for variable in container.environment:
        key, separator, _ = variable.partition("=")
        if separator:
            variables[key] = variable
        else:
            variables.pop(key, None)
    return tuple(variables.values())


# --- mounts ---------------------------------------------------------------------------------------


def all_mounts(container: Container, around: Surroundings) -> tuple[Mount, ...]:
    config = container.config
    given = [mounts.bind(mounts.parse_bind(text)) for text in config.binds]
    given += [mounts.parse_tmpfs(target, options) for target, options in config.tmpfs.items()]
    own_shm = config.ipc_mode not in ("none", "host")
    base = list(defaults.mounts(shm_size=config.shm_size if own_shm else 0, writable=config.privileged))
    for name in ("resolv.conf", "hostname", "hosts"):
        base.append(Mount(f"/etc/{name}", "bind", f"{around.files}/{name}", ("rbind", "rprivate")))
    if config.ipc_mode == "host":
        base.append(Mount("/dev/shm", "bind", "/dev/shm", ("bind", "rprivate")))
    if config.init:
        base.append(Mount(INIT, "bind", around.init, ("bind", "ro", "rprivate")))
    return mounts.merge(tuple(base), tuple(given))


# --- linux ----------------------------------------------------------------------------------------


def linux(container: Container, around: Surroundings, seccomp: Seccomp | None) -> Linux:
    config = container.config
    masked: tuple[str, ...] = (*defaults.MASKED_PATHS, *around.throttle)
    readonly: tuple[str, ...] = defaults.READONLY_PATHS
    if config.masked_paths is not None:
        masked = config.masked_paths
    if config.readonly_paths is not None:
        readonly = config.readonly_paths
    return Linux(
        namespaces=namespaces(config, around.joined),
        devices=around.devices,
        resources=resources(config, around),
        seccomp=seccomp,
        sysctl=config.sysctls,
        masked_paths=() if config.privileged else masked,
        readonly_paths=() if config.privileged else readonly,
        rootfs_propagation=_propagation(config),
    )


def _propagation(config: ContainerConfig) -> str:
    """A bind that wants to see the host's later mounts needs a tree that is not private."""
    wanted = {mounts.parse_bind(text).propagation for text in config.binds}
    if wanted & {"shared", "rshared"}:
        return "rshared"
    return "rslave" if wanted & {"slave", "rslave"} else ""


def namespaces(config: ContainerConfig, joined: dict[str, str]) -> tuple[Namespace, ...]:
    """Docker's default set without what is shared with the host, and with the paths of what is joined."""
    of_host = {
        "network": config.network_mode == "host",
        "pid": config.pid_mode == "host",
        "ipc": config.ipc_mode == "host",
        "uts": config.uts_mode == "host",
        "cgroup": config.cgroupns_mode == "host",
    }
    return tuple(
        Namespace(namespace.type, joined.get(namespace.type, ""))
        for namespace in defaults.NAMESPACES
        if not of_host.get(namespace.type)
    )


def resources(config: ContainerConfig, around: Surroundings) -> Resources:
    """The limits, as asked for. Memory without a word on swap gets as much swap again, as Docker gives
    it."""
    rules = defaults.ALL_DEVICES_RULES if config.privileged else defaults.DEVICE_RULES
    swap = config.memory_swap
    if config.memory and not swap and around.counts_swap:
        swap = 2 * config.memory
    weight = config.blkio_weight
    return Resources(
        devices=rules if config.privileged else (*rules, *around.device_rules),
        memory=Memory(
            limit=config.memory or None,
            reservation=config.memory_reservation or None,
            swap=swap or None,
            swappiness=None if config.memory_swappiness == -1 else config.memory_swappiness,
            disable_oom_killer=config.oom_kill_disable or None,
        ),
        cpu=_cpu(config),
        pids=Pids(config.pids_limit) if config.pids_limit and config.pids_limit > 0 else None,
        block_io=BlockIO(weight=weight) if weight else None,
    )


def _cpu(config: ContainerConfig) -> Cpu:
    period, quota = config.cpu_period, config.cpu_quota
    if config.nano_cpus:
        period = CPU_PERIOD
        quota = config.nano_cpus * CPU_PERIOD // 1_000_000_000
    return Cpu(
        shares=config.cpu_shares or None,
        quota=quota or None,
        period=period or None,
        cpus=config.cpuset_cpus,
        mems=config.cpuset_mems,
    )
