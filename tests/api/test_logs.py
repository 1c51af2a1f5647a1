"""``docker logs``: order, tail, times, follow, and much of it."""

from __future__ import annotations

import hashlib
import subprocess
import time

from tests.conftest import Daemon


def _ran(daemon: Daemon, script: str, *options: str) -> str:
    name = daemon.ok("run", "-d", *options, "busybox", "sh", "-c", script)
    daemon.ok("wait", name)
    return name


def test_both_streams(daemon: Daemon) -> None:
    name = _ran(daemon, "echo out; echo err >&2")
    done = daemon.docker("logs", name)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_tail(daemon: Daemon) -> None:
    name = _ran(daemon, "seq 1 100")
    assert daemon.ok("logs", "--tail", "3", name).split() == ["98", "99", "100"]
    assert daemon.ok("logs", "-n", "0", name) == ""
    assert daemon.ok("logs", name).split() == [str(n) for n in range(1, 101)]


def test_times(daemon: Daemon) -> None:
    name = _ran(daemon, "echo a; sleep 1.2; echo b")
    lines = daemon.ok("logs", "-t", name).splitlines()
    (first, a), (second, b) = (line.split(" ") for line in lines)
    assert (a, b) == ("a", "b")
    assert first < second
    assert first.endswith("Z")
    assert daemon.ok("logs", "--since", second, name) == "b"
    assert daemon.ok("logs", "--until", first, name) == "a"


def test_last_line_without_newline(daemon: Daemon) -> None:
    assert daemon.docker("logs", _ran(daemon, "printf 'a\nno newline'")).stdout == "a\nno newline"


def test_follow(daemon: Daemon) -> None:
    name = daemon.ok(
        "run", "-d", "busybox", "sh", "-c", "seq 1 5; while [ ! -e /go ]; do sleep 0.05; done; seq 6 9"
    )
    time.sleep(0.3)
    with subprocess.Popen(
        ["docker", "logs", "-f", "--tail", "2", name],
        env=daemon.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        assert [following.stdout.readline() for _ in range(2)] == ["4\n", "5\n"]
        assert following.poll() is None
        # Following sees the end: it stops with the container.
        daemon.ok("kill", name)
        assert following.stdout.read() == ""
        assert following.wait(5) == 0


def test_follow_live(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", "for i in 1 2 3 4; do echo $i; sleep 0.2; done")
    began = time.monotonic()
    assert daemon.ok("logs", "-f", name).split() == ["1", "2", "3", "4"]
    assert time.monotonic() - began < 5


def test_none_driver(daemon: Daemon) -> None:
    name = _ran(daemon, "echo lost", "--log-driver", "none")
    done = daemon.docker("logs", name)
    assert done.returncode == 1
    assert "does not support reading" in done.stderr


def test_rotation_keeps_the_newest(daemon: Daemon) -> None:
    options = ("--log-opt", "max-size=64k", "--log-opt", "max-file=3")
    lines = daemon.ok("logs", _ran(daemon, "seq 1 100000", *options)).split()
    assert lines[-1] == "100000"
    assert 0 < len(lines) < 100000
    assert lines == [str(n) for n in range(100_001 - len(lines), 100_001)]


def test_a_million_lines(daemon: Daemon) -> None:
    name = _ran(daemon, "seq 1 1000000")
    digest = hashlib.sha256()
    with subprocess.Popen(
        ["docker", "logs", name], env=daemon.environment, stdout=subprocess.PIPE
    ) as reading:
        assert reading.stdout is not None
        while chunk := reading.stdout.read(1 << 20):
            digest.update(chunk)
    expected = hashlib.sha256("".join(f"{n}\n" for n in range(1, 1_000_001)).encode())
    assert digest.digest() == expected.digest()
