"""Bad requests are refused before anything is made; good ones become the right spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloche.cgroups.contract import Layout
from cloche.engine import capabilities, merge, mounts, seccomp, security, signals, validation
from cloche.engine.names import random_name
from cloche.engine.records import Container, ContainerConfig, Device, LogSettings, Ulimit
from cloche.errors import ClocheError, InvalidArgument, Unsupported
from cloche.images.model import ImageRuntimeConfig
from cloche.runtime.spec import Mount

LAYOUT = Layout(2, {"": "/sys/fs/cgroup"}, ("memory",), ("memory.swap.max",))


def check(**fields: Any) -> list[str]:
    return validation.check(ContainerConfig(image="busybox", **fields), LAYOUT)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"memory": 1 << 20}, "Minimum memory limit allowed is 6MB"),
        ({"memory_swap": 64 << 20}, "You should always set the Memory limit"),
        ({"memory": 64 << 20, "memory_swap": 32 << 20}, "Minimum memoryswap limit should be larger"),
        ({"memory": 64 << 20, "memory_reservation": 128 << 20}, "can not be less than memory reservation"),
        ({"memory_swappiness": 101}, "valid memory swappiness range is 0-100"),
        ({"nano_cpus": 10**15}, "range of CPUs is from 0.01 to"),
        ({"nano_cpus": 10**9, "cpu_quota": 5000}, "Nano CPUs and CPU Quota cannot both be set"),
        ({"cpu_period": 10}, "CPU cfs period can not be less than 1ms"),
        ({"cpu_quota": 10}, "CPU cfs quota can not be less than 1ms"),
        ({"cpuset_cpus": "9999"}, "Requested CPUs are not available - requested 9999"),
        ({"cpuset_cpus": "2-1"}, "Invalid value 2-1 for cpuset cpus"),
        ({"blkio_weight": 5}, "Range of blkio weight"),
        ({"oom_score_adj": 1001}, r"range for oom score adj is \[-1000, 1000\]"),
        ({"shm_size": -1}, "SHM size can not be less than 0"),
        ({"working_dir": "here"}, "the working directory 'here' is invalid"),
        ({"hostname": "not_a_name"}, "invalid hostname format: not_a_name"),
        ({"stop_signal": "NOPE"}, "invalid signal: NOPE"),
        ({"cap_add": ("nonsense",)}, 'unknown capability: "CAP_NONSENSE"'),
        ({"cap_drop": ("CAP_X",)}, 'invalid CapDrop: unknown capability: "CAP_X"'),
        ({"security_opt": ("nonsense",)}, "invalid --security-opt"),
        ({"tmpfs": {"/x": "bogus"}}, r'invalid tmpfs option \["bogus"\]'),
        ({"tmpfs": {"/x": "size=big"}}, "invalid tmpfs option"),
        ({"tmpfs": {"x": ""}}, "invalid tmpfs target"),
        ({"binds": ("/a:/x", "/b:/x/")}, "Duplicate mount point: /x"),
        ({"binds": ("/a:/x",), "tmpfs": {"/x": ""}}, "Duplicate mount point: /x"),
        ({"binds": ("/a:/x:wrong",)}, "invalid mode: wrong"),
        ({"binds": ("/a:x",)}, "mount path must be absolute"),
        ({"binds": ("/a:/",)}, "destination can't be '/'"),
        ({"ulimits": (Ulimit("nofile", 2, 1),)}, "soft limit must be less than or equal to hard limit"),
        ({"ulimits": (Ulimit("files", 1, 1),)}, "invalid ulimit type: files"),
        ({"sysctls": {"kernel.panic": "1"}}, "does not belong to a namespace"),
        (
            {"sysctls": {"net.core.somaxconn": "1"}, "network_mode": "host"},
            "not allowed in host network namespace",
        ),
        ({"devices": (Device("/dev/no-such-thing", "/dev/x"),)}, "error gathering device information"),
        ({"devices": (Device("/dev/null", "/dev/x", "q"),)}, "invalid device mode: q"),
        ({"log": LogSettings("syslog")}, 'no log driver named "syslog"'),
        ({"log": LogSettings(options={"max-size": "much"})}, "invalid size: 'much'"),
        ({"log": LogSettings(options={"color": "red"})}, "unknown log opt 'color' for json-file log driver"),
        ({"uts_mode": "host", "hostname": "x"}, "conflicting options: hostname and the UTS mode"),
        (
            {"network_mode": "container:x", "hostname": "x"},
            "conflicting options: hostname and the network mode",
        ),
        ({"pid_mode": "odd"}, "invalid pid mode: odd"),
        (
            {"restart_policy": "always", "auto_remove": True},
            "can't create 'AutoRemove' container with restart policy",
        ),
        ({"environment": ("=x",)}, "invalid environment variable"),
        ({"binds": ("/a:/x:ro,rw",)}, "invalid mode: ro,rw"),
        ({"binds": ("/a:/x:slave,shared",)}, "invalid mode: slave,shared"),
        ({"domainname": "here\n6.6.6.6 bank"}, "invalid domainname format"),
        ({"dns": ("one.example",)}, "nameserver 'one.example': not an IP address"),
        ({"dns": ("fe80::1%\nnameserver 6.6.6.6",)}, "not an IP address"),
        ({"dns_search": ("a\nnameserver 6.6.6.6",)}, "not one word"),
        ({"dns_options": ("",)}, "not one word"),
        ({"extra_hosts": ("a",)}, "extra host 'a': want NAME:ADDRESS"),
        ({"extra_hosts": ("a:host-gateway",), "network_mode": "none"}, "has no gateway to the host"),
        ({"cgroup_parent": "../../x"}, "invalid cgroup parent '../../x'"),
        ({"cgroup_parent": "/a/./b"}, "invalid cgroup parent"),
        ({"cgroup_parent": "a" * 256}, "invalid cgroup parent"),
        ({"sysctls": {"net/../kernel/panic": "1"}}, "is not a name such as"),
        ({"sysctls": {"net.": "1"}}, "is not a name such as"),
        ({"sysctls": {"net.core.x y": "1"}}, "is not a name such as"),
    ],
)
def test_invalid_requests(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        check(**fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"restart_policy": "always"}, "restart policies are not built yet"),
        ({"published_ports": ("8080:80/tcp",)}, "published ports are not built yet"),
        ({"binds": ("data:/x",)}, "named volumes are not built yet"),
        ({"network_mode": "mine"}, "user-defined networks are not built yet"),
        ({"security_opt": ("apparmor=mine",)}, "does not apply apparmor policies"),
    ],
)
def test_what_is_not_built_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        check(**fields)


def test_good_requests() -> None:
    assert check(memory=6 << 20, memory_swap=-1, nano_cpus=10_000_000, pids_limit=-1, cpuset_cpus="0") == []
    assert check(network_mode="host", hostname="named") == []
    assert check(tmpfs={"/x": "rw,size=10%,mode=1777,exec"}, binds=("/a:/b:ro,z,rslave",)) == []
    assert check(sysctls={"net/ipv4/conf/eth0.100/rp_filter": "1", "net.core.somaxconn": "9"}) == []
    assert check(cgroup_parent="/mine.slice/x_1/", dns_search=(".",), extra_hosts=("a:::1",)) == []
    assert check(oom_kill_disable=True) != []


def test_a_swap_limit_needs_a_kernel_that_counts_swap() -> None:
    config = ContainerConfig(image="x", memory=8 << 20, memory_swap=16 << 20)
    with pytest.raises(ClocheError, match="does not count swap"):
        validation.check(config, Layout(1, {}, ("memory",), ()))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"environment": ("A=\0",)}, "invalid environment: 'A=.x00' has a null byte"),
        ({"command": ("true", "a\0b")}, "invalid command: "),
        ({"labels": {"a\0": "b"}}, "invalid labels: "),
        ({"devices": (Device("/dev/null\0", "/dev/x"),)}, "invalid devices: "),
        ({"binds": ("/a\0:/x",)}, "invalid binds: "),
    ],
)
def test_null_bytes(fields: dict[str, Any], words: str) -> None:
    merged = ("", "", 0, "", ContainerConfig("busybox"), (), (), (), "", "", "", {}, "", "")
    named = dict(zip(Container.__struct_fields__, merged, strict=False))
    validation.check_strings(Container(**named))
    with pytest.raises(InvalidArgument, match=words):
        validation.check_strings(Container(**{**named, "config": ContainerConfig("busybox", **fields)}))
    of_image = {name: value for name, value in fields.items() if name in named}
    if of_image:
        with pytest.raises(InvalidArgument, match=words):
            validation.check_strings(Container(**{**named, **of_image}))


@pytest.mark.parametrize("name", ["a", "-a", "a b", "", "ä1", "a/b"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid container name"):
        validation.check_name(name)


def test_filters_in_memory_are_few(tmp_path: Path) -> None:
    filters = seccomp.FilterCache(str(tmp_path))
    profile = '{{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": {}}}'
    configs = [
        ContainerConfig("busybox", security_opt=(f"seccomp={profile.format(number)}",))
        for number in range(1, seccomp.MOST + 2)
    ]
    first, second, *others, last = configs
    ready = filters.get(first)
    for config in (second, *others, first, last):
        filters.get(config)
    assert len(filters._ready) == seccomp.MOST
    # The one that was not asked for again is the one that went.
    assert filters.get(first) is ready


def test_random_names_are_good_and_free() -> None:
    taken: set[str] = set()
    for _ in range(3000):
        name = random_name(taken)
        validation.check_name(name)
        assert name not in taken
        taken.add(name)


@pytest.mark.parametrize(
    ("text", "number"),
    [("SIGTERM", 15), ("term", 15), ("9", 9), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("cld", 17), ("64", 64)],
)
def test_signals(text: str, number: int) -> None:
    assert signals.number(text) == number


@pytest.mark.parametrize("text", ["0", "65", "", "SIG", "RTMIN+x", "-1", "RTMAX-99"])
def test_bad_signals(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid signal"):
        signals.number(text)


def test_capabilities() -> None:
    default = capabilities.effective((), (), False)
    assert len(default) == 14
    assert capabilities.effective((), ("ALL",), False) == ()
    assert capabilities.effective(("net_admin",), ("ALL",), False) == ("CAP_NET_ADMIN",)
    assert set(capabilities.effective(("SYS_TIME",), ("CAP_KILL",), False)) == (
        set(default) - {"CAP_KILL"} | {"CAP_SYS_TIME"}
    )
    everything = capabilities.effective(("ALL",), (), False)
    without = tuple(name for name in everything if name != "CAP_MKNOD")
    assert capabilities.effective(("ALL",), ("mknod",), False) == without
    assert capabilities.effective((), ("ALL",), True) == everything


def test_security_options() -> None:
    assert security.parse(("no-new-privileges:true",)).no_new_privileges
    assert not security.parse(("no-new-privileges=false",)).no_new_privileges
    assert security.parse(("seccomp=unconfined", "label=disable")).unconfined
    assert security.parse(('seccomp={"a": "b=c"}',)).seccomp == b'{"a": "b=c"}'


def test_binds_and_tmpfs_become_mounts() -> None:
    assert mounts.bind(mounts.parse_bind("/a/../b:/x/:ro,rslave")) == Mount(
        "/x", "bind", "/b", ("rbind", "rslave", "ro")
    )
    options = ("nosuid", "nodev", "exec", "size=1m")
    assert mounts.parse_tmpfs("/t", "exec,size=1m") == Mount("/t", "tmpfs", "tmpfs", options)


def test_given_mounts_replace_defaults_and_parents_come_first() -> None:
    default = (Mount("/dev"), Mount("/dev/shm", "tmpfs"), Mount("/proc"))
    merged = mounts.merge(default, (Mount("/a/b/c"), Mount("/dev/shm", "bind"), Mount("/a")))
    assert [m.destination for m in merged] == ["/dev", "/proc", "/a", "/dev/shm", "/a/b/c"]
    assert merged[3].type == "bind"


@pytest.mark.parametrize(
    ("entrypoint", "command", "expected"),
    [
        (None, None, (("/init",), ("serve",))),
        (None, ("other",), (("/init",), ("other",))),
        (("/mine",), None, (("/mine",), ())),
        (("/mine",), ("x",), (("/mine",), ("x",))),
        (("",), ("x",), ((), ("x",))),
        ((), None, ((), ("serve",))),
    ],
)
def test_entrypoint_and_command(entrypoint: Any, command: Any, expected: Any) -> None:
    image = ImageRuntimeConfig(Entrypoint=["/init"], Cmd=["serve"])
    merged = merge.merge(ContainerConfig(image="x", entrypoint=entrypoint, command=command), image)
    assert (merged.entrypoint, merged.command) == expected


def test_merging_with_the_image() -> None:
    image = ImageRuntimeConfig(
        Cmd=["x"], Env=["PATH=/bin", "A=image", "B=image"], User="u", WorkingDir="/w",
        Labels={"l": "1", "m": "1"}, StopSignal="SIGINT",
    )  # fmt: skip
    config = ContainerConfig(image="x", environment=("A=mine", "B"), labels={"m": "2"})
    merged = merge.merge(config, image)
    assert merged.environment == ("A=mine", "B", "PATH=/bin")
    assert (merged.user, merged.working_dir, merged.stop_signal) == ("u", "/w", "SIGINT")
    assert merged.labels == {"l": "1", "m": "2"}
    with pytest.raises(InvalidArgument, match="no command specified"):
        merge.merge(ContainerConfig(image="x"), None)
