"""The same through docker-py."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Daemon

docker = pytest.importorskip("docker")


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Any]:
    client = daemon.client()
    yield client
    client.close()


def test_version_and_info(client: Any) -> None:
    assert client.ping()
    assert client.version()["ApiVersion"] == "1.51"
    info = client.info()
    assert info["Driver"] == "overlay2"
    assert info["OSType"] == "linux"


def test_run(client: Any) -> None:
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
    with pytest.raises(docker.errors.ContainerError) as failed:
        client.containers.run("busybox", ["sh", "-c", "echo why >&2; exit 3"], remove=True)
    assert failed.value.exit_status == 3
    assert b"why" in failed.value.stderr


def test_lifecycle(client: Any) -> None:
    container = client.containers.run("busybox", ["sleep", "60"], detach=True, name="py", labels={"a": "b"})
    assert [c.name for c in client.containers.list(filters={"label": "a=b"})] == ["py"]
    container.reload()
    assert container.status == "running"
    assert container.attrs["NetworkSettings"]["IPAddress"]
    assert container.top()["Processes"][0][-1] == "sleep 60"
    container.rename("py2")
    container.restart(timeout=0)
    container.stop(timeout=0)
    assert container.wait() == {"StatusCode": 137}
    container.start()
    container.kill("SIGTERM")
    container.kill()
    assert container.wait(condition="not-running")["StatusCode"] == 137
    container.remove()
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("py2")


def test_errors(client: Any) -> None:
    with pytest.raises(docker.errors.ImageNotFound):
        client.containers.create("no-such-image")
    with pytest.raises(docker.errors.ImageNotFound, match="docker load"):
        client.containers.run("no-such-image")
    client.containers.create("busybox", name="taken")
    with pytest.raises(docker.errors.APIError) as conflict:
        client.containers.create("busybox", name="taken")
    assert conflict.value.status_code == 409
    with pytest.raises(docker.errors.APIError) as unsupported:
        client.containers.create("busybox", ports={"80/tcp": 8080})
    assert unsupported.value.status_code == 501
    assert "PortBindings" in unsupported.value.explanation


def test_logs(client: Any) -> None:
    container = client.containers.run("busybox", ["sh", "-c", "echo e >&2; sleep 0.1; seq 1 5"], detach=True)
    container.wait()
    assert container.logs(stderr=False) == b"1\n2\n3\n4\n5\n"
    assert container.logs(stdout=False) == b"e\n"
    assert container.logs(stderr=False, tail=2) == b"4\n5\n"
    assert list(container.logs(stderr=False, stream=True, follow=True)) == [
        b"1\n",
        b"2\n",
        b"3\n",
        b"4\n",
        b"5\n",
    ]


def test_attach_socket_both_ways(client: Any) -> None:
    container = client.containers.create("busybox", "cat", stdin_open=True)
    stream = client.api.attach_socket(container.id, params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    stream._sock.sendall(b"to and fro\n")
    head = _exactly(stream._sock, 8)
    assert head == b"\1\0\0\0\0\0\0\x0b"
    assert _exactly(stream._sock, 11) == b"to and fro\n"
    stream._sock.shutdown(1)
    assert container.wait()["StatusCode"] == 0
    assert stream._sock.recv(10) == b""
    stream.close()


def _exactly(connection: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        assert more, f"ended after {data!r}"
        data += more
    return data


def test_attach_to_a_terminal(client: Any) -> None:
    container = client.containers.create("busybox", ["echo", "hi"], tty=True)
    output = client.api.attach(container.id, stream=True)
    container.start()
    assert b"".join(output) == b"hi\r\n"


def test_limits(client: Any) -> None:
    container = client.containers.run(
        "busybox",
        ["sh", "-c", "exec tail /dev/zero"],
        mem_limit="32m",
        pids_limit=9,
        nano_cpus=10**9,
        detach=True,
    )
    assert container.wait()["StatusCode"] == 137
    container.reload()
    assert container.attrs["State"]["OOMKilled"] is True
    host = container.attrs["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["NanoCpus"]) == (32 << 20, 9, 10**9)


def test_options(client: Any) -> None:
    out = client.containers.run(
        "busybox",
        [
            "sh",
            "-c",
            "id -u; echo $X; pwd; touch /f 2>/dev/null || echo read-only; hostname; df /t | tail -1",
        ],
        user="7",
        environment={"X": "y"},
        working_dir="/tmp",
        read_only=True,
        hostname="h",
        tmpfs={"/t": "size=1m"},
        cap_drop=["ALL"],
        init=True,
        remove=True,
    )
    lines = out.decode().splitlines()
    assert lines[:5] == ["7", "y", "/tmp", "read-only", "h"]
    assert "1024" in lines[5]


def test_events(client: Any) -> None:
    seen = []
    stream = client.events(decode=True, filters={"type": "container"})
    reader = threading.Thread(target=lambda: seen.extend(e["Action"] for e in stream), daemon=True)
    reader.start()
    client.containers.run("busybox", "true", name="ev", remove=True)
    client.containers.create("busybox", name="last").remove()
    stream.close()
    reader.join(5)
    assert [a for a in seen if a in ("create", "start", "die", "destroy")][:4] == [
        "create",
        "start",
        "die",
        "destroy",
    ]


def test_images(client: Any) -> None:
    image = client.images.get("busybox")
    assert image.tags == ["busybox:latest"]
    image.tag("py/box", "2")
    archive = b"".join(client.images.get("py/box:2").save(named="py/box:2"))
    client.images.remove("py/box:2")
    loaded = client.images.load(io.BytesIO(archive))
    assert loaded[0].id == image.id
    assert [i.id for i in client.images.list("py/box")] == [image.id]
    client.images.remove("py/box:2")
    assert [n.name for n in client.networks.list()] == ["bridge", "host", "none"]
    assert client.volumes.list() == []
    assert client.df()["Images"]
