"""The image verbs by the real command."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import tarfile
from pathlib import Path

from tests.conftest import Daemon


def test_list_and_inspect(daemon: Daemon) -> None:
    row = json.loads(daemon.ok("images", "--no-trunc", "--format", "json", "busybox"))
    assert (row["Repository"], row["Tag"]) == ("busybox", "latest")
    shown = json.loads(daemon.ok("image", "inspect", "busybox"))[0]
    assert shown["Id"] == row["ID"]
    assert shown["RepoTags"] == ["busybox:latest"]
    assert shown["Os"] == "linux"
    assert len(shown["RootFS"]["Layers"]) == 1
    assert shown["Size"] > 100_000
    assert daemon.ok("image", "inspect", "-f", "{{.Id}}", shown["Id"][7:19]) == shown["Id"]


def test_history(daemon: Daemon) -> None:
    rows = [json.loads(line) for line in daemon.ok("history", "--format", "json", "busybox").splitlines()]
    assert len(rows) >= 1


def test_tag_and_remove(daemon: Daemon) -> None:
    daemon.ok("tag", "busybox", "example.org/team/box:v1")
    assert daemon.ok("images", "-q", "example.org/team/box") != ""
    assert daemon.ok("run", "--rm", "example.org/team/box:v1", "echo", "hi") == "hi"
    assert daemon.ok("rmi", "example.org/team/box:v1") == "Untagged: example.org/team/box:v1"
    assert daemon.docker("image", "inspect", "example.org/team/box:v1").returncode == 1
    daemon.ok("image", "inspect", "busybox")


def test_remove_in_use(daemon: Daemon) -> None:
    daemon.ok("create", "--name", "user", "busybox")
    done = daemon.docker("rmi", daemon.ok("images", "-q", "busybox"))
    assert done.returncode == 1
    assert "conflict" in done.stderr
    daemon.ok("image", "inspect", "busybox")


def test_save_and_load(daemon: Daemon, tmp_path: Path) -> None:
    daemon.ok("tag", "busybox", "copy:1")
    before = daemon.ok("image", "inspect", "-f", "{{.Id}}", "copy:1")
    archive = tmp_path / "copy.tar"
    daemon.ok("save", "-o", str(archive), "copy:1")
    with tarfile.open(archive) as tar:
        assert {"manifest.json"} <= set(tar.getnames())
    daemon.ok("rmi", "copy:1")
    assert daemon.ok("load", "-i", str(archive)) == "Loaded image: copy:1"
    assert daemon.ok("image", "inspect", "-f", "{{.Id}}", "copy:1") == before
    subprocess.run(["gzip", str(archive)], check=True)
    assert "Loaded image: copy:1" in daemon.ok("load", "-i", f"{archive}.gz")
    daemon.ok("rmi", "copy:1")


def _tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o755
            tar.addfile(entry, io.BytesIO(data))
    return path


def test_import(daemon: Daemon, tmp_path: Path) -> None:
    archive = _tar(
        tmp_path / "root.tar", {"bin/busybox": Path("/bin/busybox").read_bytes(), "hello": b"hi\n"}
    )
    image = daemon.ok(
        "import", "-c", 'CMD ["/bin/busybox", "cat", "/hello"]', "-m", "why", str(archive), "made:1"
    )
    assert image.startswith("sha256:")
    assert daemon.ok("run", "--rm", "made:1") == "hi"
    assert daemon.ok("image", "inspect", "-f", "{{.Comment}}", "made:1") == "why"
    daemon.ok("rmi", "made:1")


def test_broken_archive(daemon: Daemon, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"this is no tar at all" * 100)
    done = daemon.docker("load", "-i", str(broken))
    assert done.returncode == 1
    assert "Error response from daemon: " in done.stderr
    done = daemon.docker("import", str(broken), "never:1")
    assert done.returncode == 1
    assert daemon.docker("image", "inspect", "never:1").returncode == 1


def test_upload_broken_off(daemon: Daemon) -> None:
    before = daemon.ok("images", "-aq")
    with open("/proc/self/exe", "rb") as file:
        some = file.read(1 << 20)
    for path in ("/images/load", "/images/create?fromSrc=-&repo=half"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(daemon.socket)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{len(some):x}\r\n"
        client.sendall(head.encode() + some[: len(some) // 2])
        client.close()
    assert daemon.ok("images", "-aq") == before


def test_broken_framing(daemon: Daemon) -> None:
    client = socket.socket(socket.AF_UNIX)
    client.connect(daemon.socket)
    client.sendall(
        b"POST /images/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnothing"
    )
    assert b" 400 Bad Request\r\n" in client.recv(1000)
    client.close()


def test_much_too_long_json(daemon: Daemon) -> None:
    status, body = daemon.request("POST", "/containers/create", b" " * (17 << 20))
    assert status == 413
    assert "16 MiB" in json.loads(body)["message"]


def test_pull_says_what_to_do(daemon: Daemon) -> None:
    done = daemon.docker("pull", "alpine")
    assert done.returncode == 1
    assert "docker load" in done.stderr
    assert "up to date" in daemon.ok("pull", "busybox")


def test_from_host(daemon: Daemon) -> None:
    body = json.dumps({"commands": ["bash", "ls"]}).encode()
    status, answer = daemon.request("POST", "/images/from-host?name=tools", body)
    assert status == 201, answer
    assert json.loads(answer)["RepoTags"] == ["tools:latest"]
    assert daemon.ok("run", "--rm", "tools", "bash", "-c", "ls -d /") == "/"
    daemon.ok("rmi", "tools")
