"""A daemon that went away, in every way, and the next one on the same root."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from rig import Rig

from cloche.engine.engine import Engine
from cloche.errors import Internal, Unavailable
from cloche.monitor.exit import write_record
from cloche.monitor.protocol import ExitRecord


async def test_running_containers_are_found_again(rig: Rig) -> None:
    id = await rig.start("sh", "-c", "echo one; while [ ! -e /go ]; do sleep 0.05; done; exit 9")
    before = rig.engine.containers.get(id)
    await rig.reopen()
    assert rig.engine.containers.get(id) == before
    await rig.engine.containers.kill(id, "TERM")
    await asyncio.sleep(0.2)
    assert rig.engine.containers.get(id).state.status == "running"
    await rig.engine.containers.stop(id, 0, None)
    assert rig.engine.containers.get(id).state.exit_code == 137
    await rig.remove(id)


async def test_ends_meanwhile_are_reported_with_their_codes(rig: Rig) -> None:
    id = await rig.start("sh", "-c", "sleep 0.5; echo last words; exit 6")
    removed = await rig.start("sh", "-c", "sleep 0.3", auto_remove=True)
    await rig.engine.close()
    await asyncio.sleep(1)
    rig.engine = Engine(rig.settings)
    await rig.engine.start()
    state = rig.engine.containers.get(id).state
    assert (state.status, state.exit_code, state.error) == ("exited", 6, "")
    assert state.finished_at < time.time_ns() - 200_000_000
    assert await rig.output(id) == "last words\n"
    assert removed not in [container.id for container in rig.engine.containers.list()]
    await rig.remove(id)
    await rig.clean()


def _dead(pid: int) -> bool:
    """Gone, or a zombie of which whoever inherits orphans here takes no notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


async def test_a_container_whose_monitor_was_killed_is_killed_and_told(rig: Rig) -> None:
    id = await rig.start("sleep", "60")
    pid = rig.engine.containers.get(id).state.pid
    monitor = await rig.monitor(id)
    os.kill(monitor, signal.SIGKILL)
    assert await rig.ended(id) == 137
    state = rig.engine.containers.get(id).state
    assert "monitor died" in state.error
    assert _dead(pid)
    await rig.engine.containers.start(id)
    await rig.remove(id)
    await rig.clean()


async def test_monitor_and_daemon_both_killed(rig: Rig) -> None:
    id = await rig.start("sleep", "60")
    monitor = await rig.monitor(id)
    await rig.engine.close()
    os.kill(monitor, signal.SIGKILL)
    rig.engine = Engine(rig.settings)
    await rig.engine.start()
    state = rig.engine.containers.get(id).state
    assert (state.status, state.exit_code) == ("exited", 137)
    assert "monitor died" in state.error
    await rig.remove(id)
    await rig.clean()


async def test_after_a_restart_of_the_machine_a_pid_in_a_row_is_a_strangers(rig: Rig) -> None:
    id = await rig.start("sleep", "60")
    pid = rig.engine.containers.get(id).state.pid
    monitor = await rig.monitor(id)
    await rig.engine._context.store.write(lambda transaction: transaction.set_fact("boot", "another"))
    await rig.engine.close()
    os.kill(monitor, signal.SIGKILL)
    # A stranger is in no cgroup of ours.
    for parent in rig._parents():
        Path(parent).with_name("cgroup.procs").write_text(str(pid))
    rig.engine = Engine(rig.settings)
    await rig.engine.start()
    state = rig.engine.containers.get(id).state
    assert (state.status, state.exit_code) == ("exited", 137)
    assert "machine was restarted" in state.error
    assert not _dead(pid)
    os.kill(pid, signal.SIGKILL)
    await rig.engine.containers.start(id)
    await rig.reopen()
    assert rig.engine.containers.get(id).state.status == "running"
    await rig.remove(id)
    await rig.clean()


async def test_an_exit_record_of_an_earlier_run_is_not_believed(rig: Rig) -> None:
    id = await rig.start("sleep", "60")
    state = rig.engine.containers.get(id).state
    monitor = await rig.monitor(id)
    await rig.engine.close()
    os.kill(monitor, signal.SIGKILL)
    old = ExitRecord(5, False, state.started_at - 10**10, state.started_at - 10**9)
    write_record(f"{rig.settings.root}/containers/{id}/exit", old)
    rig.engine = Engine(rig.settings)
    await rig.engine.start()
    assert rig.engine.containers.get(id).state.exit_code == 137
    await rig.remove(id)
    await rig.clean()


async def test_what_a_crashed_creation_left_is_collected(rig: Rig) -> None:
    id = "ab" * 32
    rig.engine._context.snapshots.prepare(id, None)
    os.mkdir(f"{rig.settings.root}/containers/{id}")
    Path(f"{rig.settings.run_dir}/c/{id[:12]}").touch()
    cgroup = f"/sys/fs/cgroup/pids/{rig.settings.name}/{id}"
    if os.path.isdir(os.path.dirname(cgroup)):
        os.mkdir(cgroup)
    await rig.reopen()
    assert not rig.engine._context.snapshots.exists(id)
    await rig.clean()


async def test_two_engines_on_one_root_are_refused(rig: Rig) -> None:
    with pytest.raises(Unavailable, match="another engine uses"):
        await Engine(rig.settings).start()


DAEMON = """
import asyncio, sys
from cloche.engine.engine import Engine
from cloche.engine.records import ContainerConfig
from cloche.engine.settings import Settings

async def main():
    root, run, name = sys.argv[1:]
    engine = Engine(Settings(root=root, run_dir=run, name=name))
    await engine.start()
    script = "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); sleep 0.01; done; exit 3"
    command = ("sh", "-c", script)
    config = ContainerConfig(image="busybox", command=command, network_mode="none")
    for number in range(5):
        container, _ = await engine.containers.create(config, f"live{number}")
        await engine.containers.start(container.id)
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_kill_9_of_the_daemon_loses_no_container_no_line_and_no_code(rig: Rig) -> None:
    settings = rig.settings
    await rig.engine.close()
    daemon = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        DAEMON,
        settings.root,
        settings.run_dir,
        settings.name,
        stdout=asyncio.subprocess.PIPE,
    )
    assert daemon.stdout
    assert await daemon.stdout.readline() == b"ready\n"
    daemon.kill()
    await daemon.wait()
    rig.engine = Engine(settings)
    await rig.engine.start()
    names = [f"live{number}" for number in range(5)]
    assert {rig.engine.containers.get(name).state.status for name in names} == {"running"}
    for name in names:
        assert await rig.ended(name) == 3
        assert await rig.output(name) == "".join(f"line {number}\n" for number in range(200))
        await rig.remove(name)
    await rig.clean()


async def test_cgroups_of_a_start_that_was_killed_go_at_once(rig: Rig) -> None:
    await rig.remove(await rig.start("true"))
    id = (await rig.create("true")).id
    leaves = [f"{parent}/{id}" for parent in rig._parents()]
    for leaf in leaves:
        os.mkdir(leaf)
    # Without a reader the starter hangs in open(2).
    os.mkfifo(f"{rig.settings.root}/containers/{id}/{id}-json.log")
    start = asyncio.create_task(rig.engine.containers.start(id))
    launcher = rig.engine._context.launcher.pid
    async with asyncio.timeout(10):
        while not (starters := _named("cloche-starter", launcher)):
            await asyncio.sleep(0.01)
        os.kill(starters[0], signal.SIGKILL)
        with pytest.raises(Internal, match="was killed before the program ran"):
            await start
    assert [leaf for leaf in leaves if os.path.exists(leaf)] == []
    await rig.remove(id)
    await rig.clean()


def _named(name: str, session: int) -> list[int]:
    """Processes of this name among those that the launcher has forked."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (entry / "comm").read_text() == f"{name}\n" and os.getsid(int(entry.name)) == session:
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


async def test_cgroups_of_a_start_that_nobody_saw_through_are_cleared(rig: Rig) -> None:
    """Daemon, starter and monitor all died in the midst of it."""
    id = (await rig.create("sleep", "60")).id
    await rig.remove(await rig.start("true"))
    await rig.engine.close()
    leaves = [f"{parent}/{id}" for parent in rig._parents()]
    for leaf in leaves:
        os.mkdir(leaf)
    program = await asyncio.create_subprocess_exec("sleep", "60")
    for leaf in leaves:
        if "cpuset" not in leaf:
            Path(leaf, "cgroup.procs").write_text(str(program.pid))
    rig.engine = Engine(rig.settings)
    await rig.engine.start()
    assert [leaf for leaf in leaves if os.path.exists(leaf)] == []
    assert await program.wait() == -signal.SIGKILL
    await rig.remove(id)
