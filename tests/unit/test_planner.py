"""Golden plans of the default container, and what changes with each option.

After a wanted change: ``UPDATE_GOLDEN=1 pytest tests/unit/test_planner.py``, and read the diff.
"""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from cloche.cgroups import v1, v2
from cloche.cgroups.contract import Layout
from cloche.errors import ClocheError, InvalidArgument, Unsupported
from cloche.plan.codec import decode, encode
from cloche.plan.plan import Plan
from cloche.plan.step import Step
from cloche.plan.steps import STEPS
from cloche.runtime import defaults, resources
from cloche.runtime.planner import Inputs, plan
from cloche.runtime.seccomp import Filter
from cloche.runtime.spec import (
    Box,
    Capabilities,
    Device,
    Linux,
    Mount,
    Namespace,
    Process,
    Resources,
    Rlimit,
    Root,
    Seccomp,
    Spec,
    User,
)
from cloche.runtime.spec import (
    decode as decode_spec,
)
from cloche.runtime.spec import (
    encode as encode_spec,
)

GOLDEN = Path(__file__).parent / "golden"
STEP = {step.__name__: step for step in STEPS}

V1 = Layout(
    1,
    {
        name: f"/sys/fs/cgroup/{name.removeprefix('name=')}"
        for name in ("cpuset", "devices", "memory", "name=systemd")
    },
    ("cpuset", "devices", "memory", "name=systemd"),
    ("memory.memsw.limit_in_bytes",),
)
V2 = Layout(2, {"": "/sys/fs/cgroup"}, ("cpu", "cpuset", "io", "memory", "pids"), ("memory.swap.max",))

TARGET = "/run/cloche/rootfs"


def default_spec() -> Spec:
    """What the engine makes of ``docker run busybox true``."""
    names = defaults.CAPABILITIES
    return Spec(
        oci_version="1.2.0",
        root=Root(TARGET),
        process=Process(
            cwd="/",
            args=("true",),
            env=(defaults.ENVIRONMENT_PATH, "HOSTNAME=0123456789ab"),
            capabilities=Capabilities(bounding=names, effective=names, permitted=names),
            oom_score_adj=0,
        ),
        mounts=(
            *defaults.mounts(),
            Mount("/etc/hosts", "bind", "/var/lib/cloche/hosts", ("rbind", "rprivate")),
        ),
        hostname="0123456789ab",
        linux=Linux(
            namespaces=defaults.NAMESPACES,
            resources=Resources(devices=defaults.DEVICE_RULES),
            seccomp=Seccomp("SCMP_ACT_ERRNO"),
            masked_paths=defaults.MASKED_PATHS,
            readonly_paths=defaults.READONLY_PATHS,
        ),
    )


def make(spec: Spec, layout: Layout = V1, **more: object) -> Plan:
    place = v1.place if layout.version == 1 else v2.place
    inputs = Inputs(
        id="0123456789ab",
        rootfs=(STEP["MountOverlay"](lower=("/l/b", "/l/a"), upper="/u", work="/w", target=TARGET),),
        rootfs_target=TARGET,
        placement=place(layout, "/cloche", "0123456789ab", resources.convert(spec.linux.resources)),
        user="",
        seccomp=Filter(b"\6\0\0\0\0\0\xff\x7f", "0" * 64, 300) if spec.linux.seccomp else None,
    )
    return plan(spec, msgspec.structs.replace(inputs, **more))


def change(spec: Spec, part: str, **fields: object) -> Spec:
    if not part:
        return msgspec.structs.replace(spec, **fields)
    return msgspec.structs.replace(spec, **{part: msgspec.structs.replace(getattr(spec, part), **fields)})


def only(steps: tuple[Step, ...], kind: str) -> list[Step]:
    return [step for step in steps if type(step).__name__ == kind]


def order(steps: tuple[Step, ...]) -> list[str]:
    return [type(step).__name__ for step in steps]


@pytest.mark.parametrize(("name", "layout"), [("default_v1", V1), ("default_v2", V2)])
def test_default_container(name: str, layout: Layout) -> None:
    made = msgspec.json.format(msgspec.json.encode(make(default_spec(), layout)), indent=1) + b"\n"
    file = GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(made)
    assert made.decode() == file.read_text()


def test_a_plan_survives_its_travel() -> None:
    made = make(default_spec())
    assert decode(encode(made.container)) == made.container
    assert decode(encode(made.host)) == made.host


def test_a_spec_survives_its_file() -> None:
    assert decode_spec(encode_spec(default_spec())) == default_spec()


def test_v1_forks_before_it_makes_cgroups_and_v2_into_one() -> None:
    first = order(make(default_spec(), V1).host)
    assert first[:2] == ["Clone", "MakeCgroups"]
    assert first[-3:] == ["AttachCgroups", "SetOomScore", "Signal"]
    second = make(default_spec(), V2)
    assert order(second.host)[-5:] == [
        "WriteCgroup",
        "AttachDeviceProgram",
        "Clone",
        "SetOomScore",
        "Signal",
    ]
    assert only(second.host, "Clone")[0].cgroup == "/sys/fs/cgroup/cloche/0123456789ab"


@pytest.mark.parametrize(("layout", "kind"), [(V1, "BindCgroups"), (V2, "MountFilesystem")])
def test_only_the_cgroup_mount_waits_for_the_attach(layout: Layout, kind: str) -> None:
    names = order(make(default_spec(), layout).container)
    wait = names.index("Await")
    assert names[wait : wait + 4] == ["Await", "UnshareCgroup", kind, "JoinSessionKeyring"]
    assert names[:wait].count("MountFilesystem") == 6
    assert {"Bind", "PivotRoot", "MaskPath"} <= set(names[:wait])


def test_what_lies_over_under_and_at_the_cgroups_waits_with_them() -> None:
    mounts = (
        *defaults.mounts(),
        Mount("/sys/fs/cgroup/memory/x", "tmpfs", "tmpfs"),
        Mount("/data", "bind", "/srv", ("bind",)),
        Mount("/sys", "sysfs", "sysfs", ("ro",)),
        Mount("/sys/kernel", "tmpfs", "tmpfs"),
        Mount("/system", "tmpfs", "tmpfs"),
    )
    spec = change(change(default_spec(), "", mounts=mounts), "root", readonly=True)
    steps = make(spec).container
    wait = order(steps).index("Await")
    targets = [step.target for step in steps[wait:] if hasattr(step, "target")]
    assert targets == ["/sys/fs/cgroup", "/sys/fs/cgroup/memory/x", "/sys", "/sys/kernel"]
    assert [step.path for step in only(steps[wait:], "MaskPath")] == [
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ]
    assert order(steps).index("ReadonlyRoot") > wait
    assert {"/data", "/system"} <= {getattr(step, "target", "") for step in steps[:wait]}


def test_what_the_cgroups_need_of_the_host_comes_before_it_is_out_of_reach() -> None:
    over = (*defaults.mounts(), Mount("/sys/fs/cgroup", "bind", "/sys/fs/cgroup", ("rbind",)))
    names = order(make(change(default_spec(), "", mounts=over)).container)
    assert names.index("UnshareCgroup") < names.index("PivotRoot")
    joined = (*defaults.NAMESPACES[:-1], Namespace("cgroup", "/proc/7/ns/cgroup"))
    steps = make(change(default_spec(), "linux", namespaces=joined)).container
    assert steps.index(STEP["JoinNamespace"]("cgroup", "/proc/7/ns/cgroup")) < order(steps).index(
        "PivotRoot"
    )


def test_without_a_cgroup_namespace_v2_shows_the_hosts_mount() -> None:
    """A new one would reset the options of the host's own."""
    spec = change(default_spec(), "linux", namespaces=defaults.NAMESPACES[:-1])
    steps = make(spec, V2).container
    bind = next(step for step in only(steps, "Bind") if step.target == "/sys/fs/cgroup")
    assert (bind.source, bind.recursive) == ("/sys/fs/cgroup", False)
    assert set(bind.options) == {"nosuid", "noexec", "nodev", "ro"}
    assert steps.index(bind) < order(steps).index("PivotRoot")
    assert "cgroup2" not in {step.fstype for step in only(steps, "MountFilesystem")}


def test_privileges_go_after_what_needs_them() -> None:
    names = order(make(default_spec()).container)
    tail = [
        "JoinSessionKeyring",
        "ResolveUser",
        "ChangeDirectory",
        "LoadSeccomp",
        "SetIds",
        "SetCapabilities",
        "Exec",
    ]
    assert names[-7:] == tail
    confined = order(make(change(default_spec(), "process", no_new_privileges=True)).container)
    assert confined[-4:] == ["SetCapabilities", "NoNewPrivileges", "LoadSeccomp", "Exec"]


def test_numeric_user_of_the_spec() -> None:
    spec = change(default_spec(), "process", user=User(1000, 100, additional_gids=(7, 8)))
    steps = make(spec, user=None).container
    assert only(steps, "SetIds") == [STEP["SetIds"](1000, 100, (7, 8))]
    assert not only(steps, "ResolveUser")


def test_network_steps_lie_between_their_signals() -> None:
    veth = STEP["CreateVeth"](name="cloche0123456", peer="eth0", bridge="cloche0", mac="")
    address = STEP["SetAddress"](link="eth0", address="172.30.0.2", prefix=16)
    made = make(default_spec(), network_host=(veth,), network_container=(address,))
    assert made.host[-3:] == (STEP["Signal"]("attached"), veth, STEP["Signal"]("linked"))
    position = made.container.index(address)
    assert made.container[position - 1] == STEP["Await"]("linked")
    assert position > order(made.container).index("PivotRoot")


def test_shared_namespaces() -> None:
    namespaces = (
        Namespace("mount"),
        Namespace("network", "/proc/7/ns/net"),
        Namespace("pid", "/proc/7/ns/pid"),
    )
    spec = change(change(default_spec(), "", hostname=""), "linux", namespaces=namespaces)
    made = make(spec, holders={"/proc/7/ns/pid": 99})
    assert made.host[:2] == (STEP["JoinNamespace"]("pid", "/proc/7/ns/pid", 99), STEP["Clone"](("mount",)))
    assert made.container[0] == STEP["JoinNamespace"]("network", "/proc/7/ns/net")
    assert "BringUpLoopback" not in order(made.container)
    assert "UnshareCgroup" not in order(made.container)
    # Without a cgroup namespace a fresh v1 mount would show the host's whole tree.
    bound = [
        step.source for step in only(made.container, "Bind") if step.target.startswith("/sys/fs/cgroup/")
    ]
    assert bound == list(v1.place(V1, "/cloche", "0123456789ab", resources.convert(None)).leaves)


def test_terminal_and_readonly_root() -> None:
    spec = change(default_spec(), "process", terminal=True, console_size=Box(24, 80), cwd="/work")
    spec = change(spec, "root", readonly=True)
    steps = make(spec).container
    names = order(steps)
    assert only(steps, "OpenTerminal") == [STEP["OpenTerminal"](24, 80)]
    assert names.index("MakeDirectory") < names.index("PivotRoot") < names.index("ReadonlyRoot")
    assert names.index("ReadonlyRoot") > max(index for index, name in enumerate(names) if name == "MaskPath")


def test_devices_of_the_spec_replace_defaults_and_a_bound_dev_is_left_alone() -> None:
    spec = change(
        default_spec(), "linux", devices=(Device("/dev/null", "c", 1, 3, 0o600), Device("/dev/x", "u", 9, 8))
    )
    made = {step.path: step for step in only(make(spec).container, "MakeDevice")}
    assert made["/dev/null"].mode == 0o600
    assert (made["/dev/x"].type, made["/dev/x"].major) == ("c", 9)
    bound = change(default_spec(), "", mounts=(Mount("/dev", "bind", "/dev", ("rbind",)),))
    assert not only(make(bound).container, "MakeDevice")


def test_limits_and_sysctls() -> None:
    rlimits = (Rlimit("RLIMIT_NOFILE", 1024, (1 << 64) - 1),)
    spec = change(default_spec(), "process", rlimits=rlimits)
    spec = change(spec, "linux", sysctl={"net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.5/forwarding": "0"})
    steps = make(spec).container
    assert only(steps, "SetRlimit") == [STEP["SetRlimit"]("RLIMIT_NOFILE", 1024, -1)]
    assert [step.path for step in only(steps, "WriteSysctl")] == [
        "net/ipv4/ip_forward",
        "net/ipv4/conf/eth0.5/forwarding",
    ]
    assert order(steps).index("WriteSysctl") < order(steps).index("ReadonlyPath")


def test_mount_options() -> None:
    mounts = (
        Mount("/a", "tmpfs", "tmpfs", ("rw", "noexec", "size=1m", "mode=700")),
        Mount("/b", "", "/srv", ("bind", "ro", "rslave")),
    )
    steps = make(change(default_spec(), "", mounts=mounts)).container
    assert only(steps, "MountFilesystem") == [
        STEP["MountFilesystem"]("tmpfs", "tmpfs", "/a", ("noexec",), ("size=1m", "mode=700"))
    ]
    assert only(steps, "Bind") == [STEP["Bind"]("/srv", "/b", False, ("ro",), "rslave")]


def test_without_device_rules_the_defaults_hold() -> None:
    rules = resources.convert(None).devices
    assert rules == resources.convert(Resources(devices=defaults.DEVICE_RULES)).devices
    assert not rules[0].allow
    first = resources.convert(Resources(devices=defaults.DEVICE_RULES[3:4])).devices[0]
    assert (first.allow, first.type, first.access) == (False, "a", "rwm")


BAD: list[tuple[Callable[[Spec], Spec], type[ClocheError], str]] = [
    (lambda spec: change(spec, "process", args=()), InvalidArgument, "no command"),
    (lambda spec: change(spec, "process", cwd="work"), InvalidArgument, "not an absolute path"),
    (lambda spec: change(spec, "process", env=("X",)), InvalidArgument, "NAME=VALUE"),
    (lambda spec: change(spec, "process", args=("a\0b",)), InvalidArgument, "NUL"),
    (lambda spec: change(spec, "process", oom_score_adj=2000), InvalidArgument, "-1000 and 1000"),
    (lambda spec: change(spec, "process", rlimits=(Rlimit("RLIMIT_X", 1, 1),)), InvalidArgument, "RLIMIT_X"),
    (
        lambda spec: change(spec, "process", rlimits=(Rlimit("RLIMIT_AS", 2, 1),)),
        InvalidArgument,
        "above hard",
    ),
    (lambda spec: change(spec, "process", apparmor_profile="x"), Unsupported, "process.apparmorProfile"),
    (lambda spec: change(spec, "process", user=User(uid=-1)), InvalidArgument, "uid=-1"),
    (lambda spec: change(spec, "process", user=User(gid=(1 << 32) - 1)), InvalidArgument, "no id"),
    (lambda spec: change(spec, "process", user=User(umask=7)), Unsupported, "umask"),
    (lambda spec: change(spec, "process", capabilities=Capabilities(("CAP_X",))), InvalidArgument, "CAP_X"),
    (
        lambda spec: change(spec, "linux", namespaces=(Namespace("mount"),)),
        InvalidArgument,
        "no uts namespace",
    ),
    (lambda spec: change(spec, "linux", namespaces=(Namespace("pid"),)), Unsupported, "mount namespace"),
    (lambda spec: change(spec, "linux", namespaces=(Namespace("user"),)), Unsupported, "user namespaces"),
    (lambda spec: change(spec, "linux", namespaces=(Namespace("nt"),)), InvalidArgument, "'nt'"),
    (
        lambda spec: change(spec, "linux", sysctl={"vm.swappiness": "1"}),
        InvalidArgument,
        "belongs to no namespace",
    ),
    (
        lambda spec: change(spec, "linux", sysctl={"net/../../x": "1"}),
        InvalidArgument,
        "no name of a sysctl",
    ),
    (lambda spec: change(spec, "linux", rootfs_propagation="x"), Unsupported, "rootfsPropagation"),
    (lambda spec: change(spec, "linux", rootfs_propagation="rshared"), Unsupported, "take rslave"),
    (lambda spec: change(spec, "linux", intel_rdt={"closID": "x"}), Unsupported, "linux.intelRdt"),
    (lambda spec: change(spec, "", hooks={"prestart": []}), Unsupported, "hooks"),
    (lambda spec: change(spec, "", mounts=(Mount("a"),)), InvalidArgument, "not an absolute path"),
    (lambda spec: change(spec, "", mounts=(Mount("/a", "bind", "b"),)), InvalidArgument, "source 'b'"),
    (
        lambda spec: change(spec, "", mounts=(Mount("/a", "bind", "/b", ("x",)),)),
        InvalidArgument,
        "no option 'x'",
    ),
    (
        lambda spec: change(spec, "", mounts=(Mount("/a/../proc/", "bind", "/b", ("bind",)),)),
        InvalidArgument,
        "inside /proc",
    ),
    (
        lambda spec: change(spec, "", mounts=(Mount("//proc/self/attr", "tmpfs"),)),
        InvalidArgument,
        "inside /proc",
    ),
]


def test_single_files_of_proc_may_be_mounted_over() -> None:
    over = (Mount("/proc/meminfo", "bind", "/lxcfs/meminfo", ("bind",)), Mount("/proc2", "tmpfs"))
    steps = make(change(default_spec(), "", mounts=(*defaults.mounts(), *over))).container
    assert {"/proc/meminfo", "/proc2"} <= {getattr(step, "target", "") for step in steps}


@pytest.mark.parametrize(("spoil", "error", "message"), BAD)
def test_bad_specs_are_refused_before_anything_is_done(
    spoil: Callable[[Spec], Spec], error: type[ClocheError], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(spoil(default_spec()))


def test_a_wrong_type_is_told_with_its_path() -> None:
    with pytest.raises(InvalidArgument, match=r"`\$\.process\.rlimits\[0\]\.soft`"):
        decode_spec(
            b'{"ociVersion":"1","root":{"path":"r"},"process":{"cwd":"/","rlimits":[{"type":"x","soft":"y"}]}}'
        )


@pytest.mark.parametrize(
    "text",
    [
        '{"cpu":{"burst":5}}',
        '{"unified":{"memory.high":"1"}}',
        '{"blockIO":{"leafWeight":10}}',
        '{"network":{"classID":1}}',
    ],
)
def test_limits_that_cloche_does_not_set_are_refused(text: str) -> None:
    with pytest.raises(Unsupported, match=r"linux\.resources"):
        resources.convert(msgspec.json.decode(text, type=Resources))
