"""The ``cloche`` command against a real daemon, and its output beside the ``docker`` command's."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.conftest import Daemon


def test_run(cloche: Command, daemon: Daemon) -> None:
    done = cloche("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 42)
    assert daemon.containers() == []


def test_stdin_and_its_end(cloche: Command) -> None:
    assert cloche.ok("run", "--rm", "-i", "busybox", "cat", input="some\nlines\n") == "some\nlines"


def test_much_output_is_whole(cloche: Command) -> None:
    script = "head -c 50000000 /dev/zero"
    done = subprocess.Popen(
        cloche.line("run", "--rm", "busybox", "sh", "-c", script),
        env=cloche.environment,
        stdout=subprocess.PIPE,
    )
    assert done.stdout is not None
    with done.stdout:
        assert sum(len(piece) for piece in iter(lambda: done.stdout.read(1 << 20), b"")) == 50_000_000
    assert done.wait() == 0


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (("busybox", "no-such-program"), 127, "no-such-program"),
        (("busybox", "/etc/hostname"), 126, "permission denied"),
        (("no-such-image",), 125, "no-such-image"),
        (("--memory", "1k", "busybox"), 125, "memory"),
        (("--no-such-flag", "busybox"), 125, "unknown flag: --no-such-flag"),
        (("-u", "no-such-user", "busybox", "true"), 125, "no-such-user"),
    ],
)
def test_failures(cloche: Command, daemon: Daemon, argv: tuple[str, ...], code: int, message: str) -> None:
    done = cloche("run", "--rm", *argv)
    assert done.returncode == code
    assert message in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert daemon.containers() == []


def test_signals_are_passed_on(cloche: Command) -> None:
    script = "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    running = subprocess.Popen(
        cloche.line("run", "--rm", "busybox", "sh", "-c", script),
        env=cloche.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    with running.stdout:
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGTERM)
        assert running.stdout.read() == "got it\n"
    assert running.wait(10) == 7


def test_a_closed_pipe_is_no_error(cloche: Command) -> None:
    command = " ".join(cloche.line("run", "--rm", "busybox", "yes")) + " | head -n 2"
    done = subprocess.run(
        ["sh", "-c", command], env=cloche.environment, capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr) == ("y\ny\n", "")


def test_life(cloche: Command) -> None:
    name = cloche.ok("run", "-d", "--name", "life", "busybox", "sh", "-c", "echo hello; sleep 60")
    assert len(name) == 64
    assert cloche.ok("ps", "-q", "--no-trunc") == name
    deadline = time.monotonic() + 5
    while cloche.ok("logs", "life") != "hello":
        assert time.monotonic() < deadline
    assert cloche.ok("top", "life").splitlines()[0].split()[0] == "UID"
    assert cloche.ok("stop", "-t", "0", "life") == "life"
    assert cloche.ok("wait", "life") == "137"
    assert cloche.ok("start", "life") == "life"
    assert cloche.ok("kill", "-s", "TERM", "life") == "life"
    assert cloche.ok("rename", "life", "death") == ""
    assert cloche.ok("rm", "-f", "death") == "death"
    done = cloche("inspect", "death")
    assert (done.returncode, done.stdout) == (1, "[]\n")


def test_create_start_attach(cloche: Command) -> None:
    cloche.ok("create", "--name", "later", "-i", "busybox", "sh", "-c", "read word; echo got $word; exit 3")
    done = cloche("start", "-a", "-i", "later", input="it\n")
    assert (done.stdout, done.returncode) == ("got it\n", 3)


def test_cidfile(cloche: Command, tmp_path: Path) -> None:
    file = tmp_path / "id"
    cloche.ok("run", "--cidfile", str(file), "busybox", "true")
    assert cloche.ok("inspect", "-f", "{{.Id}}", file.read_text()) == file.read_text()
    done = cloche("run", "--cidfile", str(file), "busybox", "true")
    assert done.returncode == 125
    assert len(cloche.ok("ps", "-aq").splitlines()) == 1


def test_one_failure_does_not_keep_the_others(cloche: Command) -> None:
    cloche.ok("create", "--name", "there", "busybox")
    done = cloche("rm", "not-there", "there")
    assert (done.returncode, done.stdout) == (1, "there\n")
    assert "not-there" in done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ("ps", "-a"),
        ("ps", "-a", "--no-trunc"),
        ("ps", "-aq"),
        ("ps", "-n", "1"),
        ("ps", "-a", "--filter", "name=shown", "--format", "{{.ID}} {{.Names}} {{.Image}} {{.Command}}"),
        ("ps", "-a", "--format", "table {{.Names}}\t{{.Status}}"),
        ("ps", "-as"),
        ("images",),
        ("images", "--no-trunc"),
        ("images", "-q"),
        ("history", "busybox"),
        ("inspect", "-f", "{{.State.Status}} {{.Config.Cmd}} {{json .HostConfig.Memory}}", "shown-one"),
        ("inspect", "-f", "{{json .Config.Cmd}} {{.Architecture}}", "busybox"),
        ("logs", "shown-one"),
        ("logs", "-n", "1", "-t", "shown-one"),
        ("version", "-f", "{{.Server.Version}}"),
        ("info", "-f", "{{.Driver}} {{.CgroupVersion}}"),
    ],
    ids=" ".join,
)
def test_output_is_dockers(cloche: Command, daemon: Daemon, argv: tuple[str, ...]) -> None:
    for name in ("shown-one", "shown-two"):
        cloche("run", "--name", name, "-m", "64m", "busybox", "sh", "-c", "echo one; echo two; exit 3")
    for _ in range(5):
        # What is "2 seconds ago" in one may be "3 seconds ago" in the other.
        ours, theirs = cloche(*argv).stdout, daemon.docker(*argv).stdout
        if [line.rstrip() for line in ours.splitlines()] == [line.rstrip() for line in theirs.splitlines()]:
            break
    assert ours.splitlines() == [line.rstrip() if " " * 3 in line else line for line in theirs.splitlines()]


def small_archive(tmp_path: Path) -> Path:
    path = tmp_path / "root.tar"
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    return path


def test_images(cloche: Command, tmp_path: Path) -> None:
    identity = cloche.ok("import", "-c", 'CMD ["sh"]', str(small_archive(tmp_path)), "small:1")
    assert identity.startswith("sha256:")
    cloche.ok("tag", "small:1", "other/small:2")
    assert cloche.ok("images", "--format", "{{.Repository}}:{{.Tag}}", "other/small") == "other/small:2"
    cloche.ok("save", "-o", str(tmp_path / "saved.tar"), "small:1")
    assert sorted(cloche.ok("rmi", "small:1", "other/small:2").splitlines())[-2:] == [
        "Untagged: other/small:2",
        "Untagged: small:1",
    ]
    assert cloche.ok("load", "-i", str(tmp_path / "saved.tar")) == "Loaded image: small:1"
    assert cloche.ok("image", "inspect", "-f", "{{.Config.Cmd}}", "small:1") == "[sh]"
    cloche.ok("image", "rm", "small:1")


def test_a_broken_archive_is_refused(cloche: Command, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"this is no archive" * 100)
    done = cloche("load", "-i", str(broken))
    assert done.returncode == 1
    assert done.stderr.startswith("cloche: ")
    assert "Traceback" not in done.stderr
    done = cloche("load", "-i", str(tmp_path / "missing.tar"))
    assert done.stderr == f"cloche: open {tmp_path}/missing.tar: No such file or directory\n"


def test_image_from_host(cloche: Command) -> None:
    cloche.ok("image", "from-host", "tools", "bash", "ls")
    assert cloche.ok("run", "--rm", "tools", "bash", "-c", "ls /proc/self/cmdline") == "/proc/self/cmdline"
    cloche.ok("rmi", "tools")


def test_a_missing_image_is_told_with_the_ways_to_get_one(cloche: Command) -> None:
    done = cloche("run", "--rm", "nosuch", "true")
    assert done.returncode == 125
    assert "No such image: nosuch:latest; get one by 'cloche load -i" in done.stderr


def test_explain(cloche: Command) -> None:
    cloche.ok("run", "--name", "explained", "-m", "64m", "busybox", "true")
    text = cloche.ok("explain", "explained")
    assert "PivotRoot" in text
    assert " ms" in text
    steps = json.loads(cloche.ok("explain", "--json", "explained"))
    assert steps
    assert cloche.ok("explain", "--shell", "explained").startswith("#!/bin/")


def test_explain_run_makes_nothing(cloche: Command, daemon: Daemon) -> None:
    text = cloche.ok(
        "explain", "run", "--rm", "-m", "64m", "--hostname", "planned", "busybox", "sh", "-c", "exit 3"
    )
    assert "planned" in text
    assert daemon.containers() == []


def test_unreachable_daemon(cloche: Command, tmp_path: Path) -> None:
    done = cloche("-H", f"unix://{tmp_path}/none.sock", "ps")
    assert done.returncode == 1
    assert f"cloche daemon -H unix://{tmp_path}/none.sock" in done.stderr
    assert cloche("-H", f"unix://{tmp_path}/none.sock", "run", "busybox").returncode == 125
    assert "only unix:// sockets" in cloche("-H", "tcp://127.0.0.1:1", "ps").stderr


def test_events(cloche: Command) -> None:
    since = f"{time.time() - 1:.3f}"
    cloche.ok("run", "--rm", "--name", "noticed", "busybox", "true")
    lines = cloche.ok(
        "events", "--since", since, "--until", f"{time.time():.3f}", "-f", "container=noticed"
    ).splitlines()
    actions = [line.split()[2] for line in lines]
    assert [action for action in actions if action in ("create", "start", "die", "destroy")] == [
        "create",
        "start",
        "die",
        "destroy",
    ]


def test_closed_standard_streams(cloche: Command) -> None:
    line = [
        "sh",
        "-c",
        '"$0" "$@" <&-',
        *cloche.line("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end"),
    ]
    done = subprocess.run(line, env=cloche.environment, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, "end\n")
    line = ["sh", "-c", '"$0" "$@" >&-', *cloche.line("ps")]
    done = subprocess.run(line, env=cloche.environment, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_goes_nowhere(cloche: Command) -> None:
    with open("/dev/full", "wb") as full:
        run = cloche.line("run", "--rm", "busybox", "echo", "lost")
        done = subprocess.run(run, env=cloche.environment, stdout=full, stderr=subprocess.PIPE, timeout=20)
    assert (done.returncode, done.stderr) == (125, b"cloche: [Errno 28] No space left on device\n")
    line = ["sh", "-c", '"$0" "$@" | true', *cloche.line("--help")]
    assert subprocess.run(line, env=cloche.environment, capture_output=True, timeout=20).stderr == b""


def test_arguments_that_are_not_utf_8(cloche: Command, tmp_path: Path) -> None:
    assert cloche.ok("run", "--rm", "busybox", "echo", "a\udcff\udcfeb") == "a\ufffd\ufffdb"
    assert "No such container: %FF" in cloche("rm", "\udcff").stderr
    assert "no such object: " in cloche("inspect", "\udcff").stderr
    assert "is not a tag" in cloche("tag", "busybox", "x:\udcff").stderr
    assert cloche.ok("ps", "-q", "--filter", "name=\udcff") == ""
    assert "No such container: a b?c" in cloche("logs", "a b?c").stderr
    (tmp_path / "variables").write_bytes(b"A=\xff\n")
    done = cloche("run", "--env-file", str(tmp_path / "variables"), "busybox", "true")
    assert (done.returncode, "is not a text in UTF-8" in done.stderr) == (125, True)
