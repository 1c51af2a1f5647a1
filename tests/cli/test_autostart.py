"""The daemon that a command starts. In a mount namespace where the machine's own is out of sight."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
set -eu
mount -t tmpfs tmpfs /run
mkdir -p /var/lib/cloche
mount -t tmpfs tmpfs /var/lib/cloche
finish() {
    read -r daemon </run/cloche/cloched.pid
    kill "$daemon"
    while kill -0 "$daemon" 2>/dev/null; do sleep 0.02; done
}
trap finish EXIT
%s
"""


def shell(script: str) -> subprocess.CompletedProcess[str]:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes a mount namespace")
    cloche = f"{sys.executable} -m cloche.cli.main"
    environment = {name: value for name, value in os.environ.items() if name != "CLOCHE_HOST"}
    return subprocess.run(
        [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            SCRIPT % script.replace("cloche ", f"{cloche} "),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_command_starts_the_daemon() -> None:
    done = shell("cloche ps -q; cloche version -f {{.Server.Version}}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.1.0\n", "")


def test_two_commands_at_once_share_one_daemon() -> None:
    done = shell("cloche ps -q & cloche images -q; wait $!; cloche version -f {{.Server.Version}}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.1.0\n", "")


def test_a_daemon_that_cannot_start_says_why() -> None:
    done = shell("trap - EXIT; rm -rf /var/lib/cloche/*; mount -o remount,ro /var/lib/cloche; cloche ps")
    assert done.returncode == 125
    assert "the daemon did not start" in done.stderr
    assert "/var/lib/cloche" in done.stderr
    assert "Traceback" not in done.stderr
