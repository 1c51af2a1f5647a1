"""A daemon of one's own: a temporary root, a name that nobody else has, and a check that it leaves nothing
behind."""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

PATIENCE = 10.0 * float(os.environ.get("CLOCHE_TEST_PATIENCE", "1"))
"""Seconds that things may take to come or go; the factor is for slow machines."""


class Daemon:
    """``cloched`` with the real ``docker`` command and docker-py pointed at it."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.name = "t" + secrets.token_hex(3)
        self.directory = directory
        self.root = directory / "root"
        self.run_dir = directory / "run"
        self.socket = str(directory / "d.sock")
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(directory / "docker"),
            "LC_ALL": "C",
        }

    # --- the daemon itself

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "cloche.api.daemon", "--root", str(self.root)),
            *("--run-dir", str(self.run_dir), "-H", f"unix://{self.socket}", "--name", self.name),
            *self.options,
        ]

    def start(self) -> float:
        """Start it and wait for its first ``_ping``; the seconds that took."""
        began = time.monotonic()
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                # The one variable that the daemon passes on to its own processes (and to no container's).
                env={**os.environ, "PATH": f"{os.environ['PATH']}:{self.directory}"},
                stdin=subprocess.DEVNULL,
                stderr=log,
                stdout=log,
            )
        while not self.ping():
            if self.process.poll() is not None or time.monotonic() - began > PATIENCE:
                raise AssertionError(f"cloched did not start:\n{self.log()}")
            time.sleep(0.005)
        return time.monotonic() - began

    def ping(self) -> bool:
        try:
            return self.request("GET", "/_ping") == (200, b"OK")
        except (ConnectionError, FileNotFoundError, http.client.HTTPException):
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the daemon and wait for its end; its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-8000:]

    def faults(self) -> str:
        """The log from its first traceback on: a client may do what it likes without causing one."""
        text = (self.directory / "log").read_text(errors="replace")
        return text[max(0, text.index("Traceback") - 300) :][:8000] if "Traceback" in text else ""

    # --- its clients

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """One request by hand: status and body."""
        connection = http.client.HTTPConnection("localhost", timeout=6 * PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(self.socket)
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def docker(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """The real command; output as text."""
        options.setdefault("timeout", 6 * PATIENCE)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            ["docker", *arguments], env=self.environment, capture_output=True, text=True, **options
        )

    def ok(self, *arguments: str, **options: Any) -> str:
        """``docker`` that must succeed; its stdout without the last newline."""
        done = self.docker(*arguments, **options)
        assert done.returncode == 0, (
            f"docker {' '.join(arguments)}: {done.returncode}\n{done.stderr}\n{self.log()}"
        )
        return done.stdout.removesuffix("\n")

    def client(self) -> Any:
        """docker-py."""
        import docker

        return docker.DockerClient(base_url=f"unix://{self.socket}", timeout=int(6 * PATIENCE))

    # --- what it leaves

    def containers(self) -> list[str]:
        return self.ok("ps", "-aq", "--no-trunc").split()

    def remove_containers(self) -> None:
        if names := self.containers():
            self.ok("rm", "-f", *names)

    def processes(self) -> dict[int, str]:
        """Ours: with our directory in the PATH, or inside a cgroup of ours."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                marked = f":{self.directory}\0".encode() in (entry / "environ").read_bytes()
                inside = f"/{self.name}/" in (entry / "cgroup").read_text()
                if marked or inside:
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(entry.name)] = command
            except OSError:
                continue
        return found

    def leftovers(self) -> list[str]:
        """Whatever carries our name: mounts, cgroups, links, tables, processes."""
        left = [f"process {pid}: {command[:100]}" for pid, command in self.processes().items()]
        with open("/proc/self/mounts") as table:
            left += [f"mount {line.split()[1]}" for line in table if str(self.directory) in line]
        left += [f"cgroup {d}" for d, _, _ in os.walk("/sys/fs/cgroup") if f"/{self.name}/" in f"{d}/"]
        left += [f"link {link}" for link in os.listdir("/sys/class/net") if link.startswith(self.name)]
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
        left += [line for line in tables.splitlines() if line.endswith(f" {self.name}")]
        return left

    def discard(self) -> list[str]:
        """End everything; what it would have left. That is then taken away, so that the next test starts
        clean."""
        if self.process is not None and self.process.poll() is None and self.ping():
            self.remove_containers()
        if self.process is not None:
            self.stop()
        deadline = time.monotonic() + PATIENCE
        while (left := self._unexpected()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._take_away()
        shutil.rmtree(self.directory, ignore_errors=True)
        return left or self.leftovers()

    def _unexpected(self) -> list[str]:
        """Leftovers but for the bridge, its table and the empty parent cgroups: like Docker's, they stay
        for the next daemon, since containers may be running on them."""
        kept = (f"link {self.name}0", f"table ip {self.name}", f"/{self.name}")
        return [item for item in self.leftovers() if not item.endswith(kept)]

    def _take_away(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for directory, _, _ in os.walk("/sys/fs/cgroup", topdown=False):
            if f"/{self.name}/" in f"{directory}/":
                try:
                    os.rmdir(directory)
                except OSError:
                    pass
        for link in os.listdir("/sys/class/net"):
            if link.startswith(self.name):
                subprocess.run(["ip", "link", "delete", link], capture_output=True)
        subprocess.run(["nft", "delete", "table", "ip", self.name], capture_output=True)
        Path(f"/run/cloche-{self.name}.pid").unlink(missing_ok=True)


def _needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes namespaces and cgroups")
    if shutil.which("docker") is None:
        pytest.skip("needs the docker command")


def make_daemon(*options: str) -> Daemon:
    """A directory with a short path (a socket's has at most 107 bytes) and a daemon, not started."""
    return Daemon(Path(tempfile.mkdtemp(prefix="cloche-test-")), *options)


@pytest.fixture(scope="session")
def shared_daemon() -> Iterator[Daemon]:
    """One daemon for all tests that do not stop it, with ``busybox:latest`` in it."""
    _needs_root()
    daemon = make_daemon()
    try:
        daemon.start()
        status, body = daemon.request("POST", "/images/default")
        assert status == 200, body
    except BaseException:
        daemon.discard()
        raise
    yield daemon
    faults = daemon.faults()
    assert daemon.discard() == []
    assert faults == ""


@pytest.fixture
def daemon(shared_daemon: Daemon) -> Iterator[Daemon]:
    """The shared daemon; containers that the test leaves are removed."""
    yield shared_daemon
    shared_daemon.remove_containers()


@pytest.fixture
def own_daemon() -> Iterator[Daemon]:
    """A started daemon for a test that stops it, with ``busybox:latest`` in it."""
    _needs_root()
    daemon = make_daemon()
    try:
        daemon.start()
        status, body = daemon.request("POST", "/images/default")
        assert status == 200, body
        yield daemon
    finally:
        left = daemon.discard()
    assert left == []
