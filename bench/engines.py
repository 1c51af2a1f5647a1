"""Engines with an API, each started privately: its own root, sockets and cgroups, all gone after
``stop``."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from cloche.cli.client import Client, query
from cloche.cli.errors import CommandError
from cloche.kernel import mounts

BUSYBOX = next(path for path in ("/usr/bin/busybox", "/bin/busybox") if os.path.exists(path))
APPLETS = ("sh", "true", "sleep", "echo")
PATIENCE = 30.0
"""Seconds until an engine must answer or end."""


def archive() -> bytes:
    """The image that all engines get: a static busybox."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


class Engine:
    """One engine's daemon: how it is started, and how its command is called."""

    name = ""
    program = ""
    version_command: tuple[str, ...] = ()

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "api.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.seconds_to_ping = 0.0
        """From its start to its first answer."""

    @property
    def client(self) -> Client:
        return Client(f"unix://{self.socket}")

    def command(self) -> list[str]:
        """The daemon's command line."""
        raise NotImplementedError

    def run_command(self) -> list[str]:
        """``run --rm --network none busybox true`` by the engine's usual command."""
        return [
            "docker",
            "-H",
            f"unix://{self.socket}",
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "true",
        ]

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        while True:
            try:
                if self.client.request("GET", "/_ping").read() == b"OK":
                    break
            except (CommandError, OSError):
                pass
            if self.process.poll() is not None or time.monotonic() - began > PATIENCE:
                log_end = (self.directory / "log").read_text(errors="replace")[-1500:]
                raise RuntimeError(f"{self.name} did not start: {log_end}")
            time.sleep(0.002)
        self.seconds_to_ping = time.monotonic() - began

    def load(self) -> None:
        """Give it the image."""
        path = "/images/create" + query(fromSrc="-", repo="busybox", tag="latest")
        self.client.upload("POST", path, [archive()]).check().read()

    def clear(self) -> None:
        """Remove its containers."""
        client = self.client
        for container in client.call("GET", "/containers/json?all=1"):
            client.call("DELETE", f"/containers/{container['Id']}?force=1")

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def version(self) -> str:
        output = subprocess.run(self.version_command, capture_output=True, text=True)
        return (output.stdout.splitlines() or ["?"])[0]


class Cloche(Engine):
    name = "cloche"
    program = ".venv/bin/cloched"
    version_command = (".venv/bin/cloche", "--version")

    @property
    def prefix(self) -> str:
        """Of its cgroups, links and tables."""
        return f"clb{os.getpid() % 10000}"

    def command(self) -> list[str]:
        directories = ["--root", f"{self.directory}/root", "--run-dir", f"{self.directory}/run"]
        return [self.program, *directories, "-H", f"unix://{self.socket}", "--name", self.prefix]

    def stop(self) -> None:
        super().stop()
        # What a daemon leaves to the next one of its name.
        subprocess.run(["ip", "link", "delete", f"{self.prefix}0"], capture_output=True)
        subprocess.run(["nft", "delete", "table", "ip", self.prefix], capture_output=True)
        remove_cgroups(self.prefix)
        Path(f"/run/cloche-{self.prefix}.pid").unlink(missing_ok=True)

    def own_command(self) -> list[str]:
        """The same by Cloche's command."""
        host = f"unix://{self.socket}"
        return [".venv/bin/cloche", "-H", host, "run", "--rm", "--network", "none", "busybox", "true"]


class Dockerd(Engine):
    name = "dockerd"
    program = "/usr/sbin/dockerd"
    version_command = ("/usr/sbin/dockerd", "--version")

    @property
    def cgroup_parent(self) -> str:
        return f"cloche-bench-{os.getpid()}"

    def command(self) -> list[str]:
        return [
            self.program,
            *("--data-root", f"{self.directory}/root", "--exec-root", f"{self.directory}/exec"),
            *("--host", f"unix://{self.socket}", "--pidfile", f"{self.directory}/pid"),
            *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
            *(
                "--storage-driver",
                "overlay2",
                "--userland-proxy=false",
                "--cgroup-parent",
                f"/{self.cgroup_parent}",
            ),
        ]

    def stop(self) -> None:
        super().stop()
        remove_cgroups(self.cgroup_parent)


class Podman(Engine):
    name = "podman"
    program = "/usr/bin/podman"
    version_command = ("/usr/bin/podman", "--version")

    def base(self) -> list[str]:
        directories = ("--root", f"{self.directory}/root", "--runroot", f"{self.directory}/run")
        return [self.program, *directories, "--cgroup-manager", "cgroupfs", "--events-backend", "file"]

    def start(self) -> None:
        # Its defaults ask for more files and processes than a limited machine allows.
        self.directory.mkdir(parents=True, exist_ok=True)
        limits = '["nofile=4096:4096", "nproc=4096:4096"]'
        settings = self.directory / "containers.conf"
        settings.write_text(f"[containers]\ndefault_ulimits = {limits}\n")
        os.environ["CONTAINERS_CONF"] = str(settings)
        super().start()

    def stop(self) -> None:
        super().stop()
        remove_cgroups("libpod_parent")

    def command(self) -> list[str]:
        return [*self.base(), "system", "service", "--time", "0", f"unix://{self.socket}"]

    def run_command(self) -> list[str]:
        return [*self.base(), "run", "--rm", "--network", "none", "busybox", "true"]


def remove_cgroups(name: str) -> None:
    """Rmdir the cgroups of this name, in each hierarchy; the last process may take a moment to go."""
    for _ in range(20):
        left = list(Path("/sys/fs/cgroup").glob(f"*/{name}"))
        for hierarchy in left:
            for directory, _, _ in os.walk(hierarchy, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
        if not left:
            break
        time.sleep(0.1)


def unmount_below(directory: Path) -> None:
    """What an engine keeps mounted in its root; the mount namespace is our own."""
    with open("/proc/self/mounts") as table:
        targets = [line.split()[1] for line in table]
    for target in reversed(targets):
        if target.startswith(f"{directory}/"):
            mounts.umount2(target, mounts.MNT_DETACH)


ENGINES: tuple[type[Engine], ...] = (Cloche, Dockerd, Podman)


@contextlib.contextmanager
def running(engine: Engine) -> Iterator[Engine]:
    """The engine, up and with the image; its directory goes with it."""
    try:
        engine.start()
        engine.load()
        yield engine
    finally:
        with contextlib.suppress(CommandError, OSError):
            engine.clear()
        engine.stop()
        unmount_below(engine.directory)
        shutil.rmtree(engine.directory)
