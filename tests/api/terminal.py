"""A person at a terminal: a command on a pty, what it shows, what is typed."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time


class Terminal:
    """Runs a command with a pty as its controlling terminal; a context manager."""

    def __init__(
        self, arguments: list[str], environment: dict[str, str], rows: int = 24, columns: int = 80
    ) -> None:
        self.master, slave = pty.openpty()
        self.shown = b""
        self._size(slave, rows, columns)

        def own_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            arguments, env=environment, stdin=slave, stdout=slave, stderr=slave, preexec_fn=own_terminal
        )
        os.close(slave)

    @staticmethod
    def _size(descriptor: int, rows: int, columns: int) -> None:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)

    def resize(self, rows: int, columns: int) -> None:
        self._size(self.master, rows, columns)
        os.kill(self.process.pid, signal.SIGWINCH)

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def expect(self, text: bytes, seconds: float = 10.0) -> bytes:
        """Read until ``text`` has been shown; what was shown up to its end. The rest stays for the next
        time."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} was never shown; this was: {self.shown!r}"
            if not select.select([self.master], [], [], left)[0]:
                continue
            try:
                self.shown += os.read(self.master, 65536)
            except OSError:
                raise AssertionError(f"ended before {text!r} was shown; this was: {self.shown!r}") from None
        end = self.shown.index(text) + len(text)
        seen, self.shown = self.shown[:end], self.shown[end:]
        return seen

    def end(self, seconds: float = 10.0) -> int:
        """Wait for the command's end, reading on; its exit status."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"did not end; shown since: {self.shown!r}"
            try:
                if select.select([self.master], [], [], 0.02)[0]:
                    self.shown += os.read(self.master, 65536)
            except OSError:
                time.sleep(0.01)
        return self.process.returncode
