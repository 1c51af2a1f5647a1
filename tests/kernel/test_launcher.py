"""The fork server: what it is, what it does, and what a container can do to it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from container import Box

import cloche
from cloche.errors import Internal, InvalidArgument, Unavailable
from cloche.kernel import sealed
from cloche.launcher.client import Launcher
from cloche.monitor import packets
from cloche.monitor.protocol import Status
from cloche.plan.steps.cgroup import WriteCgroup

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes containers, which needs root")


@pytest_asyncio.fixture
async def launcher() -> AsyncIterator[Launcher]:
    launcher = await Launcher.start()
    yield launcher
    await launcher.close()


@pytest_asyncio.fixture
async def box(launcher: Launcher, tmp_path: Path) -> AsyncIterator[Box]:
    box = Box(tmp_path, launcher)
    yield box
    box.close()


def processes(session: int) -> list[int]:
    """Processes whose session is that of the launcher."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.getsid(int(name)) == session:
                    found.append(int(name))
            except ProcessLookupError:
                pass
    return found


async def gone(pid: int) -> None:
    async with asyncio.timeout(5):
        while os.path.exists(f"/proc/{pid}"):
            await asyncio.sleep(0.01)


async def test_it_is_a_sealed_copy_of_the_interpreter(launcher: Launcher, tmp_path: Path) -> None:
    await write(launcher, tmp_path / "ready", "x")
    assert os.readlink(f"/proc/{launcher.pid}/exe").startswith("/memfd:cloche")
    with pytest.raises(OSError, match=r"(?i)not permitted|busy"):
        os.open(f"/proc/{launcher.pid}/exe", os.O_RDWR)


async def test_it_ends_with_the_daemon(tmp_path: Path) -> None:
    launcher = await Launcher.start()
    await write(launcher, tmp_path / "ready", "x")
    assert launcher.pid
    family = processes(launcher.pid)
    assert len(family) >= 2
    await launcher.close()
    for pid in family:
        await gone(pid)


async def write(launcher: Launcher, path: Path, value: str) -> None:
    path.touch()
    await launcher.run_plan((WriteCgroup(str(path), value),))


async def test_a_plan_of_host_steps(launcher: Launcher, tmp_path: Path) -> None:
    await write(launcher, tmp_path / "file", "value")
    assert (tmp_path / "file").read_text() == "value"


async def test_a_failed_plan_tells_the_step(launcher: Launcher, tmp_path: Path) -> None:
    with pytest.raises(Internal, match=r"WriteCgroup: .*No such file or directory"):
        await launcher.run_plan((WriteCgroup(str(tmp_path / "nowhere/file"), "1"),))


async def test_a_large_plan(launcher: Launcher, tmp_path: Path) -> None:
    value = "x" * (3 * packets.PACKET_LIMIT)
    await write(launcher, tmp_path / "file", value)
    assert (tmp_path / "file").read_text() == value


async def test_many_jobs_at_once(launcher: Launcher, tmp_path: Path) -> None:
    await asyncio.gather(*(write(launcher, tmp_path / str(number), str(number)) for number in range(50)))
    assert all((tmp_path / str(number)).read_text() == str(number) for number in range(50))


async def test_it_is_started_again_when_it_was_killed(launcher: Launcher, tmp_path: Path) -> None:
    await write(launcher, tmp_path / "one", "1")
    assert launcher.pid
    os.kill(launcher.pid, signal.SIGKILL)
    os.waitid(os.P_PID, launcher.pid, os.WEXITED | os.WNOWAIT)
    await write(launcher, tmp_path / "two", "2")
    assert (tmp_path / "two").read_text() == "2"


async def test_a_spare_that_was_killed_is_replaced(launcher: Launcher, tmp_path: Path) -> None:
    await write(launcher, tmp_path / "one", "1")
    async with asyncio.timeout(5):
        while not (pair := spare(launcher)):
            await asyncio.sleep(0.01)
    for pid in pair:
        end = os.pidfd_open(pid)
        signal.pidfd_send_signal(end, signal.SIGKILL)
        # Until it is dead it may take a request along.
        assert select.select([end], [], [], 5)[0]
        os.close(end)
    await write(launcher, tmp_path / "two", "2")
    assert (tmp_path / "two").read_text() == "2"


async def test_a_starter_without_its_monitor_takes_no_request(launcher: Launcher) -> None:
    await launcher.run_plan(())
    async with asyncio.timeout(5):
        while not (pair := spare(launcher)):
            await asyncio.sleep(0.01)
        starter = os.pidfd_open(pair[1])
        os.kill(pair[0], signal.SIGKILL)
        ended = await asyncio.to_thread(select.select, [starter], [], [], 3)
        os.close(starter)
    assert ended[0]


def spare(launcher: Launcher) -> tuple[int, ...]:
    """The spare's two processes, the parent first. One alone is the parent of a job that is ending."""
    named = [pid for pid in processes(launcher.pid or 0) if name(pid) == "cloche-spare"]
    pairs = [(parent, child) for child in named if (parent := parent_of(child)) in named]
    return pairs[0] if pairs else ()


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


async def test_a_job_that_is_killed_is_told(launcher: Launcher, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    # A fifo without a reader: the job waits in open(2).
    job = asyncio.create_task(launcher.run_plan((WriteCgroup(str(tmp_path / "fifo"), "1"),)))
    async with asyncio.timeout(5):
        while not (jobs := [p for p in processes(launcher.pid or 0) if name(p) == "cloche-job"]):
            await asyncio.sleep(0.01)
    os.kill(jobs[0], signal.SIGKILL)
    with pytest.raises(Unavailable, match="try again"):
        await job


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


async def test_a_broken_layer_is_the_callers_fault(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(b"this is no archive" * 100)
    (tmp_path / "target").mkdir()
    with open(tmp_path / "layer", "rb") as layer, pytest.raises(InvalidArgument):
        await launcher.unpack(layer.fileno(), str(tmp_path / "target"))


async def test_warming_never_waits(launcher: Launcher, tmp_path: Path) -> None:
    for _ in range(100_000):
        await launcher.warm()
    await write(launcher, tmp_path / "file", "1")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
async def test_an_interpreter_with_a_shared_library(version: str, tmp_path: Path) -> None:
    roots = sorted(Path.home().glob(f".pyenv/versions/{version}*")) + [Path(sys.base_prefix)]
    python = next(
        (root / f"bin/python{version}" for root in roots if list(root.glob("lib/libpython3*.so"))), None
    )
    if python is None:
        pytest.skip(f"no Python {version} with a shared library here")
    program = (
        "import os, sys; sys.path += sys.argv[1:]\n"
        "from cloche.kernel import sealed\n"
        "print(sealed.library_directory())\n"
        "memfd = sealed.copy_of(os.path.realpath(sys.executable))\n"
        "os.environ['LD_LIBRARY_PATH'] = sealed.library_directory()\n"
        "code = 'import sys, os; print(sys.prefix, os.readlink(\"/proc/self/exe\"))'\n"
        "sys.stdout.flush()\n"
        "os.set_inheritable(memfd, True)\n"
        "os.execv(f'/proc/self/fd/{memfd}', [sys.executable, '-I', '-S', '-c', code])\n"
    )
    source = str(Path(sealed.__file__).parents[2])
    result = subprocess.run([python, "-I", "-S", "-c", program, source], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    library, line = result.stdout.splitlines()
    assert list(Path(library).glob("libpython*.so*"))
    assert line.startswith(str(python.parents[1]))
    assert "/memfd:cloche" in line


# --- CVE-2019-5736: a container that writes to the host's interpreter ----------------------------------

ATTACK = """
cd /tmp
printf '#!/proc/self/exe\\n' > again; chmod +x again
./again 2> /dev/null
# In the container's pid namespace only its own processes are to be seen.
for exe in /proc/[0-9]*/exe; do
    ( : >> $exe ) 2> /dev/null && case $(readlink $exe) in *python*|*memfd*) echo written $exe;; esac
done
( : >> /proc/1/exe ) 2>&1
echo done
"""


async def test_a_container_cannot_write_to_the_interpreter(box: Box) -> None:
    before = os.stat(os.path.realpath(sys.executable))
    running, container = await box.launch("sh", "-c", ATTACK)
    assert (await running.exit()).code == 0
    log = box.log(container)
    assert "written" not in log
    assert "done" in log
    after = os.stat(os.path.realpath(sys.executable))
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (
        before.st_mtime_ns,
        before.st_size,
        before.st_ino,
    )


async def test_an_init_before_its_exec_cannot_be_written(box: Box, tmp_path: Path) -> None:
    """The moment of the attack: init waits in the container's namespaces and is still the interpreter."""
    plan, container = box.plan("true")
    os.mkfifo(tmp_path / "fifo")
    # The host side holds up the attach, and so init, in open(2).
    host = (plan.host[0], WriteCgroup(str(tmp_path / "fifo"), "go"), *plan.host[1:])
    monitor = await box.launcher.launch(box.config(container), host, plan.container)
    try:
        async with asyncio.timeout(5):
            while not (started := inits(box.launcher)):
                await asyncio.sleep(0.01)
        init = started[0]
        assert os.readlink(f"/proc/{init}/exe").startswith("/memfd:cloche")
        # Root of the container, with Docker's capabilities, from inside its namespaces.
        attack = subprocess.run(
            [
                "nsenter",
                "-t",
                str(init),
                "-p",
                "-m",
                "-r/",
                "setpriv",
                "--bounding-set",
                "-sys_ptrace,-sys_admin",
            ]
            + ["--inh-caps", "-all", "sh", "-c", f": >> /proc/{init}/exe"],
            capture_output=True,
            text=True,
        )
        assert attack.returncode != 0
        assert "denied" in attack.stderr or "not permitted" in attack.stderr or "busy" in attack.stderr
        # Even for the host's root the copy stays as it is.
        with pytest.raises(OSError, match=r"(?i)not permitted|busy"):
            os.open(f"/proc/{init}/exe", os.O_RDWR)
        with (
            open(f"/proc/{init}/exe", "rb") as copy,
            open(os.path.realpath(sys.executable), "rb") as original,
        ):
            assert copy.read() == original.read()
    finally:
        # Let the start go on, whatever has failed here.
        os.close(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK))
        monitor.close()


async def test_a_program_does_not_outlive_a_starter_that_is_killed(box: Box, tmp_path: Path) -> None:
    plan, container = box.plan("sleep", "60")
    os.mkfifo(tmp_path / "fifo")
    # The host side hangs in open(2) while init, which has all that it waits for, becomes the program.
    host = (*plan.host, WriteCgroup(str(tmp_path / "fifo"), "go"))
    monitor = await box.launcher.launch(box.config(container), host, plan.container)
    async with asyncio.timeout(5):
        while not (started := inits(box.launcher)) or name(started[0]) != "sleep":
            await asyncio.sleep(0.01)
    os.kill(parent_of(started[0]), signal.SIGKILL)
    await gone(started[0])
    monitor.close()


async def test_a_start_that_hangs_is_ended_with_all_that_it_has_made(box: Box, tmp_path: Path) -> None:
    plan, container = box.plan("sleep", "60")
    os.mkfifo(tmp_path / "fifo")
    host = (*plan.host, WriteCgroup(str(tmp_path / "fifo"), "go"))
    monitor = await box.launcher.launch(box.config(container, start_limit=1), host, plan.container)
    async with asyncio.timeout(5):
        while not (started := inits(box.launcher)):
            await asyncio.sleep(0.01)
        assert [type(message) async for message in monitor] == [Status]
    await gone(started[0])


def inits(launcher: Launcher) -> list[int]:
    """Children of the process that starts the container."""
    found = []
    for starter in processes(launcher.pid or 0):
        if name(starter) == "cloche-starter":
            found += [
                int(pid) for pid in Path(f"/proc/{starter}/task/{starter}/children").read_text().split()
            ]
    return found


async def test_the_sealed_copy_refuses_every_way_to_write(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"#!/bin/sh\n" * 1000)
    copy = sealed.copy_of(str(tmp_path / "program"))
    try:
        for attempt in (
            lambda: os.pwrite(copy, b"x", 0),
            lambda: os.ftruncate(copy, 0),
            lambda: fcntl.fcntl(copy, fcntl.F_ADD_SEALS, 0),
        ):
            with pytest.raises(PermissionError):
                attempt()
        assert os.pread(copy, 10, 0) == b"#!/bin/sh\n"
    finally:
        os.close(copy)


# --- budgets -------------------------------------------------------------------------------------------


async def test_an_idle_monitor_is_small(box: Box) -> None:
    containers = [(await box.launch("sleep", "60"))[0] for _ in range(8)]
    await asyncio.sleep(0.2)
    private = [private_memory(running.status.monitor_pid) for running in containers]
    for running in containers:
        await running.monitor.signal(signal.SIGKILL)
        await running.exit()
    # Its part of what it shares comes on top: some 10 MiB divided by the number of containers.
    assert max(private) <= 1280 << 10, private


def private_memory(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in rollup if line.startswith("Private_"))


def test_the_launcher_imports_little() -> None:
    program = (
        "import sys; sys.path += sys.argv[1:]; sys.modules['typing_extensions'] = None; "
        "import cloche.launcher.server; print(*(name for name, module in sys.modules.items() if module))"
    )
    paths = [str(Path(module.__file__ or "").parents[1]) for module in (cloche, msgspec)]
    output = subprocess.check_output([sys.executable, "-I", "-S", "-c", program, *paths], text=True)
    large = "asyncio dataclasses json logging pathlib socket subprocess tempfile threading typing_extensions"
    assert set(large.split()) & set(output.split()) == set()
