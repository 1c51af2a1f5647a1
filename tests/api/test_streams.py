"""Streams through attach: both ways, by several clients, much of them, and by clients that misbehave."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from tests.conftest import Daemon


def test_100_megabytes_there_and_back(daemon: Daemon) -> None:
    block = os.urandom(1 << 20)
    with subprocess.Popen(
        ["docker", "run", "--rm", "-i", "--log-driver", "none", "busybox", "cat"],
        env=daemon.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as run:
        assert run.stdin is not None
        assert run.stdout is not None

        def feed() -> None:
            assert run.stdin is not None
            for _ in range(100):
                run.stdin.write(block)
            run.stdin.close()

        with ThreadPoolExecutor() as pool:
            feeding = pool.submit(feed)
            back = hashlib.sha256()
            while chunk := run.stdout.read(1 << 20):
                back.update(chunk)
            feeding.result()
    assert run.returncode == 0
    assert back.digest() == hashlib.sha256(block * 100).digest()


def test_start_attached_again(daemon: Daemon) -> None:
    daemon.ok("create", "-i", "--name", "twice", "busybox", "cat")
    assert daemon.ok("start", "-ai", "twice", input="one\n") == "one"
    assert daemon.ok("start", "-ai", "twice", input="two\n") == "two"
    assert daemon.ok("logs", "twice") == "one\ntwo"


def test_only_one_stream(daemon: Daemon) -> None:
    done = daemon.docker("run", "--rm", "-a", "stderr", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("", "err\n")


def test_attach_replays_the_log(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", "echo past; sleep 60")
    while daemon.ok("logs", name) != "past":
        time.sleep(0.02)
    container = daemon.client().containers.get(name)
    assert container.attach(logs=True, stream=False, stdout=True, stderr=True) == b"past\n"


def test_signals_are_passed_on(daemon: Daemon) -> None:
    script = "trap 'echo got it; exit 6' TERM; echo up; while :; do sleep 0.05; done"
    with subprocess.Popen(
        ["docker", "run", "--rm", "busybox", "sh", "-c", script],
        env=daemon.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"up\n"
        run.send_signal(signal.SIGTERM)
        assert run.stdout.read() == b"got it\n"
        assert run.wait(5) == 6


def test_reader_that_does_not_read_stops_only_itself(daemon: Daemon) -> None:
    name = daemon.ok(
        "run", "-d", "--name", "loud", "busybox", "sh", "-c", "sleep 0.5; seq 1 300000; sleep 60"
    )
    deaf = socket.socket(socket.AF_UNIX)
    deaf.connect(daemon.socket)
    deaf.sendall(b"GET /v1.51/containers/loud/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    with subprocess.Popen(
        ["docker", "logs", "-f", name], env=daemon.environment, stdout=subprocess.PIPE
    ) as reading:
        assert reading.stdout is not None
        last = b""
        for _ in range(300_000):
            last = reading.stdout.readline()
        assert last == b"300000\n"
        assert daemon.ping()
        reading.kill()
    deaf.close()


def test_clients_that_leave_in_the_middle(daemon: Daemon) -> None:
    """Waiting, following and listening clients go without a word; the daemon's log stays free of faults."""
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", "while :; do echo x; done")
    for target in (
        f"POST /v1.51/containers/{name}/wait",
        f"GET /v1.51/containers/{name}/logs?follow=1&stdout=1",
        "GET /v1.51/events",
        f"POST /v1.51/containers/{name}/attach?stream=1&stdout=1",
        f"POST /v1.51/containers/{name}/stop?t=1",
    ):
        client = socket.socket(socket.AF_UNIX)
        client.connect(daemon.socket)
        client.sendall(f"{target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.settimeout(0.2)
        try:
            client.recv(1000)
        except TimeoutError:
            pass
        client.close()
    # The stop whose client left was carried out all the same.
    deadline = time.monotonic() + 5
    while daemon.ok("inspect", "-f", "{{.State.Running}}", name) == "true":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert daemon.ping()


def test_bad_detach_keys_are_refused_before_the_stream(daemon: Daemon) -> None:
    name = daemon.ok("create", "busybox")
    status, body = daemon.request("POST", f"/containers/{name}/attach?stream=1&detachKeys=ctrl-1")
    assert (status, json.loads(body)) == (400, {"message": "Invalid detach keys (ctrl-1) provided"})


def test_many_clients_at_once(daemon: Daemon) -> None:
    def run(number: int) -> tuple[str, int]:
        script = f"cat; echo {number}; exit {number}"
        done = daemon.docker("run", "--rm", "-i", "busybox", "sh", "-c", script, input=f"in {number}\n")
        return done.stdout, done.returncode

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(1, 33)))
    assert results == [(f"in {n}\n{n}\n", n) for n in range(1, 33)]
