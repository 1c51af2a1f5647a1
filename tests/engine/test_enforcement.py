"""What was asked for is what the kernel enforces."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from rig import Rig

from cloche.engine.records import Device, Ulimit
from cloche.errors import InvalidArgument


async def test_identity(rig: Rig) -> None:
    script = "hostname; pwd; echo $FOO $HOME; id -u; id -g; id -G"
    code, output = await rig.run(
        "sh", "-c", script, hostname="here", working_dir="/some/where", environment=("FOO=bar",),
        user="1000:1001", group_add=("7",),
    )  # fmt: skip
    assert code == 0, output
    assert output.splitlines() == ["here", "/some/where", "bar /", "1000", "1001", "1001 7"]


async def test_a_memory_limit_kills_and_is_told(rig: Rig) -> None:
    since = time.time_ns()
    id = await rig.start("sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1", memory=16 << 20)
    assert await rig.ended(id) == 137
    assert rig.engine.containers.get(id).state.oom_killed
    assert "oom" in [event.action for event in await rig.events(since, time.time_ns())]
    await rig.remove(id)


async def test_limits_reach_the_cgroup(rig: Rig) -> None:
    limits = {"memory": 32 << 20, "nano_cpus": 500_000_000, "pids_limit": 33, "cpu_shares": 512}
    id = await rig.start("sleep", "60", **limits)
    version = rig.engine.info().cgroup_version
    inside = f"{rig.settings.name}/{id}"
    expected = {
        1: {
            "memory/{}/memory.limit_in_bytes": str(32 << 20),
            "cpu/{}/cpu.cfs_quota_us": "50000",
            "cpu/{}/cpu.shares": "512",
            "pids/{}/pids.max": "33",
        },
        2: {"{}/memory.max": str(32 << 20), "{}/cpu.max": "50000 100000", "{}/pids.max": "33"},
    }[version]
    for path, value in expected.items():
        assert Path("/sys/fs/cgroup", path.format(inside)).read_text().strip() == value
    await rig.remove(id)


async def test_capabilities_and_privileges(rig: Rig) -> None:
    async def status(**config: object) -> dict[str, str]:
        _, text = await rig.run("cat", "/proc/self/status", **config)
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    default = await status()
    assert (default["CapEff"], default["CapBnd"], default["CapInh"]) == ("00000000a80425fb",) * 2 + (
        "0" * 16,
    )
    assert (default["Seccomp"], default["NoNewPrivs"]) == ("2", "0")
    tight = await status(cap_drop=("ALL",), cap_add=("chown",), security_opt=("no-new-privileges",))
    assert (tight["CapEff"], tight["NoNewPrivs"]) == (f"{1:016x}", "1")
    loose = await status(privileged=True)
    assert loose["Seccomp"] == "0"
    assert int(loose["CapEff"], 16) > int(default["CapEff"], 16)
    assert (await status(security_opt=("seccomp=unconfined",)))["Seccomp"] == "0"


async def test_file_systems(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from the host\n")
    script = "cat /mnt/given; touch /x; touch /mnt/y; touch /scratch/z && echo scratch; df -k /scratch"
    code, output = await rig.run(
        "sh",
        "-c",
        script,
        readonly_rootfs=True,
        binds=(f"{tmp_path}:/mnt:ro",),
        tmpfs={"/scratch": "size=1m"},
    )
    assert code == 0
    assert "from the host\n" in output
    assert output.count("Read-only file system") == 2
    assert "scratch\n" in output
    assert " 1024 " in output


async def test_rlimits_sysctls_devices_and_oom_score(rig: Rig) -> None:
    script = (
        "ulimit -n; cat /proc/sys/net/ipv4/ip_default_ttl; cat /proc/self/oom_score_adj; ls -l /dev/other"
    )
    code, output = await rig.run(
        "sh", "-c", script, ulimits=(Ulimit("nofile", 77, 77),), sysctls={"net.ipv4.ip_default_ttl": "33"},
        oom_score_adj=300, devices=(Device("/dev/null", "/dev/other"),),
    )  # fmt: skip
    assert code == 0, output
    assert output.split()[:3] == ["77", "33", "300"]
    assert "1,   3" in output


async def test_namespaces_are_shared_as_asked(rig: Rig) -> None:
    def own(path: str) -> str:
        return str(Path(path).readlink())

    holder = await rig.start("sleep", "60", name="holder")
    pid = rig.engine.containers.get(holder).state.pid
    _, output = await rig.run(
        "sh",
        "-c",
        "readlink /proc/self/ns/net; readlink /proc/self/ns/uts",
        network_mode="container:holder",
        uts_mode="host",
    )
    network, uts = output.split()
    assert network == own(f"/proc/{pid}/ns/net")
    assert uts == own("/proc/self/ns/uts")
    _, output = await rig.run("sh", "-c", "cat /proc/1/cmdline", pid_mode="container:holder")
    assert output.split("\0")[:2] == ["sleep", "60"]
    _, output = await rig.run("readlink", "/proc/self/ns/net", network_mode="host")
    assert output.strip() == own("/proc/self/ns/net")
    await rig.remove(holder)


async def test_a_shared_namespace_is_found_again_under_another_name(rig: Rig) -> None:
    holder = await rig.start("sleep", "60", name="holder")
    guest = await rig.create("true", network_mode="container:holder")
    await rig.engine.containers.rename("holder", "renamed")
    assert guest.config.network_mode == f"container:{holder}"
    await rig.engine.containers.start(guest.id)
    for id in (guest.id, holder):
        await rig.remove(id)
    with pytest.raises(InvalidArgument, match="No such container: nobody"):
        await rig.create("true", network_mode="container:nobody")


async def test_init_reaps_and_passes_signals_on(rig: Rig) -> None:
    id = await rig.start("sh", "-c", "echo ready; exec sleep 60", init=True)
    await rig.until(id, "ready")
    await rig.engine.containers.stop(id, 5, None)
    assert rig.engine.containers.get(id).state.exit_code == 143
    await rig.remove(id)


async def test_the_default_bridge(rig: Rig) -> None:
    first = await rig.start("sleep", "60", network_mode="default", hostname="one")
    endpoint = rig.engine.containers.get(first).endpoint
    assert endpoint
    code, output = await rig.run(
        "sh",
        "-c",
        f"ip -o addr show eth0; ping -c 1 -W 2 {endpoint.address}; cat /etc/hosts",
        network_mode="bridge",
    )
    assert code == 0, output
    assert "1 packets received" in output
    await rig.reopen()
    assert rig.engine.containers.get(first).endpoint == endpoint
    second = await rig.start("sleep", "60", network_mode="default")
    other = rig.engine.containers.get(second).endpoint
    assert other
    assert other.address != endpoint.address
    await rig.remove(first)
    await rig.remove(second)


async def test_a_bridge_that_somebody_deleted_is_made_again(rig: Rig) -> None:
    assert (await rig.run("true", network_mode="bridge"))[0] == 0
    subprocess.run(["ip", "link", "delete", f"{rig.settings.name}0"], check=True)
    assert (await rig.run("true", network_mode="bridge"))[0] == 0


@pytest.mark.parametrize("path", ["/proc/kcore", "/sys/firmware"])
async def test_masked_paths(rig: Rig, path: str) -> None:
    _, output = await rig.run("sh", "-c", f"ls -A {path} 2>&1; cat {path} 2>/dev/null | wc -c")
    assert output.split()[-1] == "0"


async def test_a_users_seccomp_profile(rig: Rig) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    code, output = await rig.run("mkdir", "/x", security_opt=("seccomp=" + json.dumps(profile),))
    assert code == 1
    assert "Operation not permitted" in output
