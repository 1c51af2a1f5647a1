"""The daemon itself: start, stop, SIGKILL, locks, sockets, configuration."""

from __future__ import annotations

import grp
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import Daemon, make_daemon


@pytest.fixture
def idle_daemon() -> Iterator[Daemon]:
    """A daemon that is not started."""
    daemon = make_daemon()
    yield daemon
    assert daemon.discard() == []


def refused(daemon: Daemon, *options: str) -> str:
    """Start it in vain; what it says."""
    done = subprocess.run([*daemon.command(), *options], capture_output=True, text=True, timeout=10)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_ping_and_headers(daemon: Daemon) -> None:
    answer = subprocess.run(
        ["curl", "-sI", "--unix-socket", daemon.socket, "http://localhost/_ping"],
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert answer[0] == "HTTP/1.1 200 OK"
    headers = dict(line.split(": ", 1) for line in answer[1:] if line)
    assert headers["Api-Version"] == "1.51"
    assert headers["Docker-Experimental"] == "false"
    assert headers["Ostype"] == "linux"
    assert headers["Server"].startswith("Cloche/")


def test_version_negotiation(daemon: Daemon) -> None:
    shown = json.loads(daemon.ok("version", "--format", "json"))
    assert (shown["Server"]["ApiVersion"], shown["Server"]["MinAPIVersion"]) == ("1.51", "1.24")
    assert shown["Client"]["ApiVersion"] in ("1.50", "1.51")
    old = {**daemon.environment, "DOCKER_API_VERSION": "1.24"}
    assert subprocess.run(["docker", "ps"], env=old, capture_output=True).returncode == 0
    new = {**daemon.environment, "DOCKER_API_VERSION": "1.99"}
    done = subprocess.run(["docker", "ps"], env=new, capture_output=True, text=True)
    assert "client version 1.99 is too new. Maximum supported API version is 1.51" in done.stderr


def test_info(daemon: Daemon) -> None:
    shown = json.loads(daemon.ok("info", "--format", "json"))
    assert shown["DockerRootDir"] == str(daemon.root)
    assert shown["Driver"] == "overlay2"
    assert shown["NCPU"] == len(os.sched_getaffinity(0))
    assert "Server Version:" in daemon.ok("info")


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [
        ("GET", "/nothing", 404, "page not found"),
        ("POST", "/v1.51/containers/x/exec", 501, "exec"),
        ("POST", "/v1.51/build", 501, "build"),
        ("GET", "/v1.51/containers/json?filters=x", 400, "invalid filter"),
        ("POST", "/v1.51/containers/create", 400, "EOF"),
        ("GET", "/v1.51/containers/x/logs", 404, "No such container"),
    ],
)
def test_errors_are_json(daemon: Daemon, method: str, path: str, status: int, word: str) -> None:
    got, body = daemon.request(method, path)
    assert got == status
    assert word in json.loads(body)["message"]


def test_bodies_are_taken_as_they_are(daemon: Daemon) -> None:
    before = daemon.faults()
    for encoding in ("gzip", "deflate", "br"):
        headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
        status, body = daemon.request("POST", "/containers/create", b"junk" * 100, **headers)
        assert (status, "invalid JSON" in json.loads(body)["message"]) == (400, True)
    assert daemon.faults() == before


def test_a_request_may_be_long(daemon: Daemon) -> None:
    filters = json.dumps({"name": [f"name-of-{number:08}" for number in range(3000)]})
    assert len(filters) > 60_000
    assert daemon.request("GET", f"/containers/json?all=1&filters={quote(filters)}") == (200, b"[]\n")


def test_socket_is_for_the_docker_group(daemon: Daemon) -> None:
    found = os.stat(daemon.socket)
    try:
        group = grp.getgrnam("docker").gr_gid
    except KeyError:
        pytest.skip("there is no group docker")
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, group)


def test_second_daemon_is_refused(daemon: Daemon) -> None:
    other = ["-H", f"unix://{daemon.directory}/other.sock"]
    assert daemon.process is not None
    said = refused(daemon, *other)
    assert f"is in use by another daemon (pid {daemon.process.pid})" in said
    elsewhere = ["--root", f"{daemon.directory}/root2", "--run-dir", f"{daemon.directory}/run2"]
    said = refused(daemon, *other, *elsewhere)
    assert f"the name '{daemon.name}' is in use by another daemon (pid {daemon.process.pid})" in said
    said = refused(daemon, *elsewhere, "--name", f"{daemon.name}b")
    os.unlink(f"/run/cloche-{daemon.name}b.pid")
    assert "another daemon answers there" in said
    assert daemon.ping()


def test_socket_left_behind_is_replaced(idle_daemon: Daemon) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(idle_daemon.socket)
    stale.close()
    idle_daemon.start()
    assert idle_daemon.stop() == 0
    assert not os.path.exists(idle_daemon.socket)


def test_file_in_the_way_of_the_socket_stays(idle_daemon: Daemon) -> None:
    Path(idle_daemon.socket).write_text("precious")
    assert "no socket" in refused(idle_daemon)
    assert Path(idle_daemon.socket).read_text() == "precious"


def test_starts_in_half_a_second(idle_daemon: Daemon) -> None:
    # The first start fills caches; on a machine that is busy with other tests the bound is a generous one.
    idle_daemon.start()
    idle_daemon.stop()
    assert idle_daemon.start() < 2.0


def test_configuration_file(idle_daemon: Daemon) -> None:
    file = idle_daemon.directory / "daemon.json"
    option = ["--config-file", str(file)]
    file.write_text('{"log-level": "debug", "labels": ["a=b"], "bip": "10.199.0.1/24"}')
    idle_daemon.options = tuple(option)
    idle_daemon.start()
    assert idle_daemon.client().info()["Labels"] == ["a=b"]
    network = json.loads(idle_daemon.ok("network", "inspect", "bridge"))[0]
    assert network["IPAM"]["Config"] == [{"Subnet": "10.199.0.0/24", "Gateway": "10.199.0.1"}]
    idle_daemon.stop()
    file.write_text('{"colour": "red"}')
    assert "the following directives don't match any configuration option: colour" in refused(idle_daemon)
    file.write_text('{"log-level": "debug"}')
    said = refused(idle_daemon, "--log-level", "info")
    assert (
        "the following directives are specified both as a flag and in the configuration file: "
        "log-level: (from flag: info, from file: debug)"
    ) in said


def test_containers_live_on_when_it_stops(own_daemon: Daemon) -> None:
    name = own_daemon.ok("run", "-d", "busybox", "sh", "-c", "while :; do echo tick; sleep 0.1; done")
    pid = own_daemon.ok("inspect", "-f", "{{.State.Pid}}", name)
    with subprocess.Popen(
        ["docker", "logs", "-f", name], env=own_daemon.environment, stdout=subprocess.DEVNULL
    ) as following:
        time.sleep(0.2)
        assert own_daemon.stop() == 0
        following.wait(5)
    assert os.path.exists(f"/proc/{pid}")
    own_daemon.start()
    assert own_daemon.ok("inspect", "-f", "{{.State.Running}} {{.State.Pid}}", name) == f"true {pid}"
    own_daemon.ok("stop", "-t", "0", name)


def test_attached_client_outlives_the_daemon(own_daemon: Daemon) -> None:
    with subprocess.Popen(
        ["docker", "run", "-i", "--name", "aa", "busybox", "cat"],
        env=own_daemon.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(b"before\n")
        run.stdin.flush()
        assert run.stdout.readline() == b"before\n"
        # The program may be quicker than the answer that it has started.
        while own_daemon.ok("inspect", "-f", "{{.State.Running}}", "aa") != "true":
            time.sleep(0.01)
        time.sleep(0.2)
        own_daemon.stop(signal.SIGKILL)
        run.stdin.write(b"after\n")
        run.stdin.flush()
        assert run.stdout.readline() == b"after\n"
        run.stdin.close()
        assert run.stdout.read() == b""
    own_daemon.start()
    assert own_daemon.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "aa") == "exited 0"


def test_killed_daemon_loses_nothing(own_daemon: Daemon) -> None:
    """50 containers that log while the daemon is killed; some end in its absence, each with its own code."""
    script = "i=0; while [ $i -lt {last} ]; do i=$((i+1)); echo $i; sleep 0.02; done; {end}"
    client = own_daemon.client()
    endings = {}
    for number in range(50):
        ends = number % 2 == 0
        end, last = (f"exit {number}", 40) if ends else ("sleep 600", 80)
        command = ["sh", "-c", script.format(last=last, end=end)]
        container = client.containers.run("busybox", command, detach=True, network_mode="none")
        endings[container.id] = (number if ends else None, last)
    own_daemon.stop(signal.SIGKILL)
    time.sleep(3)
    own_daemon.start()
    client = own_daemon.client()
    assert {c.id for c in client.containers.list(all=True)} == set(endings)
    for name, (code, last) in endings.items():
        container = client.containers.get(name)
        if code is not None:
            assert (container.status, container.wait()["StatusCode"]) == ("exited", code)
        else:
            assert container.status == "running"
        assert container.logs().split() == [str(n).encode() for n in range(1, last + 1)]
    for container in client.containers.list():
        container.remove(force=True)


def test_descriptors_for_the_daemon_and_for_its_containers(idle_daemon: Daemon) -> None:
    daemon = idle_daemon
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (900, hard))
    try:
        daemon.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert daemon.process is not None
    assert resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    daemon.request("POST", "/images/default")
    show = ("run", "--rm", "--network", "none", "busybox", "sh", "-c", "ulimit -n")
    assert daemon.ok(*show) == "900"
    (launcher,) = (
        pid
        for pid, command in daemon.processes().items()
        if "launcher.server" in command and _parent(pid) == daemon.process.pid
    )
    os.kill(launcher, signal.SIGKILL)
    assert daemon.ok(*show) == "900"


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"Image":"busybox","X":' + b"[" * 9999 + b"]" * 9999 + b"}", 400, "nested too deeply"),
        (b'{"Image":"busybox","StopTimeout":9223372036854775808}', 400, "StopTimeout"),
        (b'{"Image":"busybox","HostConfig":{"Memory":9223372036854775808}}', 400, "Memory"),
        (b'{"Image":"no\xffsuch"}', 404, "no\ufffdsuch"),
    ],
)
def test_json_that_is_out_of_bounds(daemon: Daemon, body: bytes, status: int, words: str) -> None:
    headers = {"Content-Type": "application/json"}
    got, answer = daemon.request("POST", "/v1.51/containers/create", body, **headers)
    assert (got, words in json.loads(answer)["message"]) == (status, True), answer


def test_snapshots_that_are_not_mounted_are_not_taken_for_lost(own_daemon: Daemon) -> None:
    daemon = own_daemon
    id = daemon.ok("create", "busybox")
    daemon.stop()
    (daemon.root / "overlay2").rename(daemon.root / "elsewhere")
    assert "overlay2 is empty, though images and containers were in it" in refused(daemon)
    (daemon.root / "overlay2").rmdir()
    (daemon.root / "elsewhere").rename(daemon.root / "overlay2")
    daemon.start()
    assert daemon.containers() == [id]
    assert daemon.ok("start", id) == id
