"""The daemon's end at any moment of anything: what was acknowledged is there, nothing is left over."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import random
import signal
import tarfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import PATIENCE, Daemon

ROUNDS = 2
BUSY = 0.8
"""Seconds at most from the beginning of a round to its end."""

# What a client sees of a daemon that is killed in the midst of its request.
_CUT = (ConnectionError, http.client.HTTPException, FileNotFoundError)


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _archive(name: str, *layers: bytes) -> bytes:
    diff_ids = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    members = {f"layer{number}": layer for number, layer in enumerate(layers)}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": list(members)}]
    documents = {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    return _tar({**members, **documents})


class Ledger:
    """What the daemon has acknowledged. Asked for and not answered is neither here nor there."""

    def __init__(self) -> None:
        self.names: dict[str, set[str]] = {}
        """Of containers that are there, each with the names that it may have."""
        self.running: set[str] = set()
        self.removed: set[str] = set()
        self.images: set[str] = set()
        self.surprises: list[str] = []


class Client(threading.Thread):
    """Does one thing after the other until the daemon is gone."""

    def __init__(self, daemon: Daemon, ledger: Ledger, seed: str) -> None:
        super().__init__()
        self._daemon = daemon
        self._ledger = ledger
        self._dice = random.Random(seed)
        self._seed = seed
        self._count = 0

    def run(self) -> None:
        try:
            while True:
                self._dice.choice((self._container, self._container, self._image))()
        except _CUT:
            return

    def _ask(self, method: str, path: str, body: Any = None, wanted: tuple[int, ...] = ()) -> Any:
        if isinstance(body, bytes) or body is None:
            status, answer = self._daemon.request(method, path, body)
        else:
            text = json.dumps(body).encode()
            status, answer = self._daemon.request(method, path, text, **{"Content-Type": "application/json"})
        if status == 503:
            # It is being stopped: neither done nor refused.
            raise ConnectionAbortedError(answer)
        if wanted and status not in wanted:
            self._ledger.surprises.append(f"{method} {path}: {status} {answer[:300]!r}")
        if not answer.endswith(b"}\n"):
            return {}
        return json.loads(answer.splitlines()[-1])

    def _container(self) -> None:
        ledger, dice = self._ledger, self._dice
        self._count += 1
        name = f"c-{self._seed}-{self._count}"
        automatic = dice.random() < 0.2
        host = {"AutoRemove": automatic, "NetworkMode": dice.choice(("bridge", "bridge", "none"))}
        asked = {"Image": "busybox", "Cmd": ["sleep", "600"], "StopSignal": "SIGKILL", "HostConfig": host}
        id = self._ask("POST", f"/containers/create?name={name}", asked, (201,))["Id"]
        ledger.names[id] = {name}
        if dice.random() < 0.8:
            self._ask("POST", f"/containers/{id}/start", None, (204,))
            ledger.running.add(id)
        if dice.random() < 0.3:
            ledger.names[id].add(f"{name}-renamed")
            self._ask("POST", f"/containers/{id}/rename?name={name}-renamed", None, (204,))
            ledger.names[id].discard(name)
        verb = dice.choice(("nothing", "stop", "kill", "restart", "remove", "remove", "remove"))
        if automatic and verb in ("stop", "kill", "restart"):
            # Its end takes it away, also that of a restart whose second half a SIGKILL forestalls.
            names = ledger.names.pop(id)
        if verb in ("stop", "kill"):
            ledger.running.discard(id)
            self._ask("POST", f"/containers/{id}/{verb}", None, (204, 304, 409))
        elif verb == "restart":
            ledger.running.discard(id)
            self._ask("POST", f"/containers/{id}/restart?t=0", None, (204,))
            ledger.running.add(id)
            if automatic:
                ledger.names[id] = names
        elif verb == "remove":
            ledger.running.discard(id)
            del ledger.names[id]
            self._ask("DELETE", f"/containers/{id}?force=1", None, (204,))
            ledger.removed.add(id)

    def _image(self) -> None:
        ledger, dice = self._ledger, self._dice
        name = f"image{dice.randrange(3)}:{self._seed}"
        ledger.images.discard(name)
        shared = _tar({"shared": b"s" * 200_000})
        own = _tar({"own": dice.randbytes(100_000)})
        if dice.random() < 0.5:
            self._ask("POST", "/images/load", _archive(name, shared, own, shared), (200,))
        else:
            repository, _, tag = name.partition(":")
            self._ask("POST", f"/images/create?fromSrc=-&repo={repository}&tag={tag}", own, (200,))
        ledger.images.add(name)
        if dice.random() < 0.6:
            ledger.images.discard(name)
            self._ask("DELETE", f"/images/{quote(name)}?force=1", None, (200,))


def _get(daemon: Daemon, path: str) -> Any:
    status, body = daemon.request("GET", path)
    assert status == 200, (path, body, daemon.log())
    return json.loads(body)


def _eventually(check: Any) -> list[str]:
    deadline = time.monotonic() + PATIENCE
    while (found := check()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return list(found)


def _unowned(daemon: Daemon) -> list[str]:
    """Snapshots, directories, sockets and cgroups of containers that are not there (any more)."""
    rows = {row["Id"]: row["State"] for row in _get(daemon, "/containers/json?all=1")}
    keys = [os.readlink(path / "key") for path in (daemon.root / "overlay2").iterdir()]
    found = [f"snapshot {key}" for key in keys if not key.startswith("sha256:") and key not in rows]
    found += [f"directory {name}" for name in os.listdir(daemon.root / "containers") if name not in rows]
    running = {id for id, state in rows.items() if state == "running"}
    short = {id[:12] for id in running}
    found += [f"monitor {name}" for name in os.listdir(daemon.run_dir / "c") if name not in short]
    found += [f"cgroup {path}" for path in _cgroups(daemon) if path.rpartition("/")[2] not in running]
    for name in ("trash", "content/ingest"):
        found += [f"{name}: {entry}" for entry in os.listdir(daemon.root / name)]
    return found


def _cgroups(daemon: Daemon) -> list[str]:
    return [path for path, _, _ in os.walk("/sys/fs/cgroup") if f"/{daemon.name}/" in path]


def _check(daemon: Daemon, ledger: Ledger) -> None:
    inspected = {
        row["Id"]: _get(daemon, f"/containers/{row['Id']}/json")
        for row in _get(daemon, "/containers/json?all=1")
    }
    assert [ledger.names[id] for id in ledger.names.keys() - inspected.keys()] == [], "lost"
    assert sorted(ledger.removed & inspected.keys()) == [], "removed, and there again"
    for id, names in ledger.names.items():
        assert inspected[id]["Name"][1:] in names
    names = [one["Name"] for one in inspected.values()]
    assert len(names) == len(set(names)), "a name twice"
    living = {id: one for id, one in inspected.items() if one["State"]["Running"]}
    stopped = [inspected[id]["State"] for id in ledger.running - living.keys()]
    assert stopped == [], "started, and not running"
    for one in living.values():
        assert Path(f"/proc/{one['State']['Pid']}/comm").read_text() == "sleep\n"
    addresses = [
        address
        for one in living.values()
        if one["HostConfig"]["NetworkMode"] == "bridge"
        for address in [one["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]]
    ]
    assert all(addresses)
    assert len(addresses) == len(set(addresses)), "an address twice"
    for name in ledger.images:
        _get(daemon, f"/images/{quote(name)}/json")
    assert _eventually(lambda: _unowned(daemon)) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_end_at_any_moment_loses_nothing_and_leaves_nothing(
    own_daemon: Daemon, number: signal.Signals
) -> None:
    daemon = own_daemon
    ledger = Ledger()
    seed = os.environ.get("SEED", "") or str(random.randrange(10**6))
    dice = random.Random(seed)
    for turn in range(ROUNDS):
        clients = [Client(daemon, ledger, f"{seed}-{turn}-{which}") for which in range(4)]
        for client in clients:
            client.start()
        time.sleep(dice.uniform(0.1, BUSY))
        daemon.stop(number)
        for client in clients:
            client.join()
        assert ledger.surprises == [], seed
        daemon.start()
        _check(daemon, ledger)
    daemon.remove_containers()
    for image in _get(daemon, "/images/json"):
        daemon.request("DELETE", f"/images/{image['Id']}?force=1")
    assert daemon.faults() == ""
    assert _eventually(lambda: _unowned(daemon) + _blobs(daemon)) == []


def _blobs(daemon: Daemon) -> list[str]:
    """What is left of images and containers when all were removed."""
    folders = ("content/blobs/sha256", "overlay2", "containers")
    return [f"{folder}/{name}" for folder in folders for name in os.listdir(daemon.root / folder)]
