"""Every step: as msgpack and back, as text, as JSON and as shell; and whole plans."""

from __future__ import annotations

import errno
import json
import re
import subprocess

import msgspec
import pytest

from cloche.plan import codec, document, shell, text
from cloche.plan.plan import Plan
from cloche.plan.step import Step, StepFailure, StepTime, Trace, quote
from cloche.plan.steps import (
    HOST_STEPS,
    STEPS,
    AddRoute,
    ApplyNftables,
    AttachCgroups,
    AttachDeviceProgram,
    Await,
    Bind,
    BindCgroups,
    BindRoot,
    BringUpLoopback,
    ChangeDirectory,
    Clone,
    CreateBridge,
    CreateVeth,
    DeleteLink,
    Exec,
    JoinNamespace,
    JoinSessionKeyring,
    LoadSeccomp,
    MakeCgroups,
    MakeDevice,
    MakeDirectory,
    MakePrivate,
    MakeSymlink,
    MaskPath,
    MountFilesystem,
    MountOverlay,
    NoNewPrivileges,
    OpenTerminal,
    PivotRoot,
    ReadonlyPath,
    ReadonlyRoot,
    ResolveUser,
    SetAddress,
    SetCapabilities,
    SetDomainname,
    SetHostname,
    SetIds,
    SetOomScore,
    SetRlimit,
    Signal,
    UnshareCgroup,
    WriteCgroup,
    WriteSysctl,
)

LEAF = "/sys/fs/cgroup/memory/cloche/0123"
CAPABILITIES = ("CAP_CHOWN", "CAP_KILL")

PLAN = Plan(
    host=(
        Clone(("pid", "network", "mount", "ipc", "uts")),
        MakeCgroups(("/sys/fs/cgroup/memory/cloche", LEAF), (LEAF,)),
        WriteCgroup(f"{LEAF}/memory.limit_in_bytes", "67108864"),
        WriteCgroup(f"{LEAF}/memory.memsw.limit_in_bytes", "-1", (2,)),
        AttachDeviceProgram(LEAF, bytes(16)),
        AttachCgroups((LEAF,)),
        SetOomScore(-500),
        Signal("attached"),
        CreateBridge("cloche0", "172.30.0.1", 16, "02:00:00:00:00:01"),
        CreateVeth("cloche0a1b2c3", "eth0", "cloche0", "02:42:ac:1e:00:02"),
        DeleteLink("old"),
        ApplyNftables("ip cloche", "table ip cloche {\n}\n"),
        WriteSysctl("net/ipv4/ip_forward", "1"),
        Signal("linked"),
    ),
    container=(
        JoinNamespace("ipc", "/proc/17/ns/ipc"),
        BringUpLoopback(),
        SetHostname("it's"),
        SetDomainname("example"),
        MakePrivate(),
        MountOverlay(("/l/one", "/l/two:x"), "/c/upper", "/c/work", "/c/merged", ("index=off",)),
        BindRoot("/from", "/c/merged", True),
        Bind("/host's own", "/etc/hosts", options=("ro",), propagation="rslave"),
        MountFilesystem("tmpfs", "shm", "/dev/shm", ("nosuid", "noexec"), ("mode=1777", "size=64k")),
        MakeDevice("/dev/null", "c", 1, 3, 0o666, 5, 6),
        MakeDevice("/dev/pipe", "p"),
        MakeSymlink("/dev/fd", "/proc/self/fd"),
        MakeDirectory("/run/lock", 0o1777, 1, 2),
        OpenTerminal(24, 80),
        Await("attached"),
        UnshareCgroup(),
        BindCgroups("/sys/fs/cgroup", ("cpu,cpuacct", "name=systemd")),
        PivotRoot("/c/merged"),
        MaskPath("/proc/kcore"),
        ReadonlyPath("/proc/sys"),
        ReadonlyRoot(),
        Await("linked"),
        SetAddress("eth0", "172.30.0.2", 16),
        AddRoute("172.30.0.1"),
        AddRoute("172.30.0.1", "10.0.0.0/8"),
        SetRlimit("RLIMIT_NOFILE", 1024, -1),
        JoinSessionKeyring("0123"),
        ResolveUser("web:logs", ("mail",)),
        ChangeDirectory("/srv/my files"),
        LoadSeccomp(bytes(range(16)), "sha256:0123456789abcdef", 300),
        SetIds(),
        SetIds(33, 34, (40, 41)),
        SetCapabilities(CAPABILITIES, CAPABILITIES, CAPABILITIES, (), ()),
        NoNewPrivileges(),
        Exec(("sh", "-c", 'echo "it\'s $HOME"'), ("PATH=/bin", "WORDS=a b")),
    ),
)
EVERY = (*PLAN.host, *PLAN.container)
TRACE = Trace(
    tuple(StepTime(1_000_000 + 1000 * n, 900) for n in range(len(PLAN.host))),
    tuple(StepTime(1_200_000 + 1000 * n, 2_000_000) for n in range(len(PLAN.container))),
)


def check_syntax(script: str) -> None:
    result = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_examples_have_every_step() -> None:
    assert {type(step) for step in EVERY} == set(STEPS)
    assert {type(step) for step in PLAN.host} == set(HOST_STEPS)


def test_every_step_travels() -> None:
    assert codec.decode(codec.encode(EVERY)) == EVERY


def test_an_unknown_step_or_field_is_refused() -> None:
    for wrong in ([{"step": "Explode"}], [{"step": "SetHostname", "name": 7}], [{"step": "SetHostname"}]):
        with pytest.raises(msgspec.ValidationError):
            codec.decode(msgspec.msgpack.encode(wrong))


@pytest.mark.parametrize("step", EVERY, ids=lambda step: type(step).__name__)
def test_every_step_says_what_it_does(step: Step) -> None:
    assert step.describe().strip()
    check_syntax(step.shell())
    check_syntax(step.script())
    assert step.hint(0) == "" or isinstance(step, SetRlimit)
    assert type(step).__doc__


def test_text() -> None:
    lines = text.render(PLAN).splitlines()
    assert lines[0].strip() == "host"
    assert len(lines) == 2 + len(EVERY)
    assert "  SetHostname          it's" in lines


def test_text_with_a_trace_ends_with_where_the_time_went() -> None:
    lines = text.render(PLAN, TRACE).splitlines()
    assert re.fullmatch(r" +0\.000 +0\.001  Clone +pid network mount ipc uts", lines[1])
    summary = lines[lines.index("") + 1 :]
    names = {line[2:24].strip() for line in summary[1:]}
    assert names == {
        *("cgroups", "devices and paths", "mounts", "network", "user and privileges", "process"),
        *("Clone", "Await", "Exec", "from first to last"),
    }
    sums = [float(line.split()[-2]) + float(line.split()[-1]) for line in summary[1:-1]]
    assert sums == sorted(sums, reverse=True)
    assert abs(sum(sums) - (len(PLAN.container) * 2.0)) < 0.1


def test_a_short_trace_of_a_plan_that_failed_is_shown_as_far_as_it_goes() -> None:
    shown = text.render(PLAN, Trace(TRACE.host[:2], ()))
    assert len(shown.splitlines()) > len(EVERY)


def test_document() -> None:
    value = json.loads(document.render(PLAN, TRACE))
    assert [len(value[side]) for side in ("host", "container")] == [len(PLAN.host), len(PLAN.container)]
    last = value["container"][-1]
    assert last["step"] == "Exec"
    assert last["arguments"]["argv"] == ["sh", "-c", 'echo "it\'s $HOME"']
    assert last["duration"] == 2_000_000
    assert "begin" not in json.loads(document.render(PLAN))["host"][0]


def test_the_script_is_of_the_shell() -> None:
    script = shell.render(PLAN)
    check_syntax(script)
    for name in ("supervisor", "init"):
        inner = re.search(rf"<<'END-OF-{name.upper()}'\n(.*?)END-OF-{name.upper()}\n", script, re.DOTALL)
        assert inner is not None
        check_syntax(inner[1])


def test_the_script_has_cgroups_changes_and_links_of_its_own() -> None:
    script = shell.render(PLAN)
    assert f'make_cgroup {LEAF}"$own"' in script
    assert f'echo 67108864 > {LEAF}"$own"/memory.limit_in_bytes' in script
    assert not re.search(rf"{LEAF}(?!\"\$own\")", re.sub(r"^#.*$", "", script, flags=re.MULTILINE))
    assert 'upperdir="$scratch/upper"' in script
    assert "/c/upper" not in re.sub(r"^#.*$", "", script, flags=re.MULTILINE)
    assert 'ip link add "$veth" type veth' in script


def test_the_script_attaches_before_it_unshares() -> None:
    script = shell.render(PLAN)
    attach = script.index(f'echo "$init" > {LEAF}')
    assert (
        script.index("make_cgroup /")
        < attach
        < script.index("exec nsenter --ipc=/proc/17/ns/ipc unshare --pid")
    )


def test_a_plan_of_the_host_alone() -> None:
    script = shell.render(Plan((CreateBridge("cloche0", "172.30.0.1", 16),)))
    check_syntax(script)
    assert "unshare" not in script


def test_quote() -> None:
    words = ["", "plain", "it's", "a b", "$x", "`x`", "\n", 'q"q', "~", "*"]
    shown = subprocess.run(
        ["sh", "-c", "printf '%s\\0' " + " ".join(map(quote, words))], capture_output=True, text=True
    )
    assert shown.stdout.split("\0")[:-1] == words


@pytest.mark.parametrize(
    ("step", "number", "code"),
    [
        ("Exec", errno.ENOENT, 127),
        ("Exec", errno.EACCES, 126),
        ("Exec", errno.EISDIR, 126),
        ("Exec", errno.ENOEXEC, 126),
        ("Bind", errno.ENOENT, 128),
    ],
)
def test_exit_codes_are_dockers(step: str, number: int, code: int) -> None:
    assert StepFailure("container", 0, step, "x", number, "", "", "").exit_code == code


def test_a_failure_is_one_line() -> None:
    failure = StepFailure(
        "host", 3, "WriteCgroup", "a = b", 22, "write('a'): Invalid argument", "echo b > a", "why"
    )
    assert failure.render() == "WriteCgroup: a = b: write('a'): Invalid argument (why)"


def test_text_shows_the_beginning_of_an_id() -> None:
    plan = Plan(
        (WriteCgroup("/sys/fs/cgroup/pids/cloche/" + "0123456789ab" + "c" * 52 + "/pids.max", "50"),), ()
    )
    assert "/cloche/0123456789ab…/pids.max = 50" in text.render(plan)
