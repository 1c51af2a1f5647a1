"""Placements on the machine's unified hierarchy, alone or beside v1 (where it has no controllers: there the
device program and the verbs are tried)."""

import errno
import os
import time
from collections.abc import Callable, Iterator

import pytest

from cloche.cgroups import layout, tree, v2
from cloche.cgroups.contract import DeviceRule, Layout, Placement, Resources
from cloche.kernel import namespaces
from cloche.plan.execution import Execution
from cloche.plan.steps.cgroup import AttachDeviceProgram, MakeCgroups, WriteCgroup
from cloche.runtime import defaults, resources
from cloche.runtime import spec as oci

PARENT = f"/cloche-test-{os.getpid()}"


def unified() -> Layout | None:
    found = layout.detect()
    if found.version == 2:
        return found
    with open("/proc/self/mounts") as table:
        mountpoint = next((line.split()[1] for line in table if line.split()[2] == "cgroup2"), "")
    return Layout(2, {"": mountpoint}, ()) if mountpoint else None


LAYOUT = unified() if os.geteuid() == 0 else None
pytestmark = pytest.mark.skipif(LAYOUT is None, reason="needs root and a mounted cgroup v2")

Make = Callable[[Resources], Placement]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make a cgroup and set its limits, by the steps of a plan."""
    assert LAYOUT is not None
    made: list[Placement] = []

    def _make(limits: Resources) -> Placement:
        assert LAYOUT is not None
        placement = v2.place(LAYOUT, PARENT, f"c{len(made)}", limits)
        made.append(placement)
        run = Execution({})
        MakeCgroups(placement.directories).execute(run)
        for write in placement.writes:
            WriteCgroup(write.path, write.value, write.tolerate).execute(run)
        if placement.device_program:
            AttachDeviceProgram(placement.leaves[0], placement.device_program).execute(run)
        return placement

    yield _make
    for placement in made:
        v2.kill(placement.leaves)
        v2.remove(placement.leaves)
    tree.remove((LAYOUT.mounts[""] + PARENT,))


def inside(placement: Placement, work: Callable[[], int]) -> int:
    """Start ``work`` in the cgroup; the process id. Its result is the exit status."""
    directory = os.open(placement.leaves[0], os.O_RDONLY)
    pid = namespaces.clone3(0, directory)
    if pid == 0:
        os._exit(work())
    os.close(directory)
    return pid


def status(pid: int) -> int:
    """Exit status, or the negative signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def sleep() -> int:
    time.sleep(60)
    return 0


def test_docker_devices(make: Make) -> None:
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


def test_a_part_of_a_wider_rule_is_denied(make: Make) -> None:
    rules = (DeviceRule(False), DeviceRule(True, "c", 1), DeviceRule(False, "c", 1, 5, "w"))
    placement = make(Resources(devices=rules))

    def work() -> int:
        os.close(os.open("/dev/zero", os.O_RDONLY))
        os.close(os.open("/dev/null", os.O_WRONLY))
        try:
            os.open("/dev/zero", os.O_WRONLY)
        except OSError as error:
            return error.errno or 0
        return 0

    assert status(inside(placement, work)) == errno.EPERM


def test_kill_and_remove_take_all_that_was_forked_and_made(make: Make) -> None:
    def work() -> int:
        for _ in range(10):
            if os.fork() == 0:
                sleep()
        return sleep()

    placement = make(Resources())
    pid = inside(placement, work)
    os.mkdir(f"{placement.leaves[0]}/below")
    while len(v2.processes(placement.leaves)) < 11:
        time.sleep(0.005)
    v2.kill(placement.leaves)
    status(pid)
    v2.remove(placement.leaves)
    assert not os.path.exists(placement.leaves[0])


@pytest.mark.skipif(
    LAYOUT is not None and "memory" not in LAYOUT.controllers, reason="v1 has the controllers"
)
def test_limits_arrive(make: Make) -> None:
    limits = Resources(
        memory=64 << 20,
        memory_swap=96 << 20,
        memory_reservation=32 << 20,
        cpu_shares=1024,
        cpu_quota=50_000,
        cpu_period=100_000,
        cpuset_cpus="0",
        pids=17,
    )
    (leaf,) = make(limits).leaves
    wanted = {
        "memory.max": str(64 << 20),
        "memory.swap.max": str(32 << 20),
        "memory.low": str(32 << 20),
        "cpu.weight": "100",
        "cpu.max": "50000 100000",
        "cpuset.cpus": "0",
        "pids.max": "17",
    }
    assert {name: tree.read(f"{leaf}/{name}").strip() for name in wanted} == wanted
