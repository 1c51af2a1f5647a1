import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.errors import InvalidArgument
from cloche.images.reference import familiar, parse, with_tag


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("user/app:v1_2", "docker.io/user/app:v1_2"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b/c:t", "localhost:5000/a/b/c:t"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("quay.io/a/b", "quay.io/a/b:latest"),
        ("busybox@sha256:" + "0" * 64, "docker.io/library/busybox@sha256:" + "0" * 64),
        ("a__b-c.d--e", "docker.io/library/a__b-c.d--e:latest"),
    ],
)
def test_short_names_are_completed(text: str, full: str) -> None:
    assert str(with_tag(text)) == full


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "Busybox",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a:b:c",
        "a:-x",
        "-a",
        "a@sha256:12",
        "a b",
        "a" * 300,
        "0" * 64,
    ]
    + ["a..b", "a___b", "../a", "quay.io/", "a:" + "t" * 129, "sha256:" + "0" * 64, "sha256:abc", "sha256"],
)
def test_bad_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse(text)


@pytest.mark.parametrize(
    ("full", "short"),
    [
        ("docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/user/app:v1", "user/app:v1"),
        ("quay.io/library/app:v1", "quay.io/library/app:v1"),
    ],
)
def test_familiar_is_the_short_form(full: str, short: str) -> None:
    assert familiar(full) == short


@given(st.text(alphabet="ab0._-/:@A[]", max_size=30))
def test_what_parses_is_stable(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidArgument:
        return
    assert parse(str(reference)) == reference
    assert parse(familiar(str(reference))) == reference
