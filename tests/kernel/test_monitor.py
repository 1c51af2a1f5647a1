"""A container's monitor: stdio, log, attach, terminal, memory, the end, and the absence of everybody
else."""

from __future__ import annotations

import _socket
import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from container import PATIENCE, Box, Client, Running, unframe

from cloche.cgroups.contract import Resources
from cloche.errors import Unavailable
from cloche.launcher.client import Channel, Launcher, MonitorConnection
from cloche.monitor import packets, start
from cloche.monitor.loop import Loop
from cloche.monitor.protocol import (
    Attachment,
    Detached,
    ExitRecord,
    LogConfig,
    OutOfMemory,
    Started,
    StartFailed,
    Status,
)
from cloche.monitor.streams import Streams

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes containers, which needs root")

OUTPUT = Attachment(False, True, True, b"", b"", True)
BOTH = Attachment(True, True, True, b"", b"", True)
TERMINAL = Attachment(True, True, True, b"", b"\x10\x11", False)


@pytest_asyncio.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    launcher = await Launcher.start()
    box = Box(tmp_path, launcher)
    yield box
    await launcher.close()
    box.close()


async def gone(pid: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while os.path.exists(f"/proc/{pid}"):
            await asyncio.sleep(0.01)


async def test_a_life(box: Box) -> None:
    running, name = await box.launch("sh", "-c", "echo out; echo err >&2; exit 3")
    record = await running.exit()
    assert running.status == Status(running.status.monitor_pid, None, None, False)
    assert (record.code, record.oom_killed) == (3, False)
    assert record.started_at <= record.finished_at <= time.time_ns()
    lines = [json.loads(line) for line in box.log(name).splitlines()]
    assert sorted((line["stream"], line["log"]) for line in lines) == [
        ("stderr", "err\n"),
        ("stdout", "out\n"),
    ]
    exit_file = (box.directory / name / "exit").read_bytes()
    assert msgspec.json.decode(exit_file, type=ExitRecord) == record
    assert box.cgroups() == []
    assert not (box.directory / name / "run/monitor.sock").exists()
    await gone(running.status.monitor_pid)


async def test_death_by_signal(box: Box) -> None:
    running, _ = await box.launch("sleep", "60")
    await running.monitor.signal(signal.SIGKILL)
    assert (await running.exit()).code == 128 + 9


async def test_the_trace_has_every_step(box: Box) -> None:
    plan, name = box.plan("true")
    running = Running(await box.launcher.launch(box.config(name), plan.host, plan.container))
    await running.exit()
    trace = running.started.trace
    assert (len(trace.host), len(trace.container)) == (len(plan.host), len(plan.container))


@pytest.mark.parametrize(("program", "code"), [("nowhere", 127), ("/etc", 126)])
async def test_a_program_that_cannot_start(box: Box, program: str, code: int) -> None:
    client = Client()
    running, name = await box.launch(program, attach=(OUTPUT,), descriptors=(client.descriptor,))
    failed = running.told[-1]
    assert isinstance(failed, StartFailed)
    assert failed.exit_code == code
    assert program in failed.failure.render()
    assert await client.read() == b""
    assert box.cgroups() == []
    assert not (box.directory / name / "exit").exists()


async def test_no_signal_is_blocked_or_ignored(box: Box) -> None:
    running, name = await box.launch("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status")
    await running.exit()
    values = [json.loads(line)["log"].split()[1] for line in box.log(name).splitlines()]
    assert values == ["0" * 16, "0" * 16]


@pytest.mark.parametrize(
    ("terminal", "attachment", "kinds"),
    [
        (False, None, ("/dev/null", "pipe:", "pipe:")),
        (False, BOTH, ("pipe:", "pipe:", "pipe:")),
        (True, TERMINAL, ("/dev/pts/0",) * 3),
    ],
)
async def test_no_descriptor_reaches_the_program(
    box: Box, terminal: bool, attachment: Attachment | None, kinds: tuple[str, ...]
) -> None:
    client = Client()
    attach, descriptors = ((attachment,), (client.descriptor,)) if attachment else ((), ())
    running, name = await box.launch(
        "ls",
        "-l",
        "/proc/self/fd",
        attach=attach,
        descriptors=descriptors,
        terminal=terminal,
        open_stdin=attachment is not None,
    )
    await running.exit()
    lines = [json.loads(line)["log"].split() for line in box.log(name).splitlines()]
    found = {int(line[-3]): line[-1] for line in lines if "->" in line}
    # The directory that ls reads, which it may have closed by then.
    assert found.pop(3, "/proc/1/fd") == "/proc/1/fd"
    assert list(found) == [0, 1, 2]
    assert all(found[number].startswith(kind) for number, kind in enumerate(kinds))


async def test_monitors_hold_nothing_of_each_other(box: Box) -> None:
    client = Client()
    first, _ = await box.launch("sleep", "60", attach=(OUTPUT,), descriptors=(client.descriptor,))
    second, _ = await box.launch("sleep", "60", open_stdin=True)
    links = [
        os.readlink(f"/proc/{second.status.monitor_pid}/fd/{n}")
        for n in os.listdir(f"/proc/{second.status.monitor_pid}/fd")
    ]
    others = [
        os.readlink(f"/proc/{first.status.monitor_pid}/fd/{n}")
        for n in os.listdir(f"/proc/{first.status.monitor_pid}/fd")
    ]
    shared = {link for link in set(links) & set(others) if link.startswith(("socket:", "pipe:"))}
    assert shared == set()
    for running in (first, second):
        await running.monitor.signal(signal.SIGKILL)
        await running.exit()


async def test_attached_output_is_framed(box: Box) -> None:
    client = Client()
    running, _ = await box.launch(
        "sh", "-c", "echo out; echo err >&2", attach=(OUTPUT,), descriptors=(client.descriptor,)
    )
    assert unframe(await client.read()) == {1: b"out\n", 2: b"err\n"}
    await running.exit()


async def test_input_to_its_end(box: Box) -> None:
    client = Client()
    attachment = Attachment(True, True, True, b"first ", b"", True)
    running, _ = await box.launch(
        "cat", attach=(attachment,), descriptors=(client.descriptor,), open_stdin=True, stdin_once=True
    )
    client.send(b"second", end=True)
    assert unframe(await client.read())[1] == b"first second"
    assert (await running.exit()).code == 0


async def test_input_without_stdin_once_stays_open(box: Box) -> None:
    client, later = Client(), Client()
    running, _ = await box.launch("cat", attach=(BOTH,), descriptors=(client.descriptor,), open_stdin=True)
    client.send(b"one\n", end=True)
    await client.read(until=b"one\n")
    await running.monitor.attach(later.descriptor, BOTH)
    later.send(b"two\n")
    await later.read(until=b"two\n")
    await running.monitor.signal(signal.SIGKILL)
    await running.exit()


async def test_without_open_stdin_it_is_null(box: Box) -> None:
    running, _ = await box.launch("cat")
    assert (await running.exit()).code == 0


async def test_much_both_ways(box: Box) -> None:
    """More than all buffers together: nothing is lost, nobody is stuck."""
    client = Client()
    running, _ = await box.launch(
        "cat", attach=(BOTH,), descriptors=(client.descriptor,), open_stdin=True, stdin_once=True
    )
    data = os.urandom(1 << 20) * 8

    def send() -> None:
        far = socket.socket(fileno=os.dup(client.socket.fileno()))
        view = memoryview(data)
        while view:
            try:
                view = view[far.send(view) :]
            except BlockingIOError:
                time.sleep(0.001)
        far.shutdown(socket.SHUT_WR)

    sending = asyncio.to_thread(send)
    received, _ = await asyncio.gather(client.read(), sending)
    assert unframe(received)[1] == data
    await running.exit()


async def test_a_slow_client_holds_the_program_up(box: Box) -> None:
    slow = Client()
    running, _ = await box.launch(
        "sh",
        "-c",
        "head -c 4000000 /dev/zero; echo end >&2",
        attach=(OUTPUT,),
        descriptors=(slow.descriptor,),
        log=LogConfig("none", "", 0, 0, False),
    )
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(running.monitor), 0.3)
    received = unframe(await slow.read())
    assert (len(received[1]), received[2]) == (4_000_000, b"end\n")
    await running.exit()


async def test_a_client_that_goes_holds_nobody_up(box: Box) -> None:
    gone = Client()
    running, _ = await box.launch(
        "sh", "-c", "head -c 4000000 /dev/zero", attach=(OUTPUT,), descriptors=(gone.descriptor,)
    )
    await gone.read(until=b"\0")
    gone.socket.close()
    assert (await running.exit()).code == 0


async def test_the_end_is_told_although_a_client_does_not_read(box: Box) -> None:
    slow = Client()
    running, _ = await box.launch(
        "sh", "-c", "head -c 500000 /dev/zero", attach=(OUTPUT,), descriptors=(slow.descriptor,)
    )
    await running.exit()
    assert len(unframe(await slow.read())[1]) == 500_000


async def test_every_byte_is_logged_once(box: Box) -> None:
    """Also what was written when no daemon was there."""
    running, name = await box.launch("seq", "1", "200000")
    running.monitor.close()
    async with asyncio.timeout(PATIENCE):
        while not (box.directory / name / "exit").exists():
            await asyncio.sleep(0.01)
    lines = [json.loads(line)["log"] for line in box.log(name).splitlines()]
    assert lines == [f"{number}\n" for number in range(1, 200_001)]


# --- terminal ----------------------------------------------------------------------------------------


async def test_a_terminal(box: Box) -> None:
    client = Client()
    running, name = await box.launch(
        "sh",
        attach=(TERMINAL,),
        descriptors=(client.descriptor,),
        terminal=True,
        open_stdin=True,
        stdin_once=True,
    )
    client.send(b"stty size\n")
    await client.read(until=b"24 80\r\n")
    await running.monitor.resize(40, 132)
    client.send(b"stty size\n")
    await client.read(until=b"40 132\r\n")
    client.send(b"echo go; cat\n")
    await client.read(until=b"go\r\n")
    client.send(b"here\n")
    await client.read(until=b"here\r\nhere\r\n")
    client.send(b"\x03")
    # The shell discards what is typed before its prompt.
    await client.read(until=b"# ")
    client.send(b"echo $?; exit 7\n")
    await client.read(until=b"130\r\n")
    assert (await running.exit()).code == 7
    streams = {json.loads(line)["stream"] for line in box.log(name).splitlines()}
    assert streams == {"stdout"}


async def test_detach_keys(box: Box) -> None:
    client, again = Client(), Client()
    running, _ = await box.launch(
        "cat",
        attach=(TERMINAL,),
        descriptors=(client.descriptor,),
        terminal=True,
        open_stdin=True,
        stdin_once=True,
    )
    # The first key alone is passed on when the second does not follow.
    client.send(b"a\x10b\n")
    await client.read(until=b"a\x10b\r\n")
    client.send(b"\x10")
    client.send(b"\x11")
    await running.until(Detached)
    await client.read()
    await running.monitor.attach(again.descriptor, TERMINAL)
    again.send(b"still here\n")
    await again.read(until=b"still here\r\nstill here\r\n")
    await running.monitor.signal(signal.SIGKILL)
    assert (await running.exit()).code == 137


# --- memory ------------------------------------------------------------------------------------------


async def test_out_of_memory(box: Box) -> None:
    running, _ = await box.launch(
        "sh", "-c", "tail /dev/zero", resources=Resources(memory=16 << 20, memory_swap=16 << 20)
    )
    await running.until(OutOfMemory)
    record = await running.exit()
    assert record.oom_killed
    assert record.code == 137


async def test_the_end_of_the_cgroup_is_no_kill(box: Box) -> None:
    running, _ = await box.launch("true", resources=Resources(memory=64 << 20))
    assert not (await running.exit()).oom_killed
    assert not any(isinstance(message, OutOfMemory) for message in running.told)


# --- the absence of the others -----------------------------------------------------------------------


async def test_it_survives_the_launcher(box: Box) -> None:
    running, _ = await box.launch("sleep", "60")
    assert box.launcher.pid
    os.kill(box.launcher.pid, signal.SIGKILL)
    await box.launcher.close()
    await asyncio.sleep(0.05)
    await running.monitor.signal(signal.SIGTERM)
    await running.monitor.signal(signal.SIGKILL)
    assert (await running.exit()).code == 137


async def test_a_new_daemon_finds_it(box: Box) -> None:
    client = Client()
    running, name = await box.launch("cat", open_stdin=True)
    path = box.directory / name / "run/monitor.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    running.monitor.close()
    later = Running(await MonitorConnection.connect(str(path)))
    status = await later.until(Status)
    assert isinstance(status, Status)
    assert status.started == running.started
    assert status.exited is None
    await later.monitor.attach(client.descriptor, BOTH)
    client.send(b"hello\n")
    await client.read(until=b"hello\n")
    await later.monitor.signal(signal.SIGKILL)
    assert (await later.exit()).code == 137
    with pytest.raises(Unavailable, match="no monitor answers"):
        await MonitorConnection.connect(str(path))


async def test_the_end_is_recorded_when_nobody_is_there(box: Box) -> None:
    running, name = await box.launch("sh", "-c", "sleep 0.1; exit 5")
    running.monitor.close()
    await gone(running.status.monitor_pid)
    record = msgspec.json.decode((box.directory / name / "exit").read_bytes(), type=ExitRecord)
    assert record.code == 5
    assert box.cgroups() == []


async def test_it_does_not_end_with_the_machine(box: Box) -> None:
    """The container's end is recorded also when everything gets SIGTERM."""
    running, name = await box.launch("sleep", "60")
    os.kill(running.status.monitor_pid, signal.SIGTERM)
    os.kill(running.status.monitor_pid, signal.SIGHUP)
    await running.monitor.signal(signal.SIGKILL)
    assert (await running.exit()).code == 137
    assert (box.directory / name / "exit").exists()


async def test_output_held_open_elsewhere_does_not_keep_it(box: Box) -> None:
    """A process outside of the container has a copy of its stdout."""
    running, _ = await box.launch("sleep", "60")
    held = os.open(f"/proc/{running.started.pid}/fd/1", os.O_WRONLY)
    try:
        await running.monitor.signal(signal.SIGKILL)
        assert (await running.exit()).code == 137
    finally:
        os.close(held)


async def test_the_end_takes_no_more_than_the_kernel_holds(box: Box) -> None:
    """Somebody who was left goes on writing, and faster than the monitor reads."""

    class Log:
        size = 0

        def write(self, _stream: int, data: bytes) -> None:
            self.size += len(data)
            assert self.size < 1 << 20

    _, name = box.plan("true")
    silent, end = os.pipe()
    endless = os.open("/dev/random", os.O_RDONLY)
    log = Log()
    streams = Streams(Loop(), box.config(name), {"stdout": endless, "stderr": silent}, log, lambda: None)  # type: ignore[arg-type]
    os.set_blocking(silent, False)
    streams.drain()
    assert log.size > 0
    for descriptor in (silent, end, endless):
        os.close(descriptor)


async def test_a_second_life_of_the_same_container(box: Box) -> None:
    plan, name = box.plan("echo", "again")
    for _ in range(3):
        running = Running(await box.launcher.launch(box.config(name), plan.host, plan.container))
        await running.until(Started)
        assert (await running.exit()).code == 0
    assert box.log(name).count("again") == 3


async def test_nothing_starts_for_a_daemon_that_has_gone(box: Box) -> None:
    """The next daemon may have looked for the monitor's socket before it was there."""
    _, name = box.plan("sleep", "60")
    config = box.config(name)
    daemon, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    daemon.close()
    monitor, starter = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    start.start(config, b"not a plan: it is never looked at", b"", [control.detach()], starter)
    starter.close()
    assert packets.receive(monitor) is None
    assert not os.path.exists(config.socket_path)


async def test_a_message_of_another_version_is_passed_over() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = MonitorConnection(Channel(ours))
    theirs.send(msgspec.msgpack.encode({"type": "paused", "at": 1}))
    theirs.send(msgspec.msgpack.encode(Detached()))
    theirs.close()
    assert [message async for message in connection] == [Detached()]
