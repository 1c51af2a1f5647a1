"""create, start, stop, kill, restart, wait, rename, rm, ps, top, events."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from tests.conftest import Daemon


def test_detached(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "--name", "dd", "busybox", "sleep", "60")
    assert len(name) == 64
    row = json.loads(daemon.ok("ps", "--no-trunc", "--format", "json"))
    assert (row["ID"], row["Names"], row["Image"], row["State"]) == (name, "dd", "busybox", "running")
    assert row["Status"].startswith("Up ")
    assert row["Command"] == '"sleep 60"'
    assert daemon.ok("inspect", "-f", "{{.State.Running}} {{.Path}} {{.Args}}", "dd") == "true sleep [60]"


def test_stop_asks_first(daemon: Daemon) -> None:
    script = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", script)
    _until_logged(daemon, name, "up")
    daemon.ok("stop", name)
    assert daemon.ok("inspect", "-f", "{{.State.ExitCode}} {{.State.Status}}", name) == "5 exited"
    assert "bye" in daemon.ok("logs", name)


def test_stop_kills_after_the_grace_time(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "busybox", "sleep", "60")
    began = time.monotonic()
    daemon.ok("stop", "-t", "1", name)
    assert 1 <= time.monotonic() - began < 4
    assert daemon.ok("inspect", "-f", "{{.State.ExitCode}}", name) == "137"
    # Stopping what is stopped is no error.
    daemon.ok("stop", name)


def _until_logged(daemon: Daemon, name: str, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in daemon.ok("logs", name):
        assert time.monotonic() < deadline, f"{text!r} never came"
        time.sleep(0.05)


def test_kill_with_a_signal(daemon: Daemon) -> None:
    script = "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done"
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", script)
    _until_logged(daemon, name, "up")
    daemon.ok("kill", "-s", "USR1", name)
    assert daemon.ok("wait", name) == "9"
    done = daemon.docker("kill", name)
    assert done.returncode == 1
    assert "is not running" in done.stderr


def test_start_again(daemon: Daemon) -> None:
    daemon.ok("create", "--name", "again", "busybox", "sh", "-c", "echo round; cat /count; echo x >> /count")
    assert daemon.ok("start", "-a", "again").splitlines()[0] == "round"
    # The writable layer stays between runs.
    assert daemon.ok("start", "-a", "again").splitlines() == ["round", "x"]
    assert daemon.ok("logs", "again").splitlines().count("round") == 2


def test_restart(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "busybox", "sleep", "60")
    before = daemon.ok("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", name)
    daemon.ok("restart", "-t", "0", name)
    after = daemon.ok("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", name)
    assert before != after
    assert daemon.ok("inspect", "-f", "{{.State.Running}}", name) == "true"


def test_wait_while_running(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", "sleep 0.5; exit 7")
    assert daemon.ok("wait", name) == "7"
    assert daemon.ok("wait", name) == "7"


def test_rename(daemon: Daemon) -> None:
    name = daemon.ok("create", "--name", "old", "busybox")
    daemon.ok("rename", "old", "new")
    assert daemon.ok("inspect", "-f", "{{.Id}} {{.Name}}", "new") == f"{name} /new"
    assert daemon.docker("inspect", "old").returncode == 1


def test_remove_running_needs_force(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "busybox", "sleep", "60")
    done = daemon.docker("rm", name)
    assert done.returncode == 1
    assert "running" in done.stderr
    daemon.ok("rm", "-f", name)
    assert daemon.containers() == []
    done = daemon.docker("inspect", name)
    assert "No such" in done.stderr


def test_removed_by_rm_also_after_a_crash(daemon: Daemon) -> None:
    run = subprocess.Popen(
        ["docker", "run", "--rm", "--name", "gone", "busybox", "sleep", "60"],
        env=daemon.environment,
        stdin=subprocess.DEVNULL,
    )
    _until_running(daemon, "gone")
    # The client dies; the container ends later and is removed all the same.
    run.kill()
    run.wait()
    daemon.ok("kill", "gone")
    deadline = time.monotonic() + 5
    while daemon.containers():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _until_running(daemon: Daemon, name: str) -> None:
    deadline = time.monotonic() + 10
    while daemon.docker("inspect", "-f", "{{.State.Running}}", name).stdout.strip() != "true":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ps_filters(daemon: Daemon) -> None:
    one = daemon.ok("run", "-d", "--name", "one", "--label", "tier=web", "busybox", "sleep", "60")
    two = daemon.ok("create", "--name", "two", "--label", "tier=db", "busybox")
    daemon.ok("run", "--name", "three", "busybox", "true")

    def names(*filters: str) -> list[str]:
        arguments = [word for text in filters for word in ("--filter", text)]
        return sorted(daemon.ok("ps", "-a", "--format", "{{.Names}}", *arguments).split())

    assert names() == ["one", "three", "two"]
    assert names("status=running") == ["one"]
    assert names("status=created", "status=exited") == ["three", "two"]
    assert names("exited=0") == ["three"]
    assert names("label=tier") == ["one", "two"]
    assert names("label=tier=db") == ["two"]
    assert names("name=t") == ["three", "two"]
    assert names(f"id={one[:12]}") == ["one"]
    assert names("ancestor=busybox") == ["one", "three", "two"]
    assert names(f"before={two}") == ["one"]
    assert names(f"since={two}") == ["three"]
    assert daemon.ok("ps", "-q", "--no-trunc") == one
    assert daemon.ok("ps", "-lq", "--no-trunc") == daemon.ok("inspect", "-f", "{{.Id}}", "three")
    assert "invalid filter" in daemon.docker("ps", "--filter", "colour=red").stderr


def test_size(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", "dd if=/dev/zero of=/x bs=1M count=3; sleep 60")
    deadline = time.monotonic() + 10
    while int(daemon.ok("inspect", "-s", "-f", "{{.SizeRw}}", name)) < 3 << 20:
        assert time.monotonic() < deadline
    assert "MB (virtual" in daemon.ok("ps", "-s", "--format", "{{.Size}}")


def test_top(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "busybox", "sleep", "61")
    assert "sleep 61" in daemon.ok("top", name)
    assert daemon.ok("top", name, "-o", "pid,comm").splitlines()[1].split()[1] == "sleep"


def test_events(daemon: Daemon) -> None:
    began = time.time()
    done = daemon.docker("run", "--rm", "--name", "ev", "--label", "a=b", "busybox", "sh", "-c", "exit 3")
    assert done.returncode == 3
    span = ("--since", f"{began:.9f}", "--until", f"{time.time() + 0.2:.9f}")
    lines = daemon.ok("events", *span, "--filter", "container=ev", "--format", "{{json .}}")
    events = [json.loads(line) for line in lines.splitlines()]
    actions = [event["Action"] for event in events]
    assert [a for a in actions if a in ("create", "attach", "start", "die", "destroy")] == [
        "create",
        "attach",
        "start",
        "die",
        "destroy",
    ]
    died = next(event for event in events if event["Action"] == "die")
    attributes = died["Actor"]["Attributes"]
    assert attributes["exitCode"] == "3"
    assert (attributes["name"], attributes["image"], attributes["a"]) == ("ev", "busybox", "b")
    assert [event["timeNano"] for event in events] == sorted(event["timeNano"] for event in events)


def test_live_events(daemon: Daemon) -> None:
    with subprocess.Popen(
        ["docker", "events", "--filter", "event=create", "--format", "{{.Actor.Attributes.name}}"],
        env=daemon.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as listening:
        time.sleep(0.3)
        daemon.ok("create", "--name", "seen", "busybox")
        assert listening.stdout is not None
        assert listening.stdout.readline() == "seen\n"
        listening.kill()


def test_inspect_has_what_clients_read(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "--name", "ii", "-v", "/etc/os-release:/o:ro", "busybox", "sleep", "60")
    shown = json.loads(daemon.ok("inspect", "ii"))[0]
    assert shown["Id"] == name
    assert shown["Name"] == "/ii"
    assert shown["State"]["StartedAt"].endswith("Z")
    assert shown["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert shown["LogPath"].endswith(f"{name}-json.log")
    assert shown["GraphDriver"]["Name"] == "overlay2"
    assert shown["Mounts"] == [
        {
            "Type": "bind",
            "Source": "/etc/os-release",
            "Destination": "/o",
            "Mode": "ro",
            "RW": False,
            "Propagation": "rprivate",
        }
    ]
    bridge = shown["NetworkSettings"]["Networks"]["bridge"]
    assert bridge["IPAddress"] == shown["NetworkSettings"]["IPAddress"] != ""
    assert bridge["NetworkID"] == json.loads(daemon.ok("network", "inspect", "bridge"))[0]["Id"]
    assert shown["Config"]["Cmd"] == ["sleep", "60"]
    assert shown["HostConfig"]["NetworkMode"] == "bridge"
    with open(f"/proc/{shown['State']['Pid']}/cmdline") as file:
        assert file.read() == "sleep\0" + "60\0"


@pytest.mark.parametrize(
    "verb", ["start", "stop", "kill", "restart", "wait", "logs", "top", "inspect", "rm"]
)
def test_unknown_container(daemon: Daemon, verb: str) -> None:
    done = daemon.docker(verb, "no-such-container")
    assert done.returncode == 1
    assert "no-such-container" in done.stderr
