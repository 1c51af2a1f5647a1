"""``cloche run -it``: a person at a terminal."""

from __future__ import annotations

import time

from tests.api.terminal import Terminal
from tests.cli.conftest import Command


def session(cloche: Command, *options: str) -> Terminal:
    return Terminal(
        cloche.line("run", "-it", *options, "busybox", "sh"), cloche.environment, rows=33, columns=111
    )


def test_a_session(cloche: Command) -> None:
    with session(cloche, "--rm") as terminal:
        terminal.expect(b"/ # ")
        terminal.type(b"stty size\n")
        terminal.expect(b"33 111")
        terminal.type(b"sleep 60\n")
        terminal.expect(b"sleep 60\r\n")
        time.sleep(0.2)
        terminal.type(b"\x03")
        terminal.expect(b"/ # ")
        terminal.resize(44, 122)
        terminal.type(b"sleep 0.1; stty size\n")
        terminal.expect(b"44 122")
        terminal.type(b"exit 7\n")
        assert terminal.end() == 7


def test_detaching_and_coming_back(cloche: Command) -> None:
    with session(cloche, "--name", "left") as terminal:
        terminal.expect(b"/ # ")
        terminal.type(b"\x10")
        terminal.type(b"\x11")
        assert terminal.end() == 0
    assert cloche.ok("inspect", "-f", "{{.State.Status}}", "left") == "running"
    with Terminal(cloche.line("attach", "left"), cloche.environment) as terminal:
        terminal.expect(b"/ # ")
        # The shell asks the terminal where the cursor is, and takes what comes at once for the answer.
        time.sleep(0.3)
        terminal.type(b"echo back $((40 + 2))\n")
        terminal.expect(b"back 42")
        terminal.type(b"exit 5\n")
        assert terminal.end() == 5


def test_own_detach_keys(cloche: Command) -> None:
    with session(cloche, "--rm", "--name", "keys", "--detach-keys", "ctrl-x,y") as terminal:
        terminal.expect(b"/ # ")
        terminal.type(b"\x10\x11")
        terminal.type(b"\x18y")
        assert terminal.end() == 0


def test_a_pipe_is_no_terminal(cloche: Command) -> None:
    done = cloche("run", "-it", "--rm", "busybox", "sh", input="exit\n")
    assert done.returncode == 1
    assert "not a terminal" in done.stderr
