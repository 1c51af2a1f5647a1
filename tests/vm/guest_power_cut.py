"""In a virtual machine whose power is cut after ``before`` and after ``between``: what was answered stays.

Nothing is synced before that: what counts is what the engine made durable itself."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from cloche.state.store import SYNC_SECONDS
from tests.conftest import Daemon
from tests.vm.layers import layered

DIRECTORY = Path("/var/lib/cloche-power")
CONTENT = "sha256sum /bin/busybox /layers/*"


def machine_daemon() -> Daemon:
    """The same daemon before and after; its root is on the disk."""
    DIRECTORY.mkdir(exist_ok=True)
    daemon = Daemon(DIRECTORY)
    daemon.name = "power"
    return daemon


def test_before() -> None:
    daemon = machine_daemon()
    daemon.start()
    assert daemon.request("POST", "/images/default")[0] == 200
    done = daemon.ok("run", "-d", "--name", "done", "busybox", "sh", "-c", "echo a line; exit 7")
    assert daemon.ok("wait", done) == "7"
    script = "echo kept > /kept; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"
    daemon.ok("run", "-d", "--name", "running", "--memory", "64m", "busybox", "sh", "-c", script)
    daemon.ok("run", "-d", "--rm", "--name", "passing", "busybox", "sleep", "600")
    layered(daemon, "layers:5", 5, DIRECTORY / "image.tar")
    content = daemon.ok("run", "--rm", "layers:5", "sh", "-c", CONTENT)
    state = {
        "content": hashlib.sha256(content.encode()).hexdigest(),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text(),
    }
    with open(DIRECTORY / "state", "w") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    daemon.ok("run", "-d", "--name", "late", "busybox", "sleep", "600")
    # That a container was started is not yet on the disk when it is answered, but soon.
    time.sleep(SYNC_SECONDS + 5)


def test_between() -> None:
    daemon = machine_daemon()
    daemon.start()
    state = json.loads(daemon.ok("inspect", "-f", "{{json .State}}", "late"))
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)
    assert "restarted" in state["Error"]
    daemon.ok("rm", "late")
    # The last words before the cut: an image and a container that were only just acknowledged.
    layered(daemon, "layers:2", 2, DIRECTORY / "image.tar")
    daemon.ok("create", "--name", "created", "--memory", "48m", "layers:2", "cat", "/layers/newest")


def test_after() -> None:
    daemon = machine_daemon()
    state = json.loads((DIRECTORY / "state").read_text())
    assert Path("/proc/sys/kernel/random/boot_id").read_text() != state["boot"]
    daemon.start()
    try:
        check(daemon, state["content"])
    finally:
        print(daemon.log())
        daemon.remove_containers()
        left = daemon.discard()
    assert left == []


def check(daemon: Daemon, content: str) -> None:
    rows = daemon.ok("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines()
    assert sorted(rows) == ["created created", "done exited", "running exited"]
    assert daemon.ok("inspect", "-f", "{{.State.ExitCode}}", "done") == "7"
    running = json.loads(daemon.ok("inspect", "-f", "{{json .State}}", "running"))
    assert (running["ExitCode"], running["Pid"], running["Running"]) == (137, 0, False)
    assert "restarted" in running["Error"]
    images = set(daemon.ok("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines())
    assert images == {"busybox:latest", "layers:5", "layers:2"}
    found = daemon.ok("run", "--rm", "layers:5", "sh", "-c", CONTENT)
    assert hashlib.sha256(found.encode()).hexdigest() == content
    assert daemon.ok("start", "-a", "created") == "1"
    lines = daemon.ok("logs", "running").splitlines()
    assert lines == [f"line {number + 1}" for number in range(len(lines))]
    # What a container wrote is its own affair to sync; the container itself starts again.
    daemon.ok("start", "running")
    assert daemon.ok("inspect", "-f", "{{.State.Status}} {{.State.Error}}", "running") == "running "
    daemon.ok("rm", "-f", "running")
    assert daemon.ok("run", "--rm", "busybox", "echo", "goes on") == "goes on"
    everything = daemon.ok("images", "-q").split()
    daemon.ok("rm", "-f", *daemon.containers())
    daemon.ok("rmi", "-f", *everything)
    assert daemon.ok("images", "-q") == ""
