"""In a virtual machine under systemd, cgroup v1 or v2: what containers may do there, by effect.

``CLOCHE_TEST_CGROUP`` says which version the machine was booted for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Daemon
from tests.vm.layers import layered

VERSION = os.environ["CLOCHE_TEST_CGROUP"]


def inside(daemon: Daemon, script: str, *options: str) -> str:
    """Output of a shell script in a container of its own."""
    return daemon.ok("run", "--rm", "--network", "none", *options, "busybox", "sh", "-c", script)


def file(v1: str, v2: str) -> str:
    """A cgroup's file as a container sees it."""
    return f"/sys/fs/cgroup/{v1 if VERSION == '1' else v2}"


def values(text: str) -> dict[str, int]:
    """``cpu.stat``, ``memory.events`` and their like."""
    return {key: int(value) for key, value in (line.split() for line in text.splitlines())}


def test_machine(daemon: Daemon) -> None:
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    kind = subprocess.run(["stat", "-fc", "%T", "/sys/fs/cgroup"], capture_output=True, text=True).stdout
    assert kind == {"1": "tmpfs\n", "2": "cgroup2fs\n"}[VERSION]
    shown = json.loads(daemon.ok("info", "--format", "json"))
    assert (shown["CgroupVersion"], shown["Driver"]) == (VERSION, "overlay2")


# --- the program ----------------------------------------------------------------------------------


def test_run(daemon: Daemon) -> None:
    done = daemon.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 42)
    assert daemon.docker("run", "--rm", "busybox", "no-such-program").returncode == 127
    assert daemon.docker("run", "--rm", "busybox", "/etc/hostname").returncode == 126


def test_logs_and_stop(daemon: Daemon) -> None:
    script = "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", script)
    deadline = time.monotonic() + 60
    while daemon.ok("logs", name) != "ready" and time.monotonic() < deadline:
        time.sleep(0.2)
    daemon.ok("stop", "-t", "60", name)
    assert daemon.ok("wait", name) == "3"
    assert daemon.ok("logs", name) == "ready\nasked"


def test_input_and_terminal(daemon: Daemon) -> None:
    assert daemon.ok("run", "--rm", "-i", "busybox", "cat", input="through") == "through"
    client = daemon.client()
    script = "tty; test -t 0 && echo terminal"
    output = client.containers.run("busybox", ["sh", "-c", script], tty=True, remove=True)
    assert output == b"/dev/pts/0\r\nterminal\r\n"


# --- limits ---------------------------------------------------------------------------------------


def test_memory(daemon: Daemon) -> None:
    done = daemon.docker("run", "--name", "hungry", "--memory", "32m", "busybox", "tail", "/dev/zero")
    assert done.returncode == 137
    state = json.loads(daemon.ok("inspect", "-f", "{{json .State}}", "hungry"))
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
    path = file("memory/memory.limit_in_bytes", "memory.max")
    assert inside(daemon, f"cat {path}", "-m", "32m") == str(32 << 20)


def test_swap(daemon: Daemon) -> None:
    path = file("memory/memory.memsw.limit_in_bytes", "memory.swap.max")
    counted = 48 << 20 if VERSION == "1" else 16 << 20
    assert inside(daemon, f"cat {path}", "-m", "32m", "--memory-swap", "48m") == str(counted)


def test_cpus(daemon: Daemon) -> None:
    """Half a processor for a program that wants a whole one: it is held back."""
    limit = file("cpu/cpu.cfs_quota_us", "cpu.max")
    statistics = file("cpu/cpu.stat", "cpu.stat")
    busy = "end=$(($(date +%s)+3)); while [ $(date +%s) -lt $end ]; do :; done"
    limit_text, *rest = inside(
        daemon, f"cat {limit}; {busy}; cat {statistics}", "--cpus", "0.5"
    ).splitlines()
    assert limit_text == {"1": "50000", "2": "50000 100000"}[VERSION]
    assert values("\n".join(rest))["nr_throttled"] > 5


def test_pids_limit(daemon: Daemon) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait"
    done = daemon.docker("run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", script)
    assert "can't fork" in done.stderr


def test_cpuset(daemon: Daemon) -> None:
    script = "nproc; grep Cpus_allowed_list /proc/self/status"
    assert inside(daemon, script, "--cpuset-cpus", "1").split() == ["1", "Cpus_allowed_list:", "1"]
    done = daemon.docker("run", "--rm", "--cpuset-cpus", "77", "busybox", "true")
    assert done.returncode == 125


def test_limits_outlive_a_reload_of_systemd(daemon: Daemon) -> None:
    """systemd takes controllers away that it does not know anybody to need."""
    options = ("--memory", "32m", "--cpuset-cpus", "1", "--cpus", "0.5", "--pids-limit", "9")
    name = daemon.ok("run", "-d", *options, "busybox", "sleep", "600")
    pid = daemon.ok("inspect", "-f", "{{.State.Pid}}", name)
    before = Path(f"/proc/{pid}/cgroup").read_text()
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemd-run", "--wait", "-p", "MemoryMax=50M", "true"], check=True)
    assert Path(f"/proc/{pid}/cgroup").read_text() == before
    found = {
        path.name: path.read_text().strip()
        for path in Path("/sys/fs/cgroup").rglob(f"{name}/*")
        if path.name in ("memory.max", "memory.limit_in_bytes", "cpuset.cpus", "pids.max")
    }
    memory = "memory.limit_in_bytes" if VERSION == "1" else "memory.max"
    assert found == {memory: str(32 << 20), "cpuset.cpus": "1", "pids.max": "9"}


# --- devices --------------------------------------------------------------------------------------


def test_default_devices(daemon: Daemon) -> None:
    script = (
        "echo x > /dev/null && head -c 3 /dev/zero | od -An -tx1 && head -c 8 /dev/urandom | wc -c"
        " && head -c 8 /dev/random | wc -c; echo x > /dev/full"
    )
    done = daemon.docker("run", "--rm", "busybox", "sh", "-c", script)
    assert done.stdout.split() == ["00", "00", "00", "8", "8"]
    assert "No space left on device" in done.stderr


def test_other_devices_are_denied(daemon: Daemon) -> None:
    """A node may be made, as with Docker; whether it opens is the cgroup's word."""
    script = "mknod /node c 10 237 && : < /node && echo opened"
    denied = daemon.docker("run", "--rm", "busybox", "sh", "-c", script)
    assert denied.returncode != 0
    assert "Operation not permitted" in denied.stderr
    assert inside(daemon, script, "--device", "/dev/loop-control") == "opened"


def test_device(daemon: Daemon) -> None:
    script = ": < /dev/own && echo read; : > /dev/own && echo written"
    assert inside(daemon, script, "--device", "/dev/loop-control:/dev/own") == "read\nwritten"
    done = daemon.docker(
        "run", "--rm", "--device", "/dev/loop-control:/dev/own:r", "busybox", "sh", "-c", script
    )
    assert done.stdout == "read\n"
    assert "Operation not permitted" in done.stderr


def test_privileged(daemon: Daemon) -> None:
    script = (
        "mknod /node c 1 11 && head -c 1 /node > /dev/null && echo opened; test -c /dev/loop-control && echo"
        " there; grep -E '^(Seccomp|CapEff):' /proc/self/status; grep -c ' /sys/fs/cgroup.* ro,'"
        " /proc/self/mounts; mount -t tmpfs none /tmp && echo mounted"
    )
    lines = inside(daemon, script, "--privileged").splitlines()
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    full = f"{(1 << last + 1) - 1:016x}"
    assert lines == ["opened", "there", f"CapEff:\t{full}", "Seccomp:\t0", "0", "mounted"]


# --- cgroups as seen from both sides ----------------------------------------------------------------


def test_cgroup_namespace(daemon: Daemon) -> None:
    lines = inside(daemon, "cat /proc/self/cgroup").splitlines()
    assert {line.split(":", 2)[2] for line in lines} == {"/"}


def test_cgroups_go_with_the_container(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "busybox", "sleep", "600")
    assert list(Path("/sys/fs/cgroup").rglob(name))
    daemon.ok("rm", "-f", name)
    deadline = time.monotonic() + 30
    while (left := list(Path("/sys/fs/cgroup").rglob(name))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


# --- root file system -------------------------------------------------------------------------------


def test_writes_stay_in_the_container(daemon: Daemon) -> None:
    assert inside(daemon, "echo mine > /etc/issue && cat /etc/issue && rm /bin/ls && ls /bin/ls; true") == (
        "mine"
    )
    assert inside(daemon, "ls /bin/ls; test -e /etc/issue || echo gone") == "/bin/ls\ngone"


@pytest.mark.parametrize("count", [3, 100])
def test_layers(daemon: Daemon, tmp_path: Path, count: int) -> None:
    """A hundred must fit, also where the kernel takes their paths in one page only."""
    layered(daemon, f"layers:{count}", count, tmp_path / "image.tar")
    script = "ls /layers | wc -l; cat /layers/newest; echo here > /layers/newest; cat /layers/newest"
    out = daemon.ok("run", "--rm", f"layers:{count}", "sh", "-c", script)
    assert out == f"{count + 1}\n{count - 1}here"
    daemon.ok("rmi", f"layers:{count}")


def test_binds_read_only_and_tmpfs(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("bound")
    options = ("-v", f"{tmp_path}:/host:ro", "--read-only", "--tmpfs", "/t:size=1m")
    script = "cat /host/file; touch /host/x /x || true; echo -fit > /t/x; cat /t/x; df -k /t | tail -1"
    done = daemon.docker("run", "--rm", *options, "busybox", "sh", "-c", script)
    assert done.stdout.startswith("bound-fit\ntmpfs")
    assert done.stderr.count("Read-only file system") == 2
    assert not (tmp_path / "x").exists()


# --- protection -------------------------------------------------------------------------------------


def test_seccomp(daemon: Daemon) -> None:
    """A user namespace needs no capability: only the filter forbids it."""
    script = "grep Seccomp: /proc/self/status; unshare -U true && echo made"
    done = daemon.docker("run", "--rm", "busybox", "sh", "-c", script)
    assert done.stdout == "Seccomp:\t2\n"
    assert "Operation not permitted" in done.stderr
    free = inside(daemon, script, "--security-opt", "seccomp=unconfined")
    assert free == "Seccomp:\t0\nmade"


def test_apparmor_is_there_and_in_nobodys_way(daemon: Daemon) -> None:
    assert Path("/sys/module/apparmor/parameters/enabled").read_text() == "Y\n"
    assert inside(daemon, "cat /proc/self/attr/current") == "unconfined"
    assert inside(daemon, "echo free", "--security-opt", "apparmor=unconfined") == "free"


def test_no_new_privileges(daemon: Daemon) -> None:
    script = "grep NoNewPrivs /proc/self/status"
    assert inside(daemon, script, "--security-opt", "no-new-privileges") == "NoNewPrivs:\t1"


def test_masked_paths(daemon: Daemon) -> None:
    script = "wc -c < /proc/kcore; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/pid_max"
    done = daemon.docker("run", "--rm", "busybox", "sh", "-c", script)
    assert done.stdout == "0\n0\n"
    assert "Read-only file system" in done.stderr


# --- network ----------------------------------------------------------------------------------------


@pytest.fixture
def outside() -> Iterator[str]:
    """A neighbour of this machine that knows no way to containers, with a web server: its address."""
    lines = (
        "netns add outside",
        "link add out0 type veth peer name out1 netns outside",
        "addr add 198.51.100.1/24 dev out0",
        "link set out0 up",
        "-n outside addr add 198.51.100.2/24 dev out1",
        "-n outside link set out1 up",
    )
    for line in lines:
        subprocess.run(["ip", *line.split()], check=True)
    pages = Path(os.environ["TMPDIR"], "pages")
    pages.mkdir(exist_ok=True)
    (pages / "page").write_text("from outside\n")
    server = subprocess.Popen(
        ["ip", "netns", "exec", "outside", "busybox", "httpd", "-f", "-p", "80", "-h", str(pages)]
    )
    yield "198.51.100.2"
    server.terminate()
    server.wait()
    subprocess.run(["ip", "link", "delete", "out0"])
    subprocess.run(["ip", "netns", "delete", "outside"])


def test_bridge(daemon: Daemon, outside: str) -> None:
    """Host, neighbour and the world behind this machine, where only masquerading brings an answer."""
    neighbour = daemon.ok("run", "-d", "busybox", "sleep", "600")
    network = json.loads(daemon.ok("inspect", "-f", "{{json .NetworkSettings.Networks.bridge}}", neighbour))
    for address in (network["Gateway"], network["IPAddress"]):
        daemon.ok("run", "--rm", "busybox", "ping", "-c", "1", "-W", "20", address)
    page = daemon.ok("run", "--rm", "busybox", "wget", "-q", "-O", "-", f"http://{outside}/page")
    assert page == "from outside"


def test_no_network(daemon: Daemon) -> None:
    assert inside(daemon, "ls /sys/class/net; ping -c 1 127.0.0.1 > /dev/null && echo up") == "lo\nup"


# --- the daemon's end -------------------------------------------------------------------------------


def test_sigkill_and_recovery(own_daemon: Daemon) -> None:
    """Lines and ends while no daemon is there are not lost."""
    daemon = own_daemon
    script = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i; done; sleep 2; exit 7"
    ends = daemon.ok("run", "-d", "--memory", "64m", "busybox", "sh", "-c", script)
    lives = daemon.ok("run", "-d", "busybox", "sleep", "600")
    daemon.stop(signal.SIGKILL)
    time.sleep(5)
    daemon.start()
    assert daemon.ok("wait", ends) == "7"
    assert daemon.ok("logs", ends).split() == [str(number) for number in range(1, 2001)]
    assert daemon.ok("inspect", "-f", "{{.State.Status}}", lives) == "running"
    daemon.ok("rm", "-f", ends, lives)


def test_service(own_daemon: Daemon) -> None:
    """As a service of systemd, with the settings that Docker's has: containers outlive SIGKILL and a restart
    of it."""
    daemon = own_daemon
    daemon.stop()
    unit = f"cloche-{daemon.name}.service"
    environment = {
        "PATH": f"{os.environ['PATH']}:{daemon.directory}",
        "PYTHONPATH": os.environ["PYTHONPATH"],
    }
    settings = ["Delegate=yes", "KillMode=process", "TasksMax=infinity", "Restart=always"]
    options = [f"--setenv={key}={value}" for key, value in environment.items()]
    options += [f"--property={text}" for text in (*settings, "RestartSec=100ms")]
    subprocess.run(["systemd-run", f"--unit={unit}", *options, *daemon.command()], check=True)
    try:
        main = wait_for(daemon, unit, "0")
        name = daemon.ok("run", "-d", "--memory", "64m", "busybox", "sleep", "600")
        subprocess.run(["systemctl", "kill", "--kill-whom=main", "-s", "KILL", unit], check=True)
        main = wait_for(daemon, unit, main)
        assert daemon.ok("inspect", "-f", "{{.State.Status}}", name) == "running"
        subprocess.run(["systemctl", "restart", unit], check=True)
        wait_for(daemon, unit, main)
        assert daemon.ok("inspect", "-f", "{{.State.Status}}", name) == "running"
        daemon.ok("rm", "-f", name)
    finally:
        subprocess.run(["systemctl", "stop", unit])


def wait_for(daemon: Daemon, unit: str, previous: str) -> str:
    """Until a service's daemon with another pid than the ``previous`` answers; its pid."""
    command = ["systemctl", "show", "-P", "MainPID", unit]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        pid = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        if pid not in ("0", previous) and daemon.ping():
            return pid
        time.sleep(0.2)
    raise AssertionError(f"{unit} did not come back:\n{subprocess.getoutput(f'journalctl -u {unit}')}")
