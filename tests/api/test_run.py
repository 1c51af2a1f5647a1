"""``docker run`` by the real command: output, exit codes, and what the options do inside."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess

import pytest

from tests.conftest import Daemon


def test_echo(daemon: Daemon) -> None:
    assert daemon.ok("run", "--rm", "busybox", "echo", "hi") == "hi"
    assert daemon.containers() == []


def test_streams_are_kept_apart(daemon: Daemon) -> None:
    done = daemon.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_code(daemon: Daemon, code: int) -> None:
    assert daemon.docker("run", "--rm", "busybox", "sh", "-c", f"exit {code}").returncode == code


def test_death_by_signal(daemon: Daemon) -> None:
    script = "sh -c 'kill -9 $$'; exit $?"
    assert daemon.docker("run", "--rm", "busybox", "sh", "-c", script).returncode == 137
    name = daemon.ok("run", "-d", "busybox", "sleep", "60")
    daemon.ok("kill", "-s", "KILL", name)
    assert daemon.ok("wait", name) == "137"


def test_program_not_found(daemon: Daemon) -> None:
    done = daemon.docker("run", "--rm", "busybox", "no-such-program")
    assert done.returncode == 127
    assert "no-such-program" in done.stderr


def test_program_not_executable(daemon: Daemon) -> None:
    assert daemon.docker("run", "--rm", "busybox", "/etc/hostname").returncode == 126


def test_failed_start_leaves_a_created_container(daemon: Daemon) -> None:
    daemon.docker("run", "--name", "broken", "busybox", "no-such-program")
    state = json.loads(daemon.ok("inspect", "-f", "{{json .State}}", "broken"))
    assert (state["Status"], state["ExitCode"]) == ("created", 127)
    assert "no-such-program" in state["Error"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-image",),
        ("--memory", "1k", "busybox"),
        ("-v", "volume:/v", "busybox"),
        ("-p", "80:80", "busybox"),
        ("--restart", "always", "busybox"),
        ("--network", "no-such-network", "busybox"),
        ("--cap-add", "NO_SUCH_CAP", "busybox"),
        ("--platform", "linux/s390x", "busybox"),
    ],
)
def test_refused_by_the_daemon(daemon: Daemon, arguments: tuple[str, ...]) -> None:
    done = daemon.docker("run", *arguments)
    assert done.returncode == 125
    assert "docker: Error response from daemon: " in done.stderr
    assert daemon.containers() == []


def test_stdin_to_the_end(daemon: Daemon) -> None:
    data = "line\n" * 100_000
    assert daemon.ok("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end", input=data) == data + "end"


def test_stdin_is_empty_without_i(daemon: Daemon) -> None:
    assert daemon.ok("run", "--rm", "busybox", "sh", "-c", "cat; echo end", input="lost") == "end"


def test_environment_directory_and_user(daemon: Daemon) -> None:
    script = "echo $A-$HOME; pwd; id"
    out = daemon.ok(
        "run", "--rm", "-e", "A=1", "-w", "/new/dir", "-u", "1000:7", "busybox", "sh", "-c", script
    )
    lines = out.splitlines()
    assert lines[:2] == ["1-/", "/new/dir"]
    assert lines[2].startswith("uid=1000")
    assert "gid=7" in lines[2]


def test_unknown_user(daemon: Daemon) -> None:
    done = daemon.docker("run", "--rm", "-u", "nobody-knows", "busybox", "true")
    assert done.returncode in (125, 126)
    assert "nobody-knows" in done.stderr


def test_hostname(daemon: Daemon) -> None:
    assert daemon.ok("run", "--rm", "-h", "box", "busybox", "hostname") == "box"
    name = daemon.ok("run", "-d", "busybox", "hostname")
    daemon.ok("wait", name)
    assert daemon.ok("logs", name) == name[:12]


def test_entrypoint(daemon: Daemon) -> None:
    assert daemon.ok("run", "--rm", "--entrypoint", "echo", "busybox", "a", "b") == "a b"
    assert daemon.ok("run", "--rm", "--entrypoint", "", "busybox", "echo", "c") == "c"


def test_read_only_and_tmpfs(daemon: Daemon) -> None:
    done = daemon.docker("run", "--rm", "--read-only", "busybox", "touch", "/x")
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    script = "echo ok > /t/x && cat /t/x && df -k /t | tail -1 | awk '{print $2}'"
    arguments = ("--read-only", "--tmpfs", "/t:size=1m", "busybox", "sh", "-c", script)
    assert daemon.ok("run", "--rm", *arguments).splitlines() == ["ok", "1024"]


def _effective(daemon: Daemon, *options: str) -> int:
    line = daemon.ok("run", "--rm", *options, "busybox", "grep", "CapEff", "/proc/self/status")
    return int(line.split()[1], 16)


def test_capabilities(daemon: Daemon) -> None:
    assert _effective(daemon) == 0xA80425FB
    assert _effective(daemon, "--cap-drop", "ALL") == 0
    assert _effective(daemon, "--cap-drop", "ALL", "--cap-add", "NET_ADMIN") == 1 << 12
    with open("/proc/self/status") as status:
        ours = next(int(line.split()[1], 16) for line in status if line.startswith("CapBnd"))
    # All that the daemon itself has: the machine may be confined too.
    assert _effective(daemon, "--privileged") == ours


def test_privileged_sees_devices_and_no_filter(daemon: Daemon) -> None:
    script = "grep Seccomp: /proc/self/status; ls /dev | wc -l"
    plain = daemon.ok("run", "--rm", "busybox", "sh", "-c", script).split()
    free = daemon.ok("run", "--rm", "--privileged", "busybox", "sh", "-c", script).split()
    assert (plain[1], free[1]) == ("2", "0")
    assert int(free[2]) > int(plain[2])


def test_init_reaps(daemon: Daemon) -> None:
    assert "init" in daemon.ok("run", "--rm", "--init", "busybox", "cat", "/proc/1/cmdline").replace(
        "\0", " "
    )
    assert daemon.docker("run", "--rm", "--init", "busybox", "sh", "-c", "exit 3").returncode == 3
    assert daemon.ok("run", "--rm", "--init", "busybox", "ls", "/proc/1/fd").split() == ["0", "1", "2"]
    name = daemon.ok("run", "-d", "--init", "busybox", "sleep", "60")
    daemon.ok("stop", "-t", "10", name, timeout=5)
    # The signal reaches the program through init, which then hands its end on.
    assert daemon.ok("wait", name) == "143"


def test_name_conflict(daemon: Daemon) -> None:
    daemon.ok("create", "--name", "taken", "busybox")
    done = daemon.docker("run", "--name", "taken", "busybox")
    assert done.returncode == 125
    assert 'name "/taken" is already in use' in done.stderr
    body = json.dumps({"Image": "busybox"}).encode()
    status, _ = daemon.request(
        "POST", "/containers/create?name=taken", body, **{"Content-Type": "application/json"}
    )
    assert status == 409


def test_network_modes(daemon: Daemon) -> None:
    assert daemon.ok("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net") == "lo"
    assert "eth0" in daemon.ok("run", "--rm", "busybox", "ls", "/sys/class/net").split()
    before = os.listdir("/sys/class/net")
    inside = daemon.ok("run", "--rm", "--network", "host", "busybox", "ls", "/sys/class/net").split()
    # The last container's link goes after the answer.
    assert set(before) & set(os.listdir("/sys/class/net")) <= set(inside)


def test_bridge_reaches_the_host(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "busybox", "sleep", "60")
    network = json.loads(daemon.ok("inspect", "-f", "{{json .NetworkSettings.Networks.bridge}}", name))
    script = f"ping -c 1 -W 2 {network['Gateway']} > /dev/null && echo reached"
    assert daemon.ok("run", "--rm", "busybox", "sh", "-c", script) == "reached"


def test_500_megabytes_are_intact(daemon: Daemon) -> None:
    """Numbered blocks of a known sum: nothing lost, doubled or reordered."""
    script = (
        "i=0; while [ $i -lt 50 ]; do i=$((i+1)); printf %08d $i; "
        "dd if=/dev/zero bs=1M count=10 2>/dev/null; done"
    )
    expected, size = hashlib.sha256(), 0
    zeros = bytes(10 << 20)
    for number in range(1, 51):
        expected.update(b"%08d" % number)
        expected.update(zeros)
        size += 8 + len(zeros)
    arguments = ["docker", "run", "--rm", "--log-driver", "none", "busybox", "sh", "-c", script]
    with subprocess.Popen(arguments, env=daemon.environment, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        actual, received = hashlib.sha256(), 0
        while chunk := run.stdout.read(1 << 20):
            actual.update(chunk)
            received += len(chunk)
    assert run.returncode == 0
    assert received == size
    assert actual.digest() == expected.digest()


def test_a_missing_image_is_told_with_the_way_to_get_one(daemon: Daemon) -> None:
    done = daemon.docker("run", "--rm", "nosuch", "true")
    assert done.returncode == 125
    assert done.stderr.startswith("Unable to find image 'nosuch:latest' locally\n")
    assert "No such image: nosuch:latest, and Cloche does not pull" in done.stderr
    assert "docker load -i" in done.stderr


def test_a_missing_network_is_no_missing_image(daemon: Daemon) -> None:
    """To the docker command a 404 at create means that it has to pull."""
    for network, words in (("mine", "network mine not found"), ("container:no", "No such container: no")):
        done = daemon.docker("run", "--rm", "--network", network, "busybox", "true")
        assert done.returncode == 125
        assert words in done.stderr
        assert "Unable to find image" not in done.stderr
