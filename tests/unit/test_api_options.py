"""The daemon's options, from flags and from ``daemon.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cloche.api import options
from cloche.engine.settings import Settings
from cloche.errors import InvalidArgument


def from_file(path: Path, directives: Any, *flags: str) -> options.Options:
    path.write_text(directives if isinstance(directives, str) else json.dumps(directives))
    return options.parse(["--config-file", str(path), *flags])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "daemon.json"


def test_defaults(file: Path) -> None:
    asked = from_file(file, {})
    assert asked == options.Options(Settings(), ("/run/cloche/cloche.sock",), "info")


def test_flags(file: Path) -> None:
    asked = from_file(
        file,
        {},
        *(
            "--root",
            "/r",
            "--run-dir",
            "/u",
            "--name",
            "n",
            "--bip",
            "10.1.0.1/24",
            "--log-opt",
            "max-size=1m",
        ),
        *("-H", "unix:///a", "-H", "unix:///b", "--label", "k=v", "-D"),
    )
    assert asked.settings == Settings(
        root="/r",
        run_dir="/u",
        name="n",
        bridge_subnet="10.1.0.1/24",
        labels=("k=v",),
        log_options={"max-size": "1m"},
    )
    assert (asked.hosts, asked.log_level) == (("/a", "/b"), "debug")


def test_dockers_names(file: Path) -> None:
    asked = from_file(
        file,
        {
            "data-root": "/r",
            "exec-root": "/u",
            "hosts": ["unix:///a"],
            "log-level": "warn",
            "log-opts": {"max-file": "2"},
            "log-driver": "json-file",
        },
    )
    assert (asked.settings.root, asked.settings.run_dir, asked.hosts) == ("/r", "/u", ("/a",))
    assert (asked.log_level, asked.settings.log_options) == ("warn", {"max-file": "2"})


@pytest.mark.parametrize(
    ("directives", "flags", "message"),
    [
        ({"colour": 1, "age": 2}, (), "directives don't match any configuration option: age, colour"),
        (
            {"hosts": ["unix:///a"], "log-level": "info"},
            ("-H", "unix:///b", "--log-level", "debug"),
            "both as a flag and in the configuration file: hosts: (from flag: [unix:///b], from file: "
            "[unix:///a]), "
            "log-level: (from flag: debug, from file: info)",
        ),
        ("{", (), "Expecting"),
        ("[]", (), "no JSON object"),
        ({"hosts": "unix:///a"}, (), "hosts must be a list of strings"),
        ({"hosts": [1]}, (), "hosts must be a list of strings"),
        ({"debug": "yes"}, (), "debug must be true or false"),
        ({"log-level": "loud"}, (), "'loud'"),
        ({"log-driver": "syslog"}, (), "'syslog'"),
        ({"log-opts": {"tag": "x"}}, (), "unknown log opt 'tag'"),
        ({}, ("-H", "tcp://0.0.0.0:2375"), "unix sockets only"),
        ({}, ("-H", "/a"), "not of the form unix://PATH"),
        ({}, ("-H", "unix://a"), "absolute"),
        ({}, ("--name", "much-too-long"), "at most 8"),
        ({}, ("--name", ""), "at most 8"),
        ({}, ("--bip", "10.0.0.0/8"), "not a host's address"),
        ({}, ("--bip", "10.0.0.1"), "not a host's address"),
        ({}, ("--bip", "10.0.0.300/8"), "not an address"),
        ({}, ("--root", ""), "empty path"),
    ],
)
def test_refusals(file: Path, directives: Any, flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        from_file(file, directives, *flags)
    assert message in str(refused.value)


def test_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no such file"):
        options.parse(["--config-file", str(tmp_path / "none")])
