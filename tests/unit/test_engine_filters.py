"""Docker's filters."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from cloche.engine import filters
from cloche.engine.records import Container, ContainerConfig, ContainerState, Event
from cloche.errors import InvalidArgument, NotFound
from cloche.images.model import Image, ImageConfig, ImageRuntimeConfig, RootFS


def container(number: int, name: str, status: str = "running", **fields: object) -> Container:
    base = Container(
        id=f"{number:x}" * 64,
        name=name,
        created_at=number,
        image_id="sha256:" + "a" * 64,
        config=ContainerConfig(image="busybox"),
        entrypoint=(),
        command=("true",),
        environment=(),
        working_dir="",
        user="",
        stop_signal="SIGTERM",
        labels={},
        hostname="h",
        driver="overlay2",
        state=ContainerState(status=status, started_at=1 if status != "created" else 0),
    )
    return replace(base, **fields)


WEB = container(3, "web", labels={"tier": "front", "x": ""})
DB = container(2, "db", "exited", labels={"tier": "back"})
NEW = container(1, "new-web", "created")
ALL = [WEB, DB, NEW]


def image(
    number: int, *tags: str, layers: tuple[str, ...] = ("l1",), labels: dict[str, str] | None = None
) -> Image:
    config = ImageConfig("amd64", "linux", RootFS("layers", list(layers)), ImageRuntimeConfig(Labels=labels))
    return Image("sha256:" + f"{number:x}" * 64, config, tags, (), "c", 1, number, number)


BUSYBOX = image(10, "docker.io/library/busybox:latest", labels={"a": "1"})
CHILD = image(11, "example.com/team/app:v2", layers=("l1", "l2"))
DANGLING = image(12, layers=("z",))


def find(ref: str) -> Image | None:
    return {"busybox": BUSYBOX, BUSYBOX.id: BUSYBOX, "app": CHILD}.get(ref)


def get(ref: str) -> Container:
    for known in ALL:
        if ref in (known.name, known.id):
            return known
    raise NotFound(ref)


def names(asked: dict[str, list[str]], every: bool = True, limit: int = 0) -> list[str]:
    found = filters.containers(ALL, asked, every, limit, filters.Catalogue(get, find))
    return [found.name for found in found]


def test_both_forms_of_the_query_parameter() -> None:
    assert filters.container_filters('{"status": {"running": true, "exited": false}}') == {
        "status": ["running"]
    }
    assert filters.container_filters('{"label": ["a=b", "c"]}') == {"label": ["a=b", "c"]}
    assert filters.container_filters("") == {}
    for broken in ('{"status": 3}', "[]", "{", '{"nonsense": ["x"]}'):
        with pytest.raises(InvalidArgument, match="invalid filter"):
            filters.container_filters(broken)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["web", "db", "new-web"]),
        ({"name": ["web"]}, ["web", "new-web"]),
        ({"name": ["^/web$"]}, ["web"]),
        ({"name": ["^web$", "db"]}, ["web", "db"]),
        ({"id": ["3333"]}, ["web"]),
        ({"label": ["tier"]}, ["web", "db"]),
        ({"label": ["tier=front", "x"]}, ["web"]),
        ({"status": ["exited", "created"]}, ["db", "new-web"]),
        ({"exited": ["0"]}, ["db"]),
        ({"exited": ["1"]}, []),
        ({"before": ["web"]}, ["db", "new-web"]),
        ({"since": ["new-web"]}, ["web", "db"]),
        ({"network": ["bridge"]}, ["web", "db", "new-web"]),
        ({"network": ["none"]}, []),
        ({"status": ["exited"], "label": ["tier=front"]}, []),
        ({"is-task": ["true"]}, []),
    ],
)
def test_containers(asked: dict[str, list[str]], found: list[str]) -> None:
    assert names(asked) == found


def test_running_ones_only_unless_asked_otherwise() -> None:
    assert names({}, every=False) == ["web"]
    assert names({"status": ["exited"]}, every=False) == ["db"]
    assert names({}, every=False, limit=2) == ["web", "db"]


def test_ancestors_by_image_and_by_its_layers() -> None:
    made_from_child = replace(WEB, image_id=CHILD.id)
    made_from_base = replace(DB, image_id=BUSYBOX.id)
    catalogue = filters.Catalogue(get, lambda ref: {CHILD.id: CHILD}.get(ref) or find(ref))

    def of(ref: str) -> list[Container]:
        return filters.containers([made_from_child, made_from_base], {"ancestor": [ref]}, True, 0, catalogue)

    assert of("busybox") == [made_from_child, made_from_base]
    assert of("app") == [made_from_child]
    assert of("unknown") == []


@pytest.mark.parametrize(
    "asked", [{"status": ["odd"]}, {"exited": ["x"]}, {"name": ["("]}, {"other": ["x"]}]
)
def test_bad_container_filters(asked: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidArgument, match="invalid filter"):
        names(asked)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [DANGLING, CHILD, BUSYBOX]),
        ({"dangling": ["true"]}, [DANGLING]),
        ({"dangling": ["0"]}, [CHILD, BUSYBOX]),
        ({"label": ["a=1"]}, [BUSYBOX]),
        ({"reference": ["busybox"]}, [BUSYBOX]),
        ({"reference": ["busy*:latest"]}, [BUSYBOX]),
        ({"reference": ["*"]}, [BUSYBOX]),
        ({"reference": ["*/*/app"]}, [CHILD]),
        ({"reference": ["*/*/app:v[12]"]}, [CHILD]),
        ({"before": ["app"]}, [BUSYBOX]),
        ({"since": ["busybox"]}, [DANGLING, CHILD]),
    ],
)
def test_images(asked: dict[str, list[str]], found: list[Image]) -> None:
    assert filters.images([BUSYBOX, CHILD, DANGLING], asked, find) == found


def test_events() -> None:
    attributes = {"image": "busybox:latest", "name": "web", "tier": "front"}
    event = Event("container", "exec_create: sh", "abc123", attributes, 1)
    for asked in (
        {"event": ["exec_create"]},
        {"type": ["container", "image"]},
        {"container": ["abc"]},
        {"container": ["/web"]},
        {"image": ["busybox"]},
        {"label": ["tier=front"]},
        {},
    ):
        assert filters.event_matches(event, asked), asked
    for asked in (
        {"event": ["die"]},
        {"type": ["image"]},
        {"container": ["db"]},
        {"network": ["web"]},
        {"label": ["x"]},
    ):
        assert not filters.event_matches(event, asked), asked


def test_moments() -> None:
    assert filters.moment("12.5") == 12_500_000_000
    assert filters.moment("1970-01-01T00:00:02.000000003Z") == 2_000_000_003
    assert filters.moment("1970-01-02") == 86_400_000_000_000
    assert filters.moment("1970-01-01T01:00:00+01:00") == 0
    assert abs(filters.moment("1h30m") - (time.time_ns() - 5400 * 10**9)) < 10**9
    with pytest.raises(InvalidArgument, match="invalid time"):
        filters.moment("yesterday")
