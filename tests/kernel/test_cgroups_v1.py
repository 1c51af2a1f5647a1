"""Placements on the machine's own v1 hierarchies, below a parent of this test's own."""

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from sandbox import forked

from cloche.cgroups import layout, tree, v1
from cloche.cgroups.contract import DeviceRule, Placement, Resources
from cloche.errors import InvalidArgument
from cloche.kernel import mounts
from cloche.kernel.namespaces import CLONE_NEWNS
from cloche.plan.execution import Execution
from cloche.plan.steps.cgroup import AttachCgroups, MakeCgroups, WriteCgroup
from cloche.runtime import defaults, resources
from cloche.runtime import spec as oci

PARENT = f"/cloche-test-{os.getpid()}"


def is_v1() -> bool:
    return os.geteuid() == 0 and layout.detect().version == 1


pytestmark = pytest.mark.skipif(not is_v1(), reason="needs root and cgroup v1")


@pytest.fixture
def make() -> Iterator[Callable[[Resources], Placement]]:
    """Make a cgroup and set its limits, by the steps of a plan."""
    made: list[Placement] = []

    def _make(limits: Resources) -> Placement:
        placement = v1.place(layout.detect(), PARENT, f"c{len(made)}", limits)
        made.append(placement)
        run = Execution({})
        MakeCgroups(placement.directories, placement.cpusets).execute(run)
        for write in placement.writes:
            WriteCgroup(write.path, write.value, write.tolerate).execute(run)
        return placement

    yield _make
    for placement in made:
        v1.kill(placement.leaves)
        v1.remove(placement.leaves)
    for mountpoint in set(layout.detect().mounts.values()):
        tree.remove((mountpoint + PARENT,))


def inside(placement: Placement, work: Callable[[], int]) -> int:
    """Start ``work`` in the cgroup; the process id. Its result is the exit status."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reader, 1)
        os._exit(work())
    run = Execution({})
    run.init_pid = pid
    AttachCgroups(placement.leaves).execute(run)
    os.write(writer, b"x")
    os.close(reader)
    os.close(writer)
    return pid


def status(pid: int) -> int:
    """Exit status, or the negative signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def sleep() -> int:
    time.sleep(60)
    return 0


def value(placement: Placement, controller: str, file: str) -> str:
    directory = f"{layout.detect().mounts[controller]}{PARENT}/{placement.leaves[0].rpartition('/')[2]}"
    return tree.read(f"{directory}/{file}").strip()


def test_limits_arrive(make: Callable[[Resources], Placement]) -> None:
    placement = make(
        Resources(
            memory=64 << 20,
            memory_swap=96 << 20,
            memory_reservation=32 << 20,
            memory_swappiness=10,
            cpu_shares=512,
            cpu_quota=50_000,
            cpu_period=100_000,
            cpuset_cpus="0",
            pids=17,
        )
    )
    assert value(placement, "memory", "memory.limit_in_bytes") == str(64 << 20)
    assert value(placement, "memory", "memory.memsw.limit_in_bytes") == str(96 << 20)
    assert value(placement, "memory", "memory.soft_limit_in_bytes") == str(32 << 20)
    assert value(placement, "memory", "memory.swappiness") == "10"
    assert value(placement, "cpu", "cpu.shares") == "512"
    assert value(placement, "cpu", "cpu.cfs_quota_us") == "50000"
    assert value(placement, "cpu", "cpu.cfs_period_us") == "100000"
    assert value(placement, "cpuset", "cpuset.cpus") == "0"
    assert (
        value(placement, "cpuset", "cpuset.mems") == tree.read("/sys/fs/cgroup/cpuset/cpuset.mems").strip()
    )
    assert value(placement, "pids", "pids.max") == "17"


def test_a_process_is_in_every_hierarchy(make: Callable[[Resources], Placement]) -> None:
    placement = make(Resources())
    pid = inside(placement, sleep)
    lines = [line.split(":", 2) for line in tree.read(f"/proc/{pid}/cgroup").splitlines()]
    assert {path for number, _, path in lines if number != "0"} == {f"{PARENT}/c0"}
    assert v1.processes(placement.leaves) == [pid]
    v1.kill(placement.leaves)
    assert status(pid) == -signal.SIGKILL


def test_docker_devices(make: Callable[[Resources], Placement]) -> None:
    placement = make(resources.convert(oci.Resources(devices=defaults.DEVICE_RULES)))

    def work() -> int:
        for path in ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"):
            os.close(os.open(path, os.O_RDWR))
        try:
            os.open("/dev/kmsg", os.O_RDONLY)
        except OSError as error:
            return error.errno or 0
        return 0

    assert status(inside(placement, work)) == errno.EPERM


def test_devices_denied_one_by_one(make: Callable[[Resources], Placement]) -> None:
    placement = make(Resources(devices=(DeviceRule(True), DeviceRule(False, "c", 1, 5, "w"))))

    def work() -> int:
        os.close(os.open("/dev/zero", os.O_RDONLY))
        os.close(os.open("/dev/kmsg", os.O_RDONLY))
        try:
            os.open("/dev/zero", os.O_WRONLY)
        except OSError as error:
            return error.errno or 0
        return 0

    assert status(inside(placement, work)) == errno.EPERM


def test_pids_limit(make: Callable[[Resources], Placement]) -> None:
    def work() -> int:
        try:
            for _ in range(5):
                if os.fork() == 0:
                    sleep()
        except OSError as error:
            return error.errno or 0
        return 0

    placement = make(Resources(pids=3))
    assert status(inside(placement, work)) == errno.EAGAIN
    assert len(v1.processes(placement.leaves)) == 2


def test_memory_limit_kills(make: Callable[[Resources], Placement]) -> None:
    def work() -> int:
        return len(bytearray(64 << 20)) and 0

    limits = Resources(memory=16 << 20, memory_swap=16 << 20)
    assert status(inside(make(limits), work)) == -signal.SIGKILL


def test_kill_and_remove_take_all_that_was_forked_and_made(make: Callable[[Resources], Placement]) -> None:
    def work() -> int:
        for _ in range(10):
            if os.fork() == 0:
                sleep()
        return sleep()

    placement = make(Resources())
    pid = inside(placement, work)
    os.mkdir(f"{placement.leaves[0]}/below")
    while len(v1.processes(placement.leaves)) < 11:
        time.sleep(0.005)
    v1.kill(placement.leaves)
    status(pid)
    v1.remove(placement.leaves)
    assert not any(os.path.exists(leaf) for leaf in placement.leaves)


def test_what_cannot_be_frozen_is_killed_all_the_same(make: Callable[[Resources], Placement]) -> None:
    freezer = layout.detect().mounts.get("freezer")
    if not freezer:
        pytest.skip("no freezer is mounted")
    placement = make(Resources())
    pid = inside(placement, lambda: time.sleep(5) or 0)

    def work() -> int:
        mounts.mount(freezer, freezer, None, mounts.MS_BIND)
        mounts.mount(None, freezer, None, mounts.MS_BIND | mounts.MS_REMOUNT | mounts.MS_RDONLY)
        with pytest.raises(OSError, match="Read-only") as caught:
            v1.kill(placement.leaves)
        return caught.value.errno

    try:
        assert forked(work, CLONE_NEWNS) == errno.EROFS
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    finally:
        v1.kill(placement.leaves)


@pytest.mark.parametrize(
    "limits",
    [Resources(memory=-7), Resources(cpuset_cpus="4095"), Resources(cpu_quota=1), Resources(cpu_shares=-2)],
)
def test_what_the_kernel_refuses_is_fatal(make: Callable[[Resources], Placement], limits: Resources) -> None:
    with pytest.raises(OSError, match=r"Invalid argument|Numerical result|out of range"):
        make(limits)


def test_a_weight_is_set_or_refused(make: Callable[[Resources], Placement]) -> None:
    try:
        placement = make(Resources(blkio_weight=300))
    except InvalidArgument as error:
        assert "scheduler" in str(error)  # noqa: PT017
    else:
        assert "300" in value(placement, "blkio", "blkio.bfq.weight")
