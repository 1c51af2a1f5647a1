"""``docker run -it`` and ``attach``, driven through a pty as a person would."""

from __future__ import annotations

import time

from tests.api.terminal import Terminal
from tests.conftest import Daemon


def run(daemon: Daemon, *arguments: str, rows: int = 24, columns: int = 80) -> Terminal:
    return Terminal(["docker", *arguments], daemon.environment, rows, columns)


def test_prompt_command_exit_code(daemon: Daemon) -> None:
    with run(daemon, "run", "--rm", "-it", "busybox", "sh") as terminal:
        terminal.expect(b"/ # ")
        terminal.type(b"echo 6$((3*4-5))\n")
        terminal.expect(b"67\r\n")
        terminal.type(b"exit 33\n")
        assert terminal.end() == 33
    assert daemon.containers() == []


def test_control_c_reaches_the_program(daemon: Daemon) -> None:
    with run(daemon, "run", "--rm", "-it", "busybox", "sh") as terminal:
        terminal.expect(b"/ # ")
        terminal.type(b"sleep 60; echo status $?\n")
        terminal.expect(b"status $?\r\n")
        time.sleep(0.2)
        terminal.type(b"\x03")
        terminal.expect(b"/ # ")
        terminal.type(b"echo alive $((1+1))\n")
        terminal.expect(b"alive 2\r\n")
        # Ctrl-D means the end only at the prompt.
        terminal.expect(b"/ # ")
        terminal.type(b"\x04")
        terminal.end()


def test_control_c_ends_a_program_in_front(daemon: Daemon) -> None:
    with run(daemon, "run", "--rm", "-it", "--init", "busybox", "sleep", "60") as terminal:
        deadline = time.monotonic() + 5
        while not daemon.ok("ps", "-q"):
            assert time.monotonic() < deadline
        terminal.type(b"\x03")
        assert terminal.end() == 130


def test_size_is_right_from_the_start(daemon: Daemon) -> None:
    with run(daemon, "run", "--rm", "-it", "busybox", "stty", "size", rows=31, columns=101) as terminal:
        terminal.expect(b"31 101\r\n")
        assert terminal.end() == 0


def test_size_follows_the_window(daemon: Daemon) -> None:
    with run(daemon, "run", "--rm", "-it", "busybox", "sh", rows=31, columns=101) as terminal:
        terminal.expect(b"/ # ")
        _size_becomes(terminal, b"31 101")
        terminal.resize(40, 120)
        _size_becomes(terminal, b"40 120")
        terminal.type(b"exit\n")
        assert terminal.end() == 0


def _size_becomes(terminal: Terminal, size: bytes) -> None:
    """The docker command resizes beside the stream, so what is typed next may overtake it; and the shell
    repeats its prompt at that, so that a prompt says nothing."""
    terminal.type(b'until [ "$(stty size)" = "%s" ]; do sleep 0.02; done; echo $((6*7)) now\n' % size)
    terminal.expect(b"42 now\r\n")


def test_detach_and_attach_again(daemon: Daemon) -> None:
    with run(daemon, "run", "-it", "--name", "shell", "busybox", "sh") as terminal:
        terminal.expect(b"/ # ")
        terminal.type(b"X=kept\n")
        terminal.expect(b"/ # ")
        terminal.type(b"\x10\x11")
        assert terminal.end() == 0
    assert daemon.ok("inspect", "-f", "{{.State.Running}}", "shell") == "true"
    with run(daemon, "attach", "shell") as terminal:
        # The docker command changes the size to make the program draw its prompt again.
        terminal.expect(b"/ # ")
        terminal.type(b"echo $X$X\n")
        terminal.expect(b"keptkept\r\n")
        terminal.type(b"exit 4\n")
        assert terminal.end() == 4


def test_two_clients_see_the_same(daemon: Daemon) -> None:
    with run(daemon, "run", "-it", "--rm", "--name", "both", "busybox", "sh") as first:
        first.expect(b"/ # ")
        with run(daemon, "attach", "both") as second:
            second.type(b"\n")
            second.expect(b"/ # ")
            first.type(b"echo shared$((1+1))\n")
            first.expect(b"shared2\r\n")
            second.expect(b"shared2\r\n")
            first.type(b"exit\n")
            assert first.end() == 0
            assert second.end() == 0
