"""Translation of limits, and detection of layouts, on made-up mount tables and directories."""

from pathlib import Path

import pytest

from cloche.cgroups import layout, tree, v1, v2
from cloche.cgroups.contract import DeviceRule, Layout, Placement, Resources
from cloche.cgroups.controllers.cpu import weight
from cloche.errors import InvalidArgument, Unavailable

V1 = Layout(
    version=1,
    mounts={
        "cpu": "/c/cpu,cpuacct",
        "cpuacct": "/c/cpu,cpuacct",
        "cpuset": "/c/cpuset",
        "memory": "/c/memory",
        "devices": "/c/devices",
        "name=systemd": "/c/systemd",
    },
    controllers=("cpu", "cpuacct", "cpuset", "devices", "memory", "name=systemd"),
    files=(
        "memory.memsw.limit_in_bytes",
        "memory.swappiness",
        "memory.oom_control",
        "cpu.shares",
        "cpu.cfs_quota_us",
    ),
)
V2 = Layout(
    version=2,
    mounts={"": "/c"},
    controllers=("cpu", "cpuset", "io", "memory", "pids"),
    files=("memory.swap.max", "io.weight"),
)


def written(placement: Placement) -> list[tuple[str, str]]:
    return [(write.path, write.value) for write in placement.writes]


def mountinfo(path: Path, *mounts: tuple[str, str, str]) -> str:
    lines = [
        f"{30 + number} 20 0:{number} / {target} rw,relatime shared:1 - {kind} {kind} {options}\n"
        for number, (target, kind, options) in enumerate(mounts)
    ]
    file = path / "mountinfo"
    file.write_text("".join(lines))
    return str(file)


def test_detect_v1_with_shared_and_named_hierarchies(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    (memory / "memory.memsw.limit_in_bytes").touch()
    found = layout.detect(
        mountinfo(
            tmp_path,
            ("/proc", "proc", "rw"),
            (str(memory), "cgroup", "rw,memory"),
            ("/none/with\\040space", "cgroup", "rw,cpu,cpuacct"),
            ("/none/systemd", "cgroup", "rw,xattr,release_agent=/lib/agent,name=systemd"),
            ("/none/unified", "cgroup2", "rw,nsdelegate"),
        )
    )
    assert found == Layout(
        version=1,
        mounts={
            "memory": str(memory),
            "cpu": "/none/with space",
            "cpuacct": "/none/with space",
            "name=systemd": "/none/systemd",
        },
        controllers=("cpu", "cpuacct", "memory", "name=systemd"),
        files=("memory.memsw.limit_in_bytes",),
    )
    assert layout.planner(found) is v1


def test_detect_v2_sees_optional_files_in_children_only(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory io cpu\n")
    (tmp_path / "init.scope").mkdir()
    (tmp_path / "init.scope" / "memory.swap.max").touch()
    found = layout.detect(mountinfo(tmp_path, (str(tmp_path), "cgroup2", "rw")))
    assert found == Layout(2, {"": str(tmp_path)}, ("cpu", "io", "memory"), ("memory.swap.max",))
    assert layout.planner(found) is v2


def test_detect_without_cgroups(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no cgroup hierarchy"):
        layout.detect(mountinfo(tmp_path, ("/proc", "proc", "rw")))


def test_v1_makes_parents_first_and_one_directory_for_shared_controllers() -> None:
    placement = v1.place(V1, "/cloche", "id", Resources())
    assert placement.directories[:2] == ("/c/cpu,cpuacct/cloche", "/c/cpu,cpuacct/cloche/id")
    assert placement.leaves == (
        "/c/cpu,cpuacct/cloche/id",
        "/c/cpuset/cloche/id",
        "/c/devices/cloche/id",
        "/c/memory/cloche/id",
        "/c/systemd/cloche/id",
    )
    assert placement.hierarchies == ("cpu,cpuacct", "cpuset", "devices", "memory", "name=systemd")
    assert placement.cpusets == ("/c/cpuset/cloche", "/c/cpuset/cloche/id")
    assert placement.writes == ()


def test_v1_memory_goes_before_memory_and_swap() -> None:
    limits = Resources(
        memory=64 << 20, memory_swap=128 << 20, memory_reservation=32 << 20, memory_swappiness=0
    )
    leaf = "/c/memory/cloche/id"
    assert written(v1.place(V1, "/cloche", "id", limits)) == [
        (f"{leaf}/memory.limit_in_bytes", "67108864"),
        (f"{leaf}/memory.memsw.limit_in_bytes", "134217728"),
        (f"{leaf}/memory.soft_limit_in_bytes", "33554432"),
        (f"{leaf}/memory.swappiness", "0"),
    ]


def test_v1_cpu_period_goes_before_quota() -> None:
    limits = Resources(
        cpu_shares=512, cpu_quota=50_000, cpu_period=100_000, cpuset_cpus="0-1", cpuset_mems="0"
    )
    assert written(v1.place(V1, "/cloche", "id", limits)) == [
        ("/c/cpu,cpuacct/cloche/id/cpu.shares", "512"),
        ("/c/cpu,cpuacct/cloche/id/cpu.cfs_period_us", "100000"),
        ("/c/cpu,cpuacct/cloche/id/cpu.cfs_quota_us", "50000"),
        ("/c/cpuset/cloche/id/cpuset.cpus", "0-1"),
        ("/c/cpuset/cloche/id/cpuset.mems", "0"),
    ]


def device_writes(*rules: DeviceRule) -> list[tuple[str, str]]:
    found = written(v1.place(V1, "/cloche", "id", Resources(devices=rules)))
    return [(path.removeprefix("/c/devices/cloche/id/devices."), value) for path, value in found]


def test_v1_devices() -> None:
    rules = (
        DeviceRule(False),
        DeviceRule(True, "a", None, None, "m"),
        DeviceRule(True, "c", 136, None, "rwm"),
        DeviceRule(False, "b", 8, 0, "w"),
    )
    assert device_writes(*rules) == [
        ("deny", "a"),
        ("allow", "b *:* m"),
        ("allow", "c *:* m"),
        ("allow", "c 136:* rwm"),
    ]


def test_v1_devices_are_reduced_to_exceptions_of_one_kind() -> None:
    wide, narrow = DeviceRule(True, "c", 1, None, "rw"), DeviceRule(True, "c", 1, 3, "r")
    denied = DeviceRule(False)
    assert device_writes(denied, narrow, DeviceRule(True, "c", 1, 3, "w")) == [
        ("deny", "a"),
        ("allow", "c 1:3 rw"),
    ]
    assert device_writes(denied, narrow, DeviceRule(False, "c", 1, None, "rwm")) == [("deny", "a")]
    assert device_writes(denied, wide, DeviceRule(False, "c", 1, None, "w")) == [
        ("deny", "a"),
        ("allow", "c 1:* r"),
    ]
    assert device_writes(DeviceRule(True), DeviceRule(False, "b", 8, 0)) == [
        ("allow", "a"),
        ("deny", "b 8:0 rwm"),
    ]
    assert device_writes(wide, DeviceRule(True)) == []
    with pytest.raises(InvalidArgument, match="one by one"):
        device_writes(denied, wide, DeviceRule(False, "c", 1, 3, "w"))


def test_everything_allowed_needs_no_devices_controller() -> None:
    bare = Layout(1, {"memory": "/c/memory"}, ("memory",))
    assert v1.place(bare, "/cloche", "id", Resources(devices=(DeviceRule(True),))).writes == ()
    assert v2.place(V2, "/cloche", "id", Resources(devices=(DeviceRule(True),))).device_program == b""


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Resources(pids=10), "pids controller .* not mounted"),
        (Resources(blkio_weight=100), "blkio controller"),
        (Resources(memory_swap=10), "needs --memory"),
        (Resources(memory=20, memory_swap=10), "is below --memory"),
        (Resources(memory_swappiness=101), "not between 0 and 100"),
    ],
)
def test_v1_refuses_what_it_cannot_set(limits: Resources, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        v1.place(V1, "/cloche", "id", limits)


def test_v1_refuses_a_limit_whose_file_the_kernel_lacks() -> None:
    bare = Layout(1, {"memory": "/c/memory", "cpu": "/c/cpu"}, ("cpu", "memory"))
    with pytest.raises(InvalidArgument, match="swapaccount=1"):
        v1.place(bare, "/cloche", "id", Resources(memory=1, memory_swap=2))
    with pytest.raises(InvalidArgument, match="CONFIG_CFS_BANDWIDTH"):
        v1.place(bare, "/cloche", "id", Resources(cpu_quota=1000))


def test_v2_enables_controllers_from_the_root_down() -> None:
    placement = v2.place(V2, "/cloche", "id", Resources(memory=64 << 20, memory_swap=64 << 20, pids=7))
    assert placement.directories == ("/c/cloche", "/c/cloche/id")
    assert placement.leaves == ("/c/cloche/id",)
    fatal = [(write.path, write.value) for write in placement.writes if not write.tolerate]
    assert fatal == [
        ("/c/cgroup.subtree_control", "+memory +pids"),
        ("/c/cloche/cgroup.subtree_control", "+memory +pids"),
        ("/c/cloche/id/memory.max", "67108864"),
        ("/c/cloche/id/memory.swap.max", "0"),
        ("/c/cloche/id/pids.max", "7"),
    ]
    counting = [write.value for write in placement.writes if write.tolerate]
    assert counting == ["+cpu", "+io", "+cpu", "+io"]


@pytest.mark.parametrize(
    ("limits", "file", "value"),
    [
        (Resources(memory=-1), "memory.max", "max"),
        (Resources(memory=10, memory_swap=-1), "memory.swap.max", "max"),
        (Resources(memory=10, memory_swap=30), "memory.swap.max", "20"),
        (Resources(memory_reservation=5), "memory.low", "5"),
        (Resources(cpu_quota=50_000, cpu_period=100_000), "cpu.max", "50000 100000"),
        (Resources(cpu_quota=-1), "cpu.max", "max"),
        (Resources(cpu_period=20_000), "cpu.max", "max 20000"),
        (Resources(cpu_shares=1024), "cpu.weight", "100"),
        (Resources(cpuset_cpus="0"), "cpuset.cpus", "0"),
        (Resources(blkio_weight=1000), "io.weight", "10000"),
        (Resources(blkio_weight=10), "io.weight", "1"),
    ],
)
def test_v2_values(limits: Resources, file: str, value: str) -> None:
    assert (f"/c/cloche/id/{file}", value) in written(v2.place(V2, "/cloche", "id", limits))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Resources(memory_swappiness=10), "no swappiness"),
        (Resources(oom_kill_disable=True), "OOM killer"),
        (Resources(blkio_weight=9), "not between 10 and 1000"),
    ],
)
def test_v2_refuses_what_it_cannot_express(limits: Resources, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        v2.place(V2, "/cloche", "id", limits)


def test_v2_refuses_a_missing_controller() -> None:
    with pytest.raises(InvalidArgument, match="pids controller"):
        v2.place(Layout(2, {"": "/c"}, ("memory",)), "/cloche", "id", Resources(pids=3))


def test_weight_keeps_minimum_default_and_maximum_and_rises() -> None:
    assert [weight(shares) for shares in (2, 1024, 262144)] == [1, 100, 10000]
    values = [weight(shares) for shares in range(2, 262145, 97)]
    assert values == sorted(values)


@pytest.mark.parametrize("parent", ["/..", "../x", "/a/../../b"])
def test_a_cgroup_path_stays_below_its_mount(parent: str) -> None:
    with pytest.raises(InvalidArgument, match="may not"):
        tree.chain("/sys/fs/cgroup/memory", parent, "id")


def test_remove_takes_what_the_container_made_below(tmp_path: Path) -> None:
    leaf = tmp_path / "leaf"
    (leaf / "a" / "b").mkdir(parents=True)
    tree.remove((str(leaf), str(tmp_path / "never-was")))
    assert list(tmp_path.iterdir()) == []


def test_processes_of_the_whole_tree(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "cgroup.procs").write_text("12\n34\n")
    (tmp_path / "below" / "cgroup.procs").write_text("56\n")
    assert tree.processes(str(tmp_path)) == [12, 34, 56]
    assert tree.processes(str(tmp_path / "gone")) == []
