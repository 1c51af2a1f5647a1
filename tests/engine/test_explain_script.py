"""The script of ``explain --shell`` makes the container that Cloche made: the kernel's account of both."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Daemon

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
STATUS = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
LIMITS = (
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.max",
    "cpu.shares",
    "cpu.weight",
    "cpuset.cpus",
    "cpuset.mems",
    "devices.list",
    "memory.limit_in_bytes",
    "memory.max",
    "memory.memsw.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.swap.max",
    "pids.max",
)
PATIENCE = 20.0
"""Seconds until the script's program must run."""


class Account:
    """What the kernel says of a process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.proc = Path(f"/proc/{pid}")

    def namespaces(self) -> set[str]:
        """Kinds of which it has its own."""
        return {
            kind
            for kind in KINDS
            if os.readlink(self.proc / "ns" / kind) != os.readlink(f"/proc/self/ns/{kind}")
        }

    def mounts(self) -> list[tuple[str, ...]]:
        """(target, type, mount options, file system options), without what must differ, the upper layer, and
        what makes no difference: a read-only mount may have a file system that is read-only, too."""
        rows = []
        for line in (self.proc / "mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            target, options = before.split()[4:6]
            kind, _, data = after.split(" ", 2)
            if options.split(",")[0] == "ro":
                data = data.removeprefix("ro").removeprefix("rw")
            rows.append((target, kind, options, "" if kind == "overlay" else data))
        return sorted(rows)

    def status(self) -> dict[str, list[str]]:
        rows = (line.partition(":") for line in (self.proc / "status").read_text().splitlines())
        return {name: value.split() for name, _, value in rows if name in STATUS}

    def limits(self) -> dict[str, str]:
        """Of its cgroups, whatever the hierarchy is called."""
        found = {}
        mounts = dict(_cgroup_mounts())
        for line in (self.proc / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            directory = Path(mounts.get(controllers, "/nowhere") + path)
            for name in LIMITS:
                with contextlib.suppress(OSError):
                    found[name] = (directory / name).read_text()
        return found

    def others(self) -> dict[str, object]:
        return {
            "limits": (self.proc / "limits").read_text(),
            "oom": (self.proc / "oom_score_adj").read_text(),
            "command": (self.proc / "cmdline").read_bytes(),
            "environment": sorted((self.proc / "environ").read_bytes().split(b"\0")),
            "directory": os.readlink(self.proc / "cwd"),
            "hostname": self.inside("uts", "hostname"),
            "devices": sorted(
                (entry.name, os.stat(entry).st_rdev, entry.stat().st_mode)
                for entry in Path(self.proc / "root/dev").iterdir()
                if not entry.is_symlink()
            ),
        }

    def links(self) -> list[tuple[object, ...]]:
        """(name, state, addresses), and the routes."""
        links = json.loads(self.inside("net", "ip", "-j", "address"))
        rows: list[tuple[object, ...]] = [
            (link["ifname"], "UP" in link["flags"], [address["local"] for address in link["addr_info"]])
            for link in links
        ]
        routes = json.loads(self.inside("net", "ip", "-j", "route"))
        return [*rows, *((route["dst"], route.get("gateway"), route["dev"]) for route in routes)]

    def inside(self, kind: str, *command: str) -> str:
        done = subprocess.run(
            ["nsenter", f"--{kind}", "--target", str(self.pid), *command],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout


def _cgroup_mounts() -> Iterator[tuple[str, str]]:
    """Controllers as /proc/PID/cgroup names them, and where their hierarchy is mounted."""
    with open("/proc/self/mounts") as table:
        for line in table:
            _, target, kind, options, *_ = line.split()
            if kind == "cgroup2":
                yield "", target
            elif kind == "cgroup":
                plain = {"rw", "relatime", "nosuid", "nodev", "noexec", "xattr", "clone_children"}
                yield ",".join(option for option in options.split(",") if option not in plain), target


@contextlib.contextmanager
def running(script: Path, program: bytes) -> Iterator[Account]:
    """The script, and an account of the program that it runs."""
    process = subprocess.Popen(["sh", str(script)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield Account(_await_program(process, program))
    finally:
        # The program's end is the script's end, which then takes away what it made.
        for pid in reversed(_descendants(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)


def _await_program(process: subprocess.Popen[bytes], program: bytes) -> int:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            assert process.stderr is not None
            raise AssertionError(
                f"the script ended with {process.returncode}: {process.stderr.read().decode()}"
            )
        for pid in _descendants(process.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes() == program:
                    return pid
        time.sleep(0.02)
    raise AssertionError("the script's program does not run")


def _descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(child), *_descendants(int(child))]
    return found


@pytest.mark.parametrize(
    "options",
    [
        (),
        (
            "--network",
            "none",
            "--memory",
            "64m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "50",
            "--cpu-shares",
            "512",
        ),
        (
            "--network",
            "none",
            "--user",
            "1000:1000",
            "--group-add",
            "7",
            "--cap-drop",
            "ALL",
            "-w",
            "/made/here",
        ),
        ("--network", "none", "--cap-add", "SYS_ADMIN", "--cap-drop", "NET_RAW", "--hostname", "boxy"),
        ("--network", "none", "--tmpfs", "/t:size=1m,mode=700", "--read-only", "--shm-size", "1m"),
        ("--network", "none", "-v", "/usr/share:/shared:ro", "-e", "A=b c", "--ulimit", "nofile=100:200"),
        ("--network", "none", "--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"),
        ("--network", "none", "--privileged"),
        ("--network", "host", "--pid", "host", "--uts", "host", "--ipc", "host"),
    ],
    ids=" ".join,
)
def test_the_script_makes_the_same_container(
    daemon: Daemon, tmp_path: Path, options: tuple[str, ...]
) -> None:
    container = daemon.ok("run", "-d", *options, "busybox", "sleep", "1000")
    status, body = daemon.request("GET", f"/containers/{container}/explain?format=shell")
    assert status == 200, body
    script = tmp_path / "script"
    script.write_bytes(body)
    ours = Account(int(daemon.ok("inspect", "-f", "{{.State.Pid}}", container)))
    with running(script, b"sleep\x001000\0") as theirs:
        assert theirs.namespaces() == ours.namespaces()
        assert theirs.mounts() == ours.mounts()
        assert theirs.status() == ours.status()
        assert theirs.limits() == ours.limits()
        assert theirs.others() == ours.others()
        if "net" in ours.namespaces():
            assert theirs.links() == ours.links()
    assert not [name for name in os.listdir("/sys/class/net") if name.startswith("script")]
