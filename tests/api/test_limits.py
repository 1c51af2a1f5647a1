"""Resource limits: they hold, and the numbers inside the cgroup are those asked for."""

from __future__ import annotations

import json
import time

from tests.conftest import Daemon


def test_out_of_memory(daemon: Daemon) -> None:
    began = time.time()
    done = daemon.docker(
        "run", "--name", "hungry", "--memory", "32m", "busybox", "sh", "-c", "exec tail /dev/zero"
    )
    assert done.returncode == 137
    state = json.loads(daemon.ok("inspect", "-f", "{{json .State}}", "hungry"))
    assert (state["OOMKilled"], state["ExitCode"], state["Status"]) == (True, 137, "exited")
    span = ("--since", f"{began:.9f}", "--until", f"{time.time():.9f}")
    events = daemon.ok("events", *span, "--filter", "container=hungry")
    assert " container oom " in events


def test_not_out_of_memory(daemon: Daemon) -> None:
    daemon.docker("run", "--name", "killed", "--memory", "32m", "busybox", "sh", "-c", "kill -9 $$")
    assert daemon.ok("inspect", "-f", "{{.State.OOMKilled}}", "killed") == "false"


def test_limits_are_shown_as_asked(daemon: Daemon) -> None:
    daemon.ok("create", "--name", "ll", "--memory", "64m", "--cpus", "1.5", "--pids-limit", "7", "busybox")
    host = json.loads(daemon.ok("inspect", "-f", "{{json .HostConfig}}", "ll"))
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 1_500_000_000, 7)


def test_pids_limit(daemon: Daemon) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait"
    done = daemon.docker("run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", script)
    assert "can't fork" in done.stderr


def test_cpus(daemon: Daemon) -> None:
    script = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max"
    assert daemon.ok("run", "--rm", "--cpus", "0.5", "busybox", "sh", "-c", script) == "50000"


def test_memory_inside(daemon: Daemon) -> None:
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    assert daemon.ok("run", "--rm", "-m", "48m", "busybox", "sh", "-c", script) == str(48 << 20)


def test_ulimit(daemon: Daemon) -> None:
    assert (
        daemon.ok("run", "--rm", "--ulimit", "nofile=123:456", "busybox", "sh", "-c", "ulimit -n") == "123"
    )


def test_too_small_memory_is_refused(daemon: Daemon) -> None:
    done = daemon.docker("create", "--memory", "4m", "busybox")
    assert done.returncode == 1
    assert "6MB" in done.stderr


def test_docker_statuses_of_a_failed_start(daemon: Daemon) -> None:
    """A program that is not there is the request's fault; what else fails is the machine's."""
    killing = 'seccomp={"defaultAction":"SCMP_ACT_KILL_PROCESS"}'
    for name, options, command, expected, words in (
        ("program", (), "/nope", 400, "no such file or directory"),
        ("user", ("-u", "nosuch"), "true", 500, "unable to find user nosuch"),
        ("limit", ("--pids-limit", "4194305"), "true", 500, "the kernel refuses this value"),
    ):
        daemon.ok("create", "--name", name, *options, "busybox", command)
        status, body = daemon.request("POST", f"/containers/{name}/start")
        assert (status, words in body.decode()) == (expected, True), body
    host = {"SecurityOpt": [killing]}
    body = json.dumps({"Image": "busybox", "Cmd": ["true"], "HostConfig": host}).encode()
    daemon.request("POST", "/containers/create?name=killed", body, **{"Content-Type": "application/json"})
    status, answer = daemon.request("POST", "/containers/killed/start")
    assert status == 500
    assert "process: init ended before the program was started: signal 31 (the seccomp" in answer.decode()
