"""Docker's JSON of the engine's records."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cloche.api import render_container, times
from cloche.api.query import flag, number
from cloche.engine.records import Container, ContainerConfig, ContainerState, EndpointRecord, EngineInfo
from cloche.errors import InvalidArgument

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (59 * 60, "59 minutes"),
        (61 * 60, "About an hour"),
        (2 * 3600, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_durations_in_dockers_words(seconds: int, text: str) -> None:
    assert times.human_duration(seconds * SECOND) == text


def test_times() -> None:
    assert times.rfc3339(0) == "0001-01-01T00:00:00Z"
    assert times.rfc3339(1_700_000_000 * SECOND + 5) == "2023-11-14T22:13:20.000000005Z"


def test_query() -> None:
    assert [flag({"x": v}, "x") for v in ("1", "true", "0", "False", "", "no", "none", "yes")] == [
        *(True, True, False, False, False, False, False, True)
    ]
    assert (flag({}, "x"), flag({}, "x", True)) == (False, True)
    assert (number({}, "t"), number({"t": ""}, "t"), number({"t": "-1"}, "t")) == (None, None, -1)
    with pytest.raises(InvalidArgument, match="t: 'x'"):
        number({"t": "x"}, "t")


INFO = EngineInfo(
    id="engine",
    root="/r",
    driver="overlay2",
    driver_status=(),
    cgroup_driver="cgroupfs",
    cgroup_version=2,
    memory_limit=True,
    swap_limit=True,
    pids_limit=True,
    cpu_quota=True,
    cpu_shares=True,
    cpuset=True,
    containers=1,
    running=1,
    stopped=0,
    images=1,
    ipv4_forwarding=True,
    security_options=(),
    warnings=(),
)
CONTAINER = Container(
    id="c" * 64,
    name="one",
    created_at=5 * SECOND,
    image_id="sha256:" + "1" * 64,
    config=ContainerConfig(image="busybox", tmpfs={"/t": ""}, binds=("/a:/b:ro,rshared",)),
    entrypoint=("sh", "-c"),
    command=("echo a b",),
    environment=("A=1",),
    working_dir="/",
    user="",
    stop_signal="SIGTERM",
    labels={},
    hostname="h",
    driver="overlay2",
    state=ContainerState(status="running", pid=7, started_at=10 * SECOND),
    endpoint=EndpointRecord("172.17.0.2", 16, "172.17.0.1", "02:42:ac:11:00:02", "clocheabc"),
)


def inspected(container: Container) -> Any:
    return msgspec.json.decode(msgspec.json.encode(render_container.inspect(container, INFO, None)))


def test_inspect_of_a_running_container() -> None:
    shown = inspected(CONTAINER)
    assert (shown["Path"], shown["Args"]) == ("sh", ["-c", "echo a b"])
    assert shown["State"]["Pid"] == 7
    assert shown["NetworkSettings"]["IPAddress"] == "172.17.0.2"
    assert shown["NetworkSettings"]["Networks"]["bridge"]["MacAddress"] == "02:42:ac:11:00:02"
    assert shown["Mounts"][0] == {
        "Type": "bind",
        "Source": "/a",
        "Destination": "/b",
        "Mode": "ro,rshared",
        "RW": False,
        "Propagation": "rshared",
    }
    assert "SizeRw" not in shown
    assert shown["LogPath"] == f"/r/containers/{'c' * 64}/{'c' * 64}-json.log"


def test_inspect_of_an_ended_container() -> None:
    ended = msgspec.structs.replace(
        CONTAINER,
        state=ContainerState(status="exited", exit_code=3, started_at=SECOND, finished_at=2 * SECOND),
    )
    shown = inspected(ended)
    assert (shown["State"]["Pid"], shown["State"]["ExitCode"]) == (0, 3)
    assert shown["NetworkSettings"]["IPAddress"] == ""
    assert render_container.status(ended, now=62 * SECOND) == "Exited (3) About a minute ago"


def test_row_of_ps() -> None:
    row = render_container.summary(CONTAINER, "engine", "busybox", (1, 2), now=130 * SECOND)
    assert (row.Command, row.Status, row.SizeRw) == ("sh -c 'echo a b'", "Up 2 minutes", 1)


def test_image_is_shown_by_id_when_its_name_has_moved_on() -> None:
    assert render_container.image_name(CONTAINER, CONTAINER.image_id) == "busybox"
    assert render_container.image_name(CONTAINER, "sha256:" + "2" * 64) == CONTAINER.image_id
    assert render_container.image_name(CONTAINER, None) == CONTAINER.image_id
