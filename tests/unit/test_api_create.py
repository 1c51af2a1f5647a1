"""Bodies of ``POST /containers/create``: what clients send by default is taken, what is not enforced is
refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.api import parse_create
from cloche.engine.records import ContainerConfig, Device, LogSettings, Ulimit
from cloche.errors import ClocheError, InvalidArgument, Unsupported

# What docker 28 sends for `docker run busybox`: every field, most of them empty in one of Go's ways.
DEFAULTS: dict[str, Any] = {
    "Binds": None,
    "ContainerIDFile": "",
    "LogConfig": {"Type": "", "Config": {}},
    "NetworkMode": "default",
    "PortBindings": {},
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "AutoRemove": False,
    "VolumeDriver": "",
    "VolumesFrom": None,
    "ConsoleSize": [24, 80],
    "CapAdd": None,
    "CapDrop": None,
    "CgroupnsMode": "",
    "Dns": [],
    "DnsOptions": [],
    "DnsSearch": [],
    "ExtraHosts": None,
    "GroupAdd": None,
    "IpcMode": "",
    "Cgroup": "",
    "Links": None,
    "OomScoreAdj": 0,
    "PidMode": "",
    "Privileged": False,
    "PublishAllPorts": False,
    "ReadonlyRootfs": False,
    "SecurityOpt": None,
    "UTSMode": "",
    "UsernsMode": "",
    "ShmSize": 0,
    "Isolation": "",
    "CpuShares": 0,
    "Memory": 0,
    "NanoCpus": 0,
    "CgroupParent": "",
    "BlkioWeight": 0,
    "BlkioWeightDevice": [],
    "BlkioDeviceReadBps": [],
    "BlkioDeviceWriteBps": [],
    "BlkioDeviceReadIOps": [],
    "BlkioDeviceWriteIOps": [],
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "Devices": [],
    "DeviceCgroupRules": None,
    "DeviceRequests": None,
    "MemoryReservation": 0,
    "MemorySwap": 0,
    "MemorySwappiness": -1,
    "OomKillDisable": False,
    "PidsLimit": 0,
    "Ulimits": [],
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
    "MaskedPaths": None,
    "ReadonlyPaths": None,
}


def parse(host: dict[str, Any] | None = None, **top: Any) -> ContainerConfig:
    body = {"Image": "busybox", "HostConfig": {**DEFAULTS, **(host or {})}, **top}
    return parse_create.parse(msgspec.json.encode(body))


def test_defaults_ask_for_nothing() -> None:
    assert parse() == ContainerConfig(image="busybox", console_size=(24, 80))
    assert parse_create.parse(
        b'{"Image": "busybox", "HostConfig": null, "NetworkingConfig": null}'
    ) == parse({"ConsoleSize": [0, 0]})


def test_program() -> None:
    config = parse(
        Cmd=["echo", "hi"],
        Entrypoint="/bin/sh",
        Env=["A=1", "B"],
        Tty=True,
        OpenStdin=True,
        StdinOnce=True,
        User="1:2",
        WorkingDir="/w",
        Labels={"a": "b"},
        StopTimeout=0,
        ExposedPorts={"80/tcp": {}},
    )
    assert (config.entrypoint, config.command) == (("/bin/sh",), ("echo", "hi"))
    assert (config.environment, config.user, config.working_dir) == (("A=1", "B"), "1:2", "/w")
    assert (config.terminal, config.open_stdin, config.stdin_once) == (True, True, True)
    assert (config.labels, config.stop_timeout, config.exposed_ports) == ({"a": "b"}, 0, ("80/tcp",))


def test_empty_entrypoint_is_not_the_images() -> None:
    assert parse(Entrypoint=[""]).entrypoint == ()
    assert parse(Entrypoint=None).entrypoint is None
    assert parse(Entrypoint=[]).entrypoint is None
    assert parse(Cmd=[]).command is None


def test_isolation_and_limits() -> None:
    config = parse(
        {
            "Binds": ["/a:/b:ro"],
            "Mounts": [
                {"Type": "bind", "Source": "/etc", "Target": "/d", "ReadOnly": True},
                {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o1777}},
            ],
            "Tmpfs": {"/run": "size=1m"},
            "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}],
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            "Memory": 1 << 20,
            "PidsLimit": 7,
            "MemorySwappiness": 0,
            "MaskedPaths": [],
            "Init": True,
        }
    )
    assert config.binds == ("/a:/b:ro", "/etc:/d:ro")
    assert config.tmpfs == {"/run": "size=1m", "/t": "size=4096,mode=1777"}
    assert config.devices == (Device("/dev/null", "/dev/x", "r"),)
    assert config.ulimits == (Ulimit("nofile", 1, 2),)
    assert config.log == LogSettings("json-file", {"max-size": "1m"})
    assert (config.memory, config.pids_limit, config.memory_swappiness) == (1 << 20, 7, 0)
    assert (config.masked_paths, config.readonly_paths, config.init) == ((), None, True)


@pytest.mark.parametrize("unlimited", [-1, 0, None])
def test_no_pids_limit(unlimited: int | None) -> None:
    assert parse({"PidsLimit": unlimited}).pids_limit is None


@pytest.mark.parametrize("field", sorted(parse_create.UNSUPPORTED))
def test_unsupported_fields_are_refused_by_name(field: str) -> None:
    with pytest.raises(Unsupported, match=rf"HostConfig\.{field}\b"):
        parse({field: ["x"]})


@pytest.mark.parametrize(
    ("host", "top", "error", "match"),
    [
        ({"RestartPolicy": {"Name": "always"}}, {}, Unsupported, "RestartPolicy"),
        ({"Binds": ["data:/data"]}, {}, Unsupported, "volume 'data'"),
        ({"Binds": ["/data"]}, {}, Unsupported, "anonymous volume"),
        ({"Mounts": [{"Type": "volume", "Target": "/v"}]}, {}, Unsupported, "volume"),
        ({"Mounts": [{"Type": "bind", "Source": "x", "Target": "/v"}]}, {}, InvalidArgument, "absolute"),
        (
            {"Mounts": [{"Type": "bind", "Source": "/no/such", "Target": "/v"}]},
            {},
            InvalidArgument,
            "bind source path does not exist: /no/such",
        ),
        ({"Mounts": [{"Type": "bind", "Source": "/a:b", "Target": "/v"}]}, {}, Unsupported, "colon"),
        ({"LogConfig": {"Type": "syslog"}}, {}, Unsupported, "syslog"),
        ({"LogConfig": {"Config": {"tag": "x"}}}, {}, InvalidArgument, "unknown log opt 'tag'"),
        ({"NetworkMode": "mine"}, {}, InvalidArgument, "network mine not found"),
        ({"ShmSize": -1}, {}, InvalidArgument, "SHM size"),
        ({}, {"Volumes": {"/v": {}}}, Unsupported, "Volumes"),
        ({}, {"Image": ""}, InvalidArgument, "image"),
        ({}, {"Healthcheck": {"Test": ["CMD", "true"]}}, Unsupported, "Healthcheck"),
        (
            {},
            {"NetworkingConfig": {"EndpointsConfig": {"bridge": {"Aliases": ["a"]}}}},
            Unsupported,
            "Aliases",
        ),
    ],
)
def test_refusals(host: Any, top: Any, error: type[ClocheError], match: str) -> None:
    with pytest.raises(error, match=match):
        parse(host, **top)


@pytest.mark.parametrize(
    "body", [b"", b" ", b"{", b"[]", b'{"Image": 1}', b'{"HostConfig": 7, "Image": "x"}']
)
def test_broken_bodies(body: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, InvalidArgument)):
        parse_create.parse(body)


_scalar = st.none() | st.booleans() | st.integers(-2, 1 << 40) | st.text(max_size=4)
_json = _scalar | st.lists(_scalar, max_size=2) | st.dictionaries(st.text(max_size=4), _scalar, max_size=2)


@given(st.dictionaries(st.sampled_from(sorted(DEFAULTS)), _json, max_size=4))
def test_any_json_is_taken_or_refused_clearly(host: dict[str, Any]) -> None:
    try:
        parse(host)
    except (ClocheError, msgspec.MsgspecError):
        pass
