"""Running a plan: the handshake, what comes back of a failure, and that nothing is left after one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from box import BUSYBOX, NAMESPACES, PROC, Box

from cloche.plan import codec, execution
from cloche.plan.step import Step, StepError
from cloche.plan.steps import (
    AttachCgroups,
    Await,
    Clone,
    MakeCgroups,
    SetHostname,
    SetOomScore,
    Signal,
    WriteCgroup,
)

pytestmark = pytest.mark.skipif(os.getuid() != 0 or not BUSYBOX.exists(), reason="needs root and busybox")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(word) for word in text.split()]


def pids_hierarchy() -> Path:
    """The hierarchy with the pids controller: v1's own, or the one of v2."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        fstype, _, options = rest.split()
        if fstype == "cgroup2" or (fstype == "cgroup" and "pids" in options.split(",")):
            found = Path(fields.split()[4])
            if fstype == "cgroup":
                return found
    return found


@pytest.fixture
def cgroup() -> Path:
    return pids_hierarchy() / f"cloche-test-execution-{os.getpid()}"


def test_the_sides_wait_for_each_other(box: Box, cgroup: Path) -> None:
    host = (
        Clone(NAMESPACES),
        MakeCgroups((str(cgroup),)),
        AttachCgroups((str(cgroup),)),
        SetOomScore(123),
        Signal("attached"),
    )
    script = "cat /proc/self/oom_score_adj /proc/self/cgroup"
    try:
        result = box.run(PROC, Await("attached"), script=script, host=host)
        first, *rest = result.output.splitlines()
        assert first == "123"
        assert any(line.endswith(f"/{cgroup.name}") for line in rest)
    finally:
        cgroup.rmdir()
    assert len(result.trace.host) == len(host)
    begins = [step.begin for step in result.trace.container]
    assert begins == sorted(begins)
    assert all(step.duration > 0 for step in (*result.trace.host, *result.trace.container))
    signalled, awaited = result.trace.host[-1], result.trace.container[3]
    assert awaited.begin + awaited.duration > signalled.begin


def test_a_failure_of_init_undoes_what_the_host_made(box: Box, cgroup: Path) -> None:
    host = (
        MakeCgroups((str(cgroup),)),
        Clone(NAMESPACES),
        AttachCgroups((str(cgroup),)),
        Signal("attached"),
    )
    before = children()
    with pytest.raises(StepError) as caught:
        box.run(Await("attached"), SetHostname("x" * 65), script="true", host=host)
    failure = caught.value.failure
    assert (failure.side, failure.index, failure.step) == ("container", 3, "SetHostname")
    assert failure.message.startswith("sethostname('xxx")
    assert failure.shell == f"echo {'x' * 65} > /proc/sys/kernel/hostname"
    assert not cgroup.exists()
    assert children() == before


def test_a_failure_of_the_host_ends_init(box: Box, cgroup: Path) -> None:
    host = (
        MakeCgroups((str(cgroup),)),
        Clone(NAMESPACES),
        AttachCgroups((str(cgroup),)),
        WriteCgroup(str(cgroup / "pids.max"), "many"),
        Signal("attached"),
    )
    before = children()
    with pytest.raises(StepError) as caught:
        box.run(Await("attached"), script="true", host=host)
    failure = caught.value.failure
    assert (failure.side, failure.index, failure.step) == ("host", 3, "WriteCgroup")
    assert failure.message == f"write('{cgroup}/pids.max', 'many'): Invalid argument"
    assert failure.hint == "the kernel refuses this value"
    assert not cgroup.exists()
    assert children() == before


def test_a_tolerated_refusal_is_none(cgroup: Path) -> None:
    side = execution.Execution({})
    execution.run_host(
        (MakeCgroups((str(cgroup),)), WriteCgroup(str(cgroup / "pids.max"), "many", (22,))), side
    )
    cgroup.rmdir()


def test_the_cause_is_told_and_not_its_effect_on_the_host(box: Box) -> None:
    """Init fails at once and is gone; the host's next steps fail because of that."""
    slow = tuple(Signal(f"event-{number}") for number in range(2000))
    with pytest.raises(StepError) as caught:
        box.run(SetHostname("x" * 65), script="true", host=(Clone(NAMESPACES), *slow))
    assert caught.value.failure.step == "SetHostname"


def test_an_init_that_is_killed(box: Box) -> None:
    class KillInit(Step, frozen=True):
        def execute(self, run: execution.Execution) -> None:
            os.kill(run.init_pid, signal.SIGKILL)

        def describe(self) -> str:
            return "SIGKILL"

    with pytest.raises(StepError, match="init ended before the program was started: signal 9") as caught:
        box.run(Await("never"), script="true", host=(Clone(NAMESPACES), KillInit()))
    assert "memory limit" in caught.value.failure.hint


def test_init_ends_with_the_host_side(box: Box) -> None:
    reader, writer = os.pipe()
    side = os.fork()
    if side == 0:

        class Die(Step, frozen=True):
            def execute(self, run: execution.Execution) -> None:
                os.write(writer, str(run.init_pid).encode())
                os._exit(0)

        steps = codec.encode((Await("never"),))
        execution.run_host((Clone(NAMESPACES), Die()), execution.Execution({}, steps))
    os.close(writer)
    init = int(os.read(reader, 64))
    os.close(reader)
    os.waitpid(side, 0)
    for _ in range(200):
        if not Path(f"/proc/{init}").exists() or "\nState:\tZ" in Path(f"/proc/{init}/status").read_text():
            return
        time.sleep(0.005)
    raise AssertionError("init outlives the host side that it waits for")


def test_unreadable_steps_come_back(box: Box) -> None:
    side = execution.Execution({}, b"\xc1")
    with pytest.raises(StepError, match="DecodeError"):
        execution.run_host((Clone(NAMESPACES),), side)
    assert side.init_pid == 0


def test_the_program_inherits_nothing_of_the_engine(box: Box) -> None:
    kept = os.open("/", os.O_RDONLY)
    os.set_inheritable(kept, True)
    old = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        script = "ls /proc/self/fd; grep -E '^Sig(Ign|Blk)' /proc/self/status; umask"
        output = box.run(PROC, script=script).output.split()
    finally:
        os.close(kept)
        signal.signal(signal.SIGUSR1, old)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
    # 3 is ls' own directory.
    assert output[:4] == ["0", "1", "2", "3"]
    assert output[4:9] == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16, "0022"]


def test_the_program_leads_its_session(box: Box) -> None:
    output = box.run(PROC, argv=("cat", "/proc/self/stat")).output.split()
    assert output[4:6] == ["1", "1"]


# --- programs that do not start


def failed_exec(box: Box, *argv: str, environment: tuple[str, ...] = ("PATH=/bin",)) -> tuple[str, int, str]:
    with pytest.raises(StepError) as caught:
        box.run(argv=argv, environment=environment)
    failure = caught.value.failure
    assert failure.step == "Exec"
    return failure.message, failure.exit_code, failure.hint


def write(box: Box, name: str, content: bytes, mode: int = 0o755) -> None:
    (box.root / name).write_bytes(content)
    (box.root / name).chmod(mode)


def test_a_program_that_is_not_there(box: Box) -> None:
    message = 'exec: "nosuch": executable file not found in $PATH'
    assert failed_exec(box, "nosuch") == (message, 127, "")
    message = 'exec: "/no/such": stat /no/such: no such file or directory'
    assert failed_exec(box, "/no/such") == (message, 127, "")
    assert failed_exec(box, "sh", environment=("PATH=/nowhere",))[1] == 127
    assert failed_exec(box, "")[1] == 127


def test_a_program_that_may_not_be_executed(box: Box) -> None:
    write(box, "data", b"data", 0o644)
    assert failed_exec(box, "/data") == ('exec: "/data": permission denied', 126, "")
    assert failed_exec(box, "/bin") == ('exec: "/bin": is a directory', 126, "")
    assert failed_exec(box, "/data/sub")[0] == 'exec: "/data/sub": stat /data/sub: not a directory'


def test_a_file_without_execute_permission_is_not_found_in_path(box: Box) -> None:
    write(box, "bin/data", b"data", 0o644)
    assert failed_exec(box, "data")[1] == 127


def test_a_script_and_its_interpreter(box: Box) -> None:
    write(box, "script", b"#!/usr/bin/python3 -I\n")
    message, code, hint = failed_exec(box, "/script")
    assert (message, code) == ("exec /script: no such file or directory", 127)
    assert hint == "/script is a script for /usr/bin/python3, which is not in the container"
    write(box, "windows", b"#!/bin/sh\r\necho\r\n")
    assert "carriage return" in failed_exec(box, "/windows")[2]
    write(box, "bytes", b"#!/bin/\xff\n")
    message, code, hint = failed_exec(box, "/bytes")
    assert (code, hint) == (127, "/bytes is a script for /bin/?, which is not in the container")
    write(box, "plain", b"echo no first line\n")
    message, code, hint = failed_exec(box, "/plain")
    assert (message, code) == ("exec /plain: exec format error", 126)
    assert "neither an ELF program nor a script" in hint
    write(box, "good", b"#!/bin/sh\necho $0 $1\n")
    assert box.run(argv=("/good", "word")).output == "/good word\n"


def test_a_program_of_another_machine_or_library(box: Box) -> None:
    foreign = bytearray(BUSYBOX.read_bytes()[:4096])
    foreign[18:20] = (183 if os.uname().machine != "aarch64" else 62).to_bytes(2, "little")
    write(box, "foreign", bytes(foreign))
    message, code, hint = failed_exec(box, "/foreign")
    assert (message, code) == ("exec /foreign: exec format error", 126)
    assert f"this machine is {os.uname().machine}" in hint
    write(box, "dynamic", Path("/usr/bin/env").resolve().read_bytes())
    message, code, hint = failed_exec(box, "/dynamic")
    assert (message, code) == ("exec /dynamic: no such file or directory", 127)
    assert "needs the loader /lib" in hint


def test_the_exit_code_is_the_programs(box: Box) -> None:
    assert box.run(script="exit 42").code == 42
    assert box.run(argv=("true",), environment=()).code == 0


def test_a_plan_without_a_container_part_runs_on_the_host_alone(cgroup: Path) -> None:
    side = execution.Execution({})
    trace = execution.run_host((MakeCgroups((str(cgroup),)),), side)
    assert cgroup.is_dir()
    assert trace.container == ()
    execution.undo(side)
    assert not cgroup.exists()


def test_exec_keeps_arguments_and_environment(box: Box) -> None:
    result = box.run(argv=("env",), environment=("PATH=/bin", "EMPTY=", "A=b=c"))
    assert sorted(result.output.split()) == ["A=b=c", "EMPTY=", "PATH=/bin"]
