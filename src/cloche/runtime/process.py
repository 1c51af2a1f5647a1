"""Planning of the program itself: names, limits, identity, privileges, exec."""

from __future__ import annotations

from cloche.errors import InvalidArgument
from cloche.kernel import capabilities
from cloche.plan.step import Step
from cloche.plan.steps.privileges import (
    ChangeDirectory,
    Exec,
    LoadSeccomp,
    NoNewPrivileges,
    ResolveUser,
    SetCapabilities,
    SetIds,
)
from cloche.plan.steps.process import (
    JoinSessionKeyring,
    OpenTerminal,
    SetDomainname,
    SetHostname,
    SetRlimit,
    WriteSysctl,
)
from cloche.runtime.seccomp import Filter
from cloche.runtime.spec import Capabilities, Process, Spec

_UNLIMITED = (1 << 64) - 1
_NO_ID = (1 << 32) - 1
"""To the kernel: leave it as it is."""

_RLIMITS = frozenset(
    f"RLIMIT_{name}"
    for name in (
        "AS",
        "CORE",
        "CPU",
        "DATA",
        "FSIZE",
        "LOCKS",
        "MEMLOCK",
        "MSGQUEUE",
        "NICE",
        "NOFILE",
        "NPROC",
        "RSS",
        "RTPRIO",
        "RTTIME",
        "SIGPENDING",
        "STACK",
    )
)

_IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


def check(spec: Spec, namespaces: dict[str, str]) -> None:
    """What contradicts itself. Raises ``InvalidArgument``."""
    process = spec.process
    if not process.args:
        raise InvalidArgument("process.args: no command was given, and the image has none")
    if not process.cwd.startswith("/"):
        raise InvalidArgument(f"process.cwd: {process.cwd!r} is not an absolute path")
    for entry in process.env:
        if "=" not in entry or "\0" in entry:
            raise InvalidArgument(f"process.env: {entry!r} is not NAME=VALUE")
    if any("\0" in word for word in process.args):
        raise InvalidArgument("process.args: an argument contains a NUL byte")
    for name in ("hostname", "domainname"):
        if getattr(spec, name) and "uts" not in namespaces:
            raise InvalidArgument(f"{name}: it would change the host's, since there is no uts namespace")
    for key in spec.linux.sysctl:
        _check_sysctl(key, namespaces)
    user = process.user
    if not all(0 <= number < _NO_ID for number in (user.uid, user.gid, *user.additional_gids)):
        raise InvalidArgument(f"process.user: {user} has a number that is no id: ids are 0 to {_NO_ID - 1}")
    _check_privileges(process)
    if process.oom_score_adj is not None and not -1000 <= process.oom_score_adj <= 1000:
        raise InvalidArgument(f"process.oomScoreAdj: {process.oom_score_adj} is not between -1000 and 1000")


def names(spec: Spec) -> list[Step]:
    steps: list[Step] = []
    if spec.hostname:
        steps.append(SetHostname(spec.hostname))
    if spec.domainname:
        steps.append(SetDomainname(spec.domainname))
    return steps


def terminal(spec: Spec) -> list[Step]:
    if not spec.process.terminal:
        return []
    size = spec.process.console_size
    return [OpenTerminal(size.height, size.width) if size else OpenTerminal()]


def sysctls(spec: Spec) -> list[Step]:
    return [
        WriteSysctl(key if "/" in key else key.replace(".", "/"), value)
        for key, value in spec.linux.sysctl.items()
    ]


def identity(
    spec: Spec, container: str, user: str | None, groups: tuple[str, ...], seccomp: Filter | None
) -> list[Step]:
    """Everything from the limits to the exec, in the order that the privileges for it allow."""
    process = spec.process
    steps: list[Step] = [_rlimit(limit.type, limit.soft, limit.hard) for limit in process.rlimits]
    steps.append(JoinSessionKeyring(f"_ses.{container}"))
    if user is None:
        numbers = process.user
        ids = SetIds(numbers.uid, numbers.gid, numbers.additional_gids)
    else:
        steps.append(ResolveUser(user, groups))
        ids = SetIds()
    steps.append(ChangeDirectory(process.cwd))
    load: list[Step] = []
    if seccomp is not None:
        load.append(LoadSeccomp(seccomp.program, seccomp.digest, seccomp.rules, seccomp.flags))
    if not process.no_new_privileges:
        steps += load
    steps.append(ids)
    sets = process.capabilities or Capabilities()
    steps.append(
        SetCapabilities(sets.bounding, sets.effective, sets.permitted, sets.inheritable, sets.ambient)
    )
    if process.no_new_privileges:
        steps += [NoNewPrivileges(), *load]
    steps.append(Exec(process.args, process.env))
    return steps


def _rlimit(name: str, soft: int, hard: int) -> SetRlimit:
    return SetRlimit(name, -1 if soft >= _UNLIMITED else soft, -1 if hard >= _UNLIMITED else hard)


def _check_privileges(process: Process) -> None:
    seen = set()
    for limit in process.rlimits:
        if limit.type not in _RLIMITS:
            raise InvalidArgument(f"process.rlimits: {limit.type!r} is no limit that Linux has")
        if limit.type in seen:
            raise InvalidArgument(f"process.rlimits: {limit.type} is there twice")
        seen.add(limit.type)
        soft, hard = (_UNLIMITED if value < 0 else value for value in (limit.soft, limit.hard))
        if soft > hard:
            raise InvalidArgument(
                f"process.rlimits: {limit.type}: soft {limit.soft} is above hard {limit.hard}"
            )
    if process.capabilities is not None:
        sets = process.capabilities
        for name in (*sets.bounding, *sets.effective, *sets.permitted, *sets.inheritable, *sets.ambient):
            if name not in capabilities.NAMES:
                raise InvalidArgument(f"process.capabilities: {name!r} is no capability that Linux has")


def _check_sysctl(key: str, namespaces: dict[str, str]) -> None:
    """Only what belongs to a namespace of the container may be set: all else is the host's."""
    if ".." in key or key.startswith("/"):
        raise InvalidArgument(f"linux.sysctl: {key!r} is no name of a sysctl")
    dotted = key.replace("/", ".")
    if dotted.startswith("net."):
        kind = "network"
    elif dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
        kind = "ipc"
    elif dotted == "kernel.domainname":
        kind = "uts"
    else:
        raise InvalidArgument(f"linux.sysctl: {key} belongs to no namespace: it would change the host")
    if kind not in namespaces:
        raise InvalidArgument(
            f"linux.sysctl: {key} would change the host's {kind} namespace, which is in use"
        )
