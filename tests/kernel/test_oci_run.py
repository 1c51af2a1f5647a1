"""``cloche-runtime run`` on the real kernel: a container looked at from inside, and what goes wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloche.cgroups import layout
from cloche.kernel.capabilities import NAMES

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("busybox") is None, reason="needs a static busybox"),
]

PARENT = f"/cloche-test-{os.getpid()}"
COMMAND = [sys.executable, "-c", "from cloche.oci.main import main; main()"]

Run = Callable[..., subprocess.CompletedProcess[str]]


def runtime(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundle") / "rootfs"
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
    names = "sh cat grep hostname id ls mkdir mknod readlink sleep stat touch true unshare"
    for name in names.split():
        (root / "bin" / name).symlink_to("busybox")
    return root


@pytest.fixture
def bundle(rootfs: Path, tmp_path: Path) -> Path:
    assert runtime("spec", "--bundle", str(tmp_path)).returncode == 0
    (tmp_path / "rootfs").symlink_to(rootfs)
    return tmp_path


@pytest.fixture
def run(bundle: Path) -> Iterator[Run]:
    def _run(script: str, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Any:
        config = json.loads((bundle / "config.json").read_bytes())
        config["process"]["args"] = ["sh", "-c", script]
        change(config)
        (bundle / "config.json").write_text(json.dumps(config))
        return runtime("run", "--bundle", str(bundle), "--cgroup-parent", PARENT, "c1")

    yield _run
    for mountpoint in set(layout.detect().mounts.values()):
        assert not os.path.exists(mountpoint + PARENT), "a cgroup was left behind"


def output(result: subprocess.CompletedProcess[str]) -> list[str]:
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_default_container(run: Run) -> None:
    script = """
        for kind in pid net mnt ipc uts cgroup; do readlink /proc/self/ns/$kind; done
        echo $$ $(hostname) $(id -u):$(id -g) $PWD
        grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status
        ls /dev
        stat -c %a /dev/null /dev/pts/ptmx
        cat /proc/self/cgroup | grep -v :/$ || echo own cgroup root
        for path in /proc/sys/kernel/hostname /sys/kernel/mm /sys/fs/cgroup/x; do
            touch $path 2>/dev/null && echo written $path; done
        cat /proc/keys /proc/timer_list | grep . || echo masked
        ls /sys/firmware | grep . || echo masked
        unshare -U true 2>/dev/null || echo no unshare
        mknod /tmp/disk b 8 0 2>/dev/null; mkdir -p /tmp; mknod /tmp/kmsg c 1 11; cat /tmp/kmsg 2>&1
        grep -E ' / | /dev/shm ' /proc/self/mountinfo | grep -c shared || true
    """
    lines = output(run(script))
    own = {os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "net", "mnt", "ipc", "uts", "cgroup")}
    assert not own & set(lines[:6])
    assert lines[6] == "1 cloche 0:0 /"
    status = dict(line.split(":\t") for line in lines[7:14])
    docker = "00000000a80425fb"
    assert status == {
        "CapInh": "0" * 16,
        "CapPrm": docker,
        "CapEff": docker,
        "CapBnd": docker,
        "CapAmb": "0" * 16,
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }
    devices = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert lines[14:29] == devices.split()
    assert lines[29:] == [
        "666",
        "666",
        "own cgroup root",
        "masked",
        "masked",
        "no unshare",
        "cat: can't open '/tmp/kmsg': Operation not permitted",
        "0",
    ]


def test_limits_user_and_readonly_root(run: Run) -> None:
    def change(config: dict[str, Any]) -> None:
        config["root"]["readonly"] = True
        config["process"] |= {
            "user": {"uid": 1000, "gid": 100, "additionalGids": [7]},
            "cwd": "/made/here",
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}],
            "oomScoreAdj": 123,
        }
        config["linux"]["resources"] |= {"memory": {"limit": 32 << 20}, "pids": {"limit": 20}}
        config["mounts"].append(
            {"destination": "/scratch", "type": "tmpfs", "options": ["size=1m", "mode=1777"]}
        )

    script = """
        id -u; id -g; id -G; echo $PWD; ulimit -n; cat /proc/self/oom_score_adj
        grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status
        touch /x 2>&1; touch /scratch/x && echo scratch
        cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null ||
            cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max
    """
    assert output(run(script, change)) == [
        "1000", "100", "100 7", "/made/here", "99", "123",
        "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t00000000a80425fb",
        "touch: /x: Read-only file system", "scratch", str(32 << 20), "20",
    ]  # fmt: skip


def test_all_privileges_are_those_of_this_machine(run: Run) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"] |= {"noNewPrivileges": False}
        config["process"]["capabilities"] = {
            name: list(NAMES) for name in ("bounding", "effective", "permitted")
        }
        config["linux"].pop("seccomp")
        config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []
        config["linux"]["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
        for mount in config["mounts"]:
            mount["options"] = [option for option in mount["options"] if option != "ro"]

    script = """
        grep -E '^(CapEff|Seccomp):' /proc/self/status
        echo 7 > /proc/sys/kernel/shmmni && echo written
        mkdir /sys/fs/cgroup/memory/below 2>/dev/null || mkdir /sys/fs/cgroup/below && echo made
        mkdir -p /tmp; mknod /tmp/log c 1 11; exec 3< /tmp/log && echo opened
    """
    bounding = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd")
    )
    assert output(run(script, change)) == [
        bounding.replace("CapBnd", "CapEff"), "Seccomp:\t0", "written", "made", "opened"
    ]  # fmt: skip


def test_without_capabilities_it_has_none(run: Run) -> None:
    lines = output(run("grep ^Cap /proc/self/status", lambda config: config["process"].pop("capabilities")))
    assert [line.split()[1] for line in lines] == ["0" * 16] * 5


def test_joined_namespaces(run: Run) -> None:
    other = subprocess.Popen(
        ["unshare", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "sleep", "30"],
    )
    try:
        children = Path(f"/proc/{other.pid}/task/{other.pid}/children")
        while not (pid := children.read_text().strip()):
            time.sleep(0.005)
        names = {"pid": "pid", "network": "net", "ipc": "ipc"}
        wanted = {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in names.values()}

        def change(config: dict[str, Any]) -> None:
            for namespace in config["linux"]["namespaces"]:
                if namespace["type"] in names:
                    namespace["path"] = f"/proc/{pid}/ns/{names[namespace['type']]}"

        script = "for kind in pid net ipc; do readlink /proc/self/ns/$kind; done; cat /proc/1/comm"
        assert output(run(script, change)) == [wanted["pid"], wanted["net"], wanted["ipc"], "sleep"]
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize(
    ("script", "code"), [("exit 7", 7), ("kill -KILL $$", 137), ("sleep 60 & sleep 60 & exit 0", 0)]
)
def test_exit_status_and_nothing_is_left(run: Run, script: str, code: int) -> None:
    # Process 1 of a namespace is not killed by its own signals.
    def change(config: dict[str, Any]) -> None:
        if "KILL" in script:
            config["linux"]["namespaces"] = [
                entry for entry in config["linux"]["namespaces"] if entry["type"] != "pid"
            ]

    assert run(script, change).returncode == code


def test_signals_are_passed_on(bundle: Path) -> None:
    config = json.loads((bundle / "config.json").read_bytes())
    config["process"]["args"] = ["sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"]
    (bundle / "config.json").write_text(json.dumps(config))
    words = ["run", "--bundle", str(bundle), "--cgroup-parent", PARENT, "c1"]
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        # What init was forked from is nothing that it could write to (CVE-2019-5736).
        with pytest.raises(OSError, match=r"(?i)not permitted|busy"):
            os.open(f"/proc/{process.pid}/exe", os.O_RDWR)
        assert "memfd" in os.readlink(f"/proc/{process.pid}/exe")
        second = runtime(*words)
        assert (second.returncode, "runs already" in second.stderr) == (1, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 3


def test_a_signal_during_the_start_reaches_the_program(bundle: Path) -> None:
    config = json.loads((bundle / "config.json").read_bytes())
    config["process"]["args"] = ["sleep", "60"]
    # Process 1 of a namespace would not die of it.
    config["linux"]["namespaces"] = [
        entry for entry in config["linux"]["namespaces"] if entry["type"] != "pid"
    ]
    (bundle / "config.json").write_text(json.dumps(config))
    words = ["run", "--bundle", str(bundle), "--cgroup-parent", PARENT, "c1"]
    with subprocess.Popen([*COMMAND, *words]) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not children.read_text():
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 128 + signal.SIGTERM
    for mountpoint in set(layout.detect().mounts.values()):
        assert not os.path.exists(mountpoint + PARENT)


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda config: config["process"].update(args=["/bin/none"]), 127, "no such file"),
        (lambda config: config["process"].update(args=["none"]), 127, "none"),
        (lambda config: config["process"].update(args=["/etc"]), 126, "directory"),
        (lambda config: config["process"].pop("cwd"), 1, r"`cwd`"),
        (lambda config: config["root"].update(path="gone"), 1, "is no directory"),
        (lambda config: config.update(hooks={"prestart": [{"path": "/x"}]}), 1, "hooks"),
        (lambda config: config["linux"].update(cgroupsPath="a:b:c"), 1, "systemd"),
        (lambda config: config["mounts"].append({"destination": "/x", "type": "bind", "source": "/no/such",
                                                 "options": ["bind"]}), 1, "/no/such"),
        (lambda config: config["linux"]["resources"].update(cpu={"cpus": "4095"}), 1, "cpuset.cpus"),
    ],
)  # fmt: skip
def test_failures_are_told_and_undone(
    run: Run, change: Callable[[dict[str, Any]], None], code: int, message: str
) -> None:
    result = run("true", change)
    assert (result.returncode, result.stdout) == (code, "")
    assert message in result.stderr


def test_command_line(tmp_path: Path) -> None:
    assert runtime("--version").stdout.startswith("cloche-runtime version ")
    assert json.loads(runtime("features").stdout)["linux"]["seccomp"]["enabled"]
    assert runtime("spec", "--bundle", str(tmp_path)).returncode == 0
    again = runtime("spec", "--bundle", str(tmp_path))
    assert (again.returncode, "exists" in again.stderr) == (1, True)
    missing = runtime("create", "x")
    assert (missing.returncode, "not built yet" in missing.stderr) == (1, True)
    assert runtime("run").returncode == 2
    assert runtime("dance").returncode == 2
    assert runtime("run", "--bundle").returncode == 1
    assert "letters" in runtime("run", "--bundle", str(tmp_path), "a/b").stderr
    assert "does not exist" in runtime("run", "--bundle", str(tmp_path / "none"), "x").stderr
