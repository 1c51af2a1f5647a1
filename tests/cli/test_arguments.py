"""Command lines, parsed by the help texts."""

from __future__ import annotations

import pytest

from cloche.cli import containers, creation, explain, images, run, system
from cloche.cli.arguments import HelpWanted, parse, specification
from cloche.cli.errors import UsageError

HELP = """
Usage: cloche try [OPTIONS] IMAGE [COMMAND] [ARG...]

Options:
  -e, --env LIST...   Several
  -d, --detach        A switch
      --no-trunc      Another
  -n, --last NUMBER   A value
"""


def test_options_by_every_spelling() -> None:
    arguments = parse(
        HELP, ["-e", "A=1", "--env", "B=2", "--env=C=3", "-eD=4", "-n5", "--no-trunc", "image"]
    )
    assert arguments.env == ["A=1", "B=2", "C=3", "D=4"]
    assert arguments.last == "5"
    assert arguments.no_trunc is True
    assert arguments.detach is None
    assert arguments.operands == ["image"]


def test_short_switches_share_a_dash() -> None:
    arguments = parse(HELP, ["-dn", "5", "image"])
    assert (arguments.detach, arguments.last) == (True, "5")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("F", False)])
def test_switch_with_value(text: str, value: bool) -> None:
    assert parse(HELP, [f"--detach={text}", "image"]).detach is value


def test_options_behind_the_image_are_the_containers() -> None:
    arguments = parse(HELP, ["-d", "image", "ls", "-d", "--help"], interspersed=False)
    assert arguments.operands == ["image", "ls", "-d", "--help"]


def test_options_behind_operands() -> None:
    assert parse(HELP, ["image", "-d"]).detach is True


def test_two_dashes_end_the_options() -> None:
    assert parse(HELP, ["--", "-d"]).operands == ["-d"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nope", "image"], "unknown flag: --nope"),
        (["-z", "image"], "unknown shorthand flag: 'z' in -z"),
        (["image", "-n"], "flag needs an argument: -n"),
        (["--last"], "flag needs an argument: --last"),
        (["--detach=maybe", "image"], "true or false"),
        ([], "1 argument wanted"),
    ],
)
def test_wrong_command_lines(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse(HELP, argv)
    assert caught.value.code == 125


def test_too_many_operands() -> None:
    with pytest.raises(UsageError, match="at most 2 arguments"):
        parse("Usage: cloche tag IMAGE NAME", ["a", "b", "c"])


def test_help() -> None:
    with pytest.raises(HelpWanted, match="cloche try"):
        parse(HELP, ["--help"])


HELP_TEXTS = [
    text
    for module in (containers, explain, images, run, system)
    for text in vars(module).values()
    if isinstance(text, str) and text.startswith("\nUsage: cloche ")
]


@pytest.mark.parametrize("text", HELP_TEXTS, ids=lambda text: text.split()[2])
def test_every_documented_option_parses(text: str) -> None:
    needed = [
        word for word in text.splitlines()[1].split()[3:] if word.isupper() and not word.startswith("[")
    ]
    for spelling, option in specification(text).items():
        option_words = [spelling] if option.kind == "switch" else [spelling, "value"]
        parsed = parse(text, [*option_words, *needed])
        assert getattr(parsed, option.key) not in (None, [])
        assert parsed.operands == needed


def body(*argv: str) -> dict[str, object]:
    arguments = parse(run.RUN, [*argv], interspersed=False)
    return creation.body(arguments, attached=not arguments.detach)


def test_body_has_only_what_was_asked_for() -> None:
    assert body("-d", "busybox") == {"Image": "busybox"}
    assert body("busybox", "ls") == {
        "Image": "busybox",
        "Cmd": ["ls"],
        "AttachStdout": True,
        "AttachStderr": True,
    }


def test_zeros_are_asked_for() -> None:
    host = body("-d", "--memory-swappiness", "0", "--oom-score-adj", "0", "busybox")["HostConfig"]
    assert host == {"MemorySwappiness": 0, "OomScoreAdj": 0}


def test_limits() -> None:
    host = body("-d", "-m", "64m", "--memory-swap", "-1", "--cpus", "1.5", "--shm-size", "1g", "busybox")
    assert host["HostConfig"] == {
        "Memory": 64 << 20,
        "MemorySwap": -1,
        "NanoCpus": 1_500_000_000,
        "ShmSize": 1 << 30,
    }


def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("PASSED_ON", "yes")
    monkeypatch.delenv("NOT_SET", raising=False)
    assert body("-d", "-e", "A=1", "-e", "PASSED_ON", "-e", "NOT_SET", "busybox")["Env"] == [
        "A=1",
        "PASSED_ON=yes",
    ]


def test_devices_ulimits_tmpfs_and_binds() -> None:
    argv = ["--device", "/dev/null:/dev/nothing:r", "--device", "/dev/zero", "--ulimit", "nofile=10:20"]
    argv += ["--tmpfs", "/t:size=1m", "-v", "/a:/b:ro", "-v", "named:/c"]
    assert body("-d", *argv, "busybox")["HostConfig"] == {
        "Devices": [
            {"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "r"},
            {"PathOnHost": "/dev/zero", "PathInContainer": "/dev/zero", "CgroupPermissions": "rwm"},
        ],
        "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
        "Tmpfs": {"/t": "size=1m"},
        "Binds": ["/a:/b:ro", "named:/c"],
    }


def test_stdin() -> None:
    asked = body("-i", "busybox")
    assert (asked["OpenStdin"], asked["StdinOnce"], asked["AttachStdin"]) == (True, True, True)
    assert "AttachStdout" not in body("-i", "-a", "stdin", "busybox")


@pytest.mark.parametrize(
    "argv",
    [
        ("-m", "lots", "busybox"),
        ("--cpus", "many", "busybox"),
        ("--pids-limit", "1.5", "busybox"),
        ("--ulimit", "nofile", "busybox"),
        ("-e", "=x", "busybox"),
        ("-a", "stdnone", "busybox"),
    ],
)
def test_values_that_cannot_be_meant(argv: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        body(*argv)
