"""A file system without room left: what a user does to make some must work."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Daemon, make_daemon


@pytest.fixture
def small() -> Iterator[Daemon]:
    """A daemon whose root is a file system of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts a file system")
    daemon = make_daemon()
    daemon.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "small", str(daemon.root)], check=True)
    try:
        daemon.start()
        assert daemon.request("POST", "/images/default")[0] == 200
        yield daemon
    finally:
        if daemon.process is not None:
            (daemon.root / "filler").unlink(missing_ok=True)
            daemon.remove_containers()
            daemon.stop()
        subprocess.run(["umount", "--lazy", str(daemon.root)], check=True)
        left = daemon.discard()
    assert left == []


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    continue
            except OSError:
                continue


def test_a_container_can_be_removed(small: Daemon) -> None:
    small.ok("run", "--name", "talker", "--network", "none", "busybox", "seq", "20000")
    fill(small.root / "filler")
    refused = small.docker("create", "--network", "none", "busybox")
    assert (refused.returncode, "full" in refused.stderr) == (1, True), refused.stderr
    small.ok("rm", "talker")
    assert small.ok("run", "--rm", "--network", "none", "busybox", "echo", "again") == "again"


def test_an_image_can_be_removed(small: Daemon) -> None:
    small.ok("tag", "busybox", "other")
    fill(small.root / "filler")
    small.ok("rmi", "other")
    assert "Deleted: sha256:" in small.ok("rmi", "busybox")
    assert small.ok("images", "-q") == ""
    assert [path for path in (small.root / "content").rglob("*") if path.is_file()] == []
