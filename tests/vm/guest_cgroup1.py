"""In a virtual machine under systemd with cgroup v1: hierarchies with several controllers, and one of
systemd's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Daemon
from tests.vm.guest_engine import inside


def hierarchies() -> dict[str, list[str]]:
    """Directory of each v1 hierarchy of this machine, and its controllers."""
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, _ = line.split(":", 2)
        if controllers:
            name = controllers.removeprefix("name=")
            found[name] = name.split(",")
    return found


def test_the_machine_mounts_controllers_together() -> None:
    assert {"cpu,cpuacct", "net_cls,net_prio", "systemd"} <= set(hierarchies())


@pytest.mark.parametrize("namespace", ["private", "host"])
def test_a_container_sees_its_own_cgroup_in_each(daemon: Daemon, namespace: str) -> None:
    """Also through the links that name one controller of several."""
    script = "cd /sys/fs/cgroup && for name in *; do echo $name $(cat $name/cgroup.procs); done"
    lines = inside(daemon, script, "--cgroupns", namespace).splitlines()
    expected = set(hierarchies()) | {name for names in hierarchies().values() for name in names}
    assert {line.split()[0] for line in lines} == expected
    # Its own process 1 and at times the shell's child; the host's cgroups would show more, and zeros.
    assert all(line.split()[1] == "1" and len(line.split()) <= 3 for line in lines), lines


def test_own_directories_on_the_host(daemon: Daemon) -> None:
    id = daemon.ok("run", "-d", "--cpus", "0.5", "busybox", "sleep", "600")
    pid = daemon.ok("inspect", "-f", "{{.State.Pid}}", id)
    for name in hierarchies():
        leaf = Path("/sys/fs/cgroup", name, daemon.name, id)
        assert (leaf / "cgroup.procs").read_text() == f"{pid}\n", leaf
    assert Path("/sys/fs/cgroup/cpuacct", daemon.name, id, "cpu.cfs_quota_us").read_text() == "50000\n"


def test_read_only_inside(daemon: Daemon) -> None:
    script = "mkdir /sys/fs/cgroup/x; mkdir /sys/fs/cgroup/cpu/x; grep -c 'cgroup.* ro,' /proc/mounts"
    done = daemon.docker("run", "--rm", "busybox", "sh", "-c", script)
    assert done.stderr.count("Read-only file system") == 2
    assert int(done.stdout) == len(hierarchies()) + 1
