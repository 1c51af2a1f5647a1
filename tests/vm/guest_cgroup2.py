"""In a virtual machine under systemd with cgroup v2 alone: the hierarchy, as host and container see it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, Daemon
from tests.vm.guest_engine import inside, values

ROOT = Path("/sys/fs/cgroup")


class Running:
    """A container with limits of every kind."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        options = ("--memory", "32m", "--memory-swap", "32m", "--memory-reservation", "16m", "--cpus", "0.5")
        options += ("--cpu-shares", "2048", "--pids-limit", "9", "--cpuset-cpus", "0", "--cpuset-mems", "0")
        self.id = daemon.ok("run", "-d", *options, "busybox", "sleep", "600")
        self.pid = daemon.ok("inspect", "-f", "{{.State.Pid}}", self.id)
        self.leaf = ROOT / daemon.name / self.id

    def read(self, name: str) -> str:
        return (self.leaf / name).read_text().strip()


@pytest.fixture
def running(daemon: Daemon) -> Running:
    return Running(daemon)


def test_files(running: Running) -> None:
    expected = {
        "memory.max": str(32 << 20),
        "memory.swap.max": "0",
        "memory.low": str(16 << 20),
        "cpu.max": "50000 100000",
        "cpu.weight": "174",
        "pids.max": "9",
        "cpuset.cpus": "0",
        "cpuset.cpus.effective": "0",
        "cpuset.mems": "0",
        "cgroup.procs": running.pid,
        "cgroup.subtree_control": "",
    }
    assert {name: running.read(name) for name in expected} == expected
    assert values(running.read("memory.events"))["oom_kill"] == 0


def test_controllers_come_down_from_the_root(running: Running) -> None:
    wanted = {"cpu", "cpuset", "io", "memory", "pids"}
    parent = running.leaf.parent
    for directory in (ROOT, parent):
        assert wanted <= set((directory / "cgroup.subtree_control").read_text().split())
    assert wanted <= set(running.read("cgroup.controllers").split())
    # A cgroup with controllers for its children may have no process itself.
    assert (parent / "cgroup.procs").read_text() == ""


def test_born_in_its_cgroup(running: Running) -> None:
    """CLONE_INTO_CGROUP: no process is moved, which would wait for the kernel's RCU."""
    status, body = running.daemon.request("GET", f"/containers/{running.id}/explain?format=json")
    assert status == 200
    steps = {step["step"]: step["arguments"] for step in json.loads(body)["host"]}
    assert steps["Clone"]["cgroup"] == str(running.leaf)
    assert "AttachCgroups" not in steps
    assert Path(f"/proc/{running.pid}/cgroup").read_text() == f"0::/{running.daemon.name}/{running.id}\n"


def test_the_mount_inside(daemon: Daemon) -> None:
    script = (
        "grep ' /sys/fs/cgroup ' /proc/self/mountinfo; cat /proc/self/cgroup; cat /sys/fs/cgroup/memory.max;"
        " echo max > /sys/fs/cgroup/memory.max"
    )
    done = daemon.docker("run", "--rm", "-m", "40m", "busybox", "sh", "-c", script)
    mount, own, memory = done.stdout.splitlines()
    # Field 4 is the mount's root: the container's own cgroup.
    assert mount.split()[3] == "/"
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(mount.split()[5].split(","))
    assert " - cgroup2 " in mount
    assert (own, memory) == ("0::/", str(40 << 20))
    assert "Read-only file system" in done.stderr


def test_private_and_host_namespace(daemon: Daemon) -> None:
    own = inside(daemon, "cat /proc/self/cgroup", "--cgroupns", "host")
    assert own.startswith(f"0::/{daemon.name}/")


def test_nested_cgroups_are_removed(daemon: Daemon) -> None:
    """A privileged container makes cgroups of its own, and leaves processes in them."""
    script = (
        "mkdir -p /sys/fs/cgroup/a/b && sh -c 'echo $$ > /sys/fs/cgroup/a/b/cgroup.procs; sleep 600 & true'"
        " && cat /sys/fs/cgroup/a/b/cgroup.procs | wc -l"
    )
    assert inside(daemon, script, "--privileged") == "1"
    # They go a moment after the end is told.
    deadline = time.monotonic() + PATIENCE
    while (left := [path for path in (ROOT / daemon.name).iterdir() if path.is_dir()]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    assert left == []


def test_pressure_of_all_processes_of_a_container(daemon: Daemon) -> None:
    """A child that is killed for memory is an OOM of the container too, and the container goes on."""
    script = "tail /dev/zero; sleep 1; echo $?; cat /sys/fs/cgroup/memory.events"
    done = daemon.docker("run", "--name", "parent", "-m", "32m", "busybox", "sh", "-c", script)
    assert done.returncode == 0
    assert values("\n".join(done.stdout.splitlines()[1:]))["oom_kill"] == 1
    assert daemon.ok("inspect", "-f", "{{.State.OOMKilled}}", "parent") == "true"


def test_no_process_is_left_of_the_host_pid_namespace(daemon: Daemon) -> None:
    """Without a pid namespace nothing ends with init by itself: the cgroup's own kill does."""
    script = "sleep 601 & sleep 602 & sleep 1"
    daemon.ok("run", "--rm", "--pid", "host", "busybox", "sh", "-c", script)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            assert not command.startswith(b"sleep\x0060"), command
