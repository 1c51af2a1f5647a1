"""Options of ``run`` and ``create``, and the API's body that they stand for."""

from __future__ import annotations

import os

from cloche.cli import terminal
from cloche.cli.errors import CommandError, UsageError
from cloche.cli.units import size_in_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloche.cli.arguments import Arguments

OPTIONS = """\
      --add-host HOST:IP...        Add a line to /etc/hosts
  -a, --attach STREAM...           Attach to stdin, stdout or stderr
      --blkio-weight WEIGHT        Block I/O weight, 10 to 1000
      --cap-add CAPABILITY...      Add a capability
      --cap-drop CAPABILITY...     Drop a capability
      --cgroup-parent PATH         Parent cgroup
      --cgroupns MODE              Cgroup namespace: host or private
      --cidfile FILE               Write the container's id to a file
      --cpu-period MICROSECONDS    CPU quota's period
      --cpu-quota MICROSECONDS     CPU time in each period
  -c, --cpu-shares SHARES          CPU weight
      --cpus NUMBER                Number of CPUs
      --cpuset-cpus LIST           CPUs to run on (0-3, 0,1)
      --cpuset-mems LIST           Memory nodes to use (0-3, 0,1)
      --device DEVICE...           Add a device: HOST[:CONTAINER[:rwm]]
      --dns ADDRESS...             Name servers
      --dns-option OPTION...       Resolver's options
      --dns-search DOMAIN...       Search domains
      --domainname NAME            NIS domain name
      --entrypoint COMMAND         Instead of the image's entry point
  -e, --env VARIABLE...            Set NAME=VALUE, or pass NAME on
      --env-file FILE...           Read variables from a file
      --expose PORT...             Expose a port
      --group-add GROUP...         Add supplementary groups
  -h, --hostname NAME              Host name
      --init                       Run an init inside that forwards signals and reaps processes
  -i, --interactive                Keep stdin open
      --ipc MODE                   IPC namespace: private, host, none
  -l, --label LABEL...             Set a label: NAME=VALUE
      --label-file FILE...         Read labels from a file
      --log-driver DRIVER          Log driver: json-file or none
      --log-opt OPTION...          Log driver's options: NAME=VALUE
  -m, --memory SIZE                Memory limit
      --memory-reservation SIZE    Soft memory limit
      --memory-swap SIZE           Memory and swap together; -1 is unlimited
      --memory-swappiness PERCENT  Swappiness, 0 to 100
      --name NAME                  Name of the container
      --network NETWORK            Network: bridge, host, none
      --net NETWORK                The same
      --oom-kill-disable           Do not kill for memory
      --oom-score-adj NUMBER       Score for the out-of-memory killer, -1000 to 1000
      --pid MODE                   PID namespace: host
      --pids-limit NUMBER          Number of processes; -1 is unlimited
      --privileged                 All capabilities and devices, and no confinement
      --read-only                  Root file system read-only
      --rm                         Remove the container when it ends
      --security-opt OPTION...     no-new-privileges, seccomp=unconfined or seccomp=FILE
      --shm-size SIZE              Size of /dev/shm
      --stop-signal SIGNAL         Signal that stops the container
      --stop-timeout SECONDS       Seconds to wait before it is killed
      --sysctl SETTING...          Kernel parameter: NAME=VALUE
      --tmpfs PATH...              Mount a tmpfs: PATH[:OPTIONS]
  -t, --tty                        Give it a terminal
      --ulimit LIMIT...            Resource limit: NAME=SOFT[:HARD]
  -u, --user USER                  Name or uid, [:group or gid]
      --uts MODE                   UTS namespace: host
  -v, --volume BIND...             Mount a host directory: HOST:CONTAINER[:ro]
  -w, --workdir PATH               Working directory
"""


def body(arguments: Arguments, *, attached: bool) -> dict[str, Any]:
    """``POST /containers/create``'s body. Raises ``UsageError`` for a value that cannot be meant."""
    image, *command = arguments.operands
    streams = [stream.lower() for stream in arguments.attach]
    if any(stream not in ("stdin", "stdout", "stderr") for stream in streams):
        raise UsageError("--attach takes stdin, stdout or stderr")
    every = attached and not streams
    interactive = arguments.interactive
    config = {
        "Image": image,
        "Hostname": arguments.hostname,
        "Domainname": arguments.domainname,
        "User": arguments.user,
        "WorkingDir": arguments.workdir,
        "Tty": arguments.tty,
        "OpenStdin": interactive,
        "StdinOnce": interactive and attached,
        "AttachStdin": interactive and (every or "stdin" in streams),
        "AttachStdout": every or "stdout" in streams,
        "AttachStderr": every or "stderr" in streams,
        "Env": _environment(arguments),
        "Cmd": command or None,
        "Entrypoint": None if arguments.entrypoint is None else [arguments.entrypoint],
        "Labels": _pairs(_lines(arguments.label_file) + arguments.label, "--label"),
        "ExposedPorts": {_port(port): {} for port in arguments.expose},
        "StopSignal": arguments.stop_signal,
        "StopTimeout": _integer(arguments.stop_timeout, "--stop-timeout"),
        "HostConfig": _host_config(arguments),
    }
    return _without_empty(config)


def _host_config(arguments: Arguments) -> dict[str, Any]:
    rows, columns = terminal.size() if arguments.tty else (0, 0)
    logging = {"Type": arguments.log_driver or "", "Config": _pairs(arguments.log_opt, "--log-opt")}
    config = {
        "NetworkMode": arguments.network or arguments.net,
        "PidMode": arguments.pid,
        "IpcMode": arguments.ipc,
        "UTSMode": arguments.uts,
        "CgroupnsMode": arguments.cgroupns,
        "CgroupParent": arguments.cgroup_parent,
        "AutoRemove": arguments.rm,
        "Init": arguments.init or None,
        "Privileged": arguments.privileged,
        "ReadonlyRootfs": arguments.read_only,
        "CapAdd": arguments.cap_add,
        "CapDrop": arguments.cap_drop,
        "SecurityOpt": [_security_option(option) for option in arguments.security_opt],
        "Tmpfs": dict(_split(item, ":") for item in arguments.tmpfs),
        "Binds": [_bind(bind) for bind in arguments.volume],
        "Devices": [_device(device) for device in arguments.device],
        "GroupAdd": arguments.group_add,
        "Sysctls": _pairs(arguments.sysctl, "--sysctl"),
        "Ulimits": [_ulimit(limit) for limit in arguments.ulimit],
        "Dns": arguments.dns,
        "DnsOptions": arguments.dns_option,
        "DnsSearch": arguments.dns_search,
        "ExtraHosts": arguments.add_host,
        "LogConfig": logging if logging["Type"] or logging["Config"] else None,
        "ConsoleSize": [rows, columns] if rows else None,
    }
    return _without_empty(config | _limits(arguments))


def _limits(arguments: Arguments) -> dict[str, Any]:
    return {
        "Memory": _size(arguments.memory, "--memory"),
        "MemoryReservation": _size(arguments.memory_reservation, "--memory-reservation"),
        "MemorySwap": _size(arguments.memory_swap, "--memory-swap"),
        "MemorySwappiness": _integer(arguments.memory_swappiness, "--memory-swappiness"),
        "OomKillDisable": arguments.oom_kill_disable or None,
        "OomScoreAdj": _integer(arguments.oom_score_adj, "--oom-score-adj"),
        "NanoCpus": _cpus(arguments.cpus),
        "CpuShares": _integer(arguments.cpu_shares, "--cpu-shares"),
        "CpuPeriod": _integer(arguments.cpu_period, "--cpu-period"),
        "CpuQuota": _integer(arguments.cpu_quota, "--cpu-quota"),
        "CpusetCpus": arguments.cpuset_cpus,
        "CpusetMems": arguments.cpuset_mems,
        "PidsLimit": _integer(arguments.pids_limit, "--pids-limit"),
        "BlkioWeight": _integer(arguments.blkio_weight, "--blkio-weight"),
        "ShmSize": _size(arguments.shm_size, "--shm-size"),
    }


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    """What was not asked for is left out, so that the daemon's defaults hold; a zero was asked for."""
    return {name: value for name, value in fields.items() if value or (value == 0 and value is not False)}


def _integer(text: str | None, option: str) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        raise UsageError(f"invalid argument {text!r} for {option}: a whole number is wanted") from None


def _size(text: str | None, option: str) -> int | None:
    return None if text is None else size_in_bytes(text, option)


def _cpus(text: str | None) -> int | None:
    try:
        return None if text is None else round(float(text) * 1e9)
    except ValueError:
        raise UsageError(f"invalid argument {text!r} for --cpus: a number such as 1.5 is wanted") from None


def _split(text: str, separator: str) -> tuple[str, str]:
    head, _, tail = text.partition(separator)
    return head, tail


def _pairs(items: list[str], option: str) -> dict[str, str]:
    if any(item.startswith("=") for item in items):
        raise UsageError(f"{option} wants NAME=VALUE")
    return dict(_split(item, "=") for item in items)


def _port(text: str) -> str:
    return text if "/" in text else f"{text}/tcp"


def _lines(files: list[str]) -> list[str]:
    """Lines of files, without blank ones and comments."""
    lines: list[str] = []
    for name in files:
        try:
            with open(name, encoding="utf-8") as file:
                lines += [
                    line.strip() for line in file if line.strip() and not line.lstrip().startswith("#")
                ]
        except OSError as error:
            raise CommandError(f"open {name}: {error.strerror}", 125) from None
        except UnicodeDecodeError:
            raise CommandError(f"{name} is not a text in UTF-8", 125) from None
    return lines


def _environment(arguments: Arguments) -> list[str]:
    """A bare NAME takes its value from our own environment, and is left out where we have none."""
    items = _lines(arguments.env_file) + arguments.env
    if any(not item or item.startswith("=") for item in items):
        raise UsageError("--env wants NAME=VALUE or NAME")
    return [
        item if "=" in item else f"{item}={os.environ[item]}"
        for item in items
        if "=" in item or item in os.environ
    ]


def _bind(text: str) -> str:
    """The API wants absolute paths; the command takes ``./here`` too."""
    source, target = _split(text, ":")
    return f"{os.path.abspath(source)}:{target}" if source.startswith((".", "/")) else text


def _device(text: str) -> dict[str, str]:
    host, *rest = text.split(":")
    access = "rwm"
    if rest and rest[-1] and not set(rest[-1]) - set("rwm"):
        access = rest.pop()
    return {
        "PathOnHost": host,
        "PathInContainer": rest[0] if rest else host,
        "CgroupPermissions": access,
    }


def _ulimit(text: str) -> dict[str, Any]:
    name, values = _split(text, "=")
    soft, hard = _split(values, ":")
    if not values:
        raise UsageError(f"invalid ulimit {text!r}: NAME=SOFT[:HARD] is wanted")
    return {"Name": name, "Soft": _integer(soft, "--ulimit"), "Hard": _integer(hard or soft, "--ulimit")}


def _security_option(text: str) -> str:
    """A seccomp profile is read here: its file is the user's, not the daemon's."""
    name, value = _split(text.replace("seccomp:", "seccomp=", 1), "=")
    if name != "seccomp" or value in ("unconfined", "builtin"):
        return text
    try:
        with open(value, encoding="utf-8") as profile:
            return f"seccomp={profile.read()}"
    except OSError as error:
        raise CommandError(f"seccomp profile {value}: {error.strerror}", 125) from None
    except UnicodeDecodeError:
        raise CommandError(f"seccomp profile {value}: not a text in UTF-8", 125) from None
