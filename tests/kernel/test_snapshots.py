"""The contract of storage drivers: whatever is in ``DRIVERS`` is held to it."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kernel.sandbox import forked

from cloche.errors import Conflict, NotFound
from cloche.kernel import mounts
from cloche.kernel.namespaces import CLONE_NEWNS
from cloche.plan.execution import Execution
from cloche.plan.step import Step
from cloche.snapshots.contract import Snapshotter
from cloche.snapshots.overlay2 import Overlay2

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="storage drivers need root")

Open = Callable[[], Snapshotter]
DRIVERS: dict[str, Callable[[Path], Snapshotter]] = {
    "overlay2": lambda root: Overlay2(str(root / "overlay2"), str(root / "trash")),
}
BASE = "sha256:" + "a" * 64
TOP = "sha256:" + "b" * 64


def test_a_full_disk_leaves_nothing_half_made(tmp_path: Path) -> None:
    def work() -> tuple[list[str], set[str]]:
        # Inodes for the root, the driver's two directories, and three of a snapshot's four.
        mounts.mount("small", str(tmp_path), "tmpfs", 0, "nr_inodes=6")
        driver = Overlay2(str(tmp_path / "overlay2"), str(tmp_path / "trash"))
        with pytest.raises(OSError, match="No space left"):
            driver.prepare("box", None)
        left = os.listdir(tmp_path / "overlay2")
        mounts.mount("small", str(tmp_path), "tmpfs", mounts.MS_REMOUNT, "nr_inodes=7")
        driver.prepare("box", None)
        return left, driver.keys()

    assert forked(work, CLONE_NEWNS) == ([], {"box"})


@pytest.fixture(params=sorted(DRIVERS))
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the driver anew on the same directory, as a restarted daemon does."""
    return lambda: DRIVERS[request.param](tmp_path)


def layer(driver: Snapshotter, name: str, parent: str | None, **files: str) -> None:
    driver.prepare(f"unpack-{name}", parent)
    for file, content in files.items():
        Path(driver.writable(f"unpack-{name}"), file).write_text(content)
    driver.commit(f"unpack-{name}", name)


def test_layers_stack_and_survive_a_restart(reopen: Open) -> None:
    driver = reopen()
    layer(driver, BASE, None, one="1")
    layer(driver, TOP, BASE, two="2")
    driver.prepare("box", TOP)
    for again in (driver, reopen()):
        assert again.keys() == {BASE, TOP, "box"}
        own, top, base = again.layers("box")
        assert own == again.writable("box")
        assert os.listdir(own) == []
        assert (Path(top, "two").read_text(), Path(base, "one").read_text()) == ("2", "1")
        assert again.children(TOP) == {"box"}
        assert again.exists("box")
        assert not again.exists("other")


def test_keys_are_taken_once(reopen: Open) -> None:
    driver = reopen()
    driver.prepare("box", None)
    with pytest.raises(Conflict):
        driver.prepare("box", None)
    with pytest.raises(NotFound):
        driver.prepare("other", TOP)
    with pytest.raises(Conflict, match="not committed"):
        driver.prepare("other", "box")
    assert driver.keys() == {"box"}


def test_a_committed_name_wins_over_a_second(reopen: Open) -> None:
    driver = reopen()
    layer(driver, BASE, None, one="first")
    layer(driver, BASE, None, one="second")
    assert Path(driver.layers(BASE)[0], "one").read_text() == "first"
    assert reopen().keys() == {BASE}
    with pytest.raises(Conflict, match="committed"):
        driver.writable(BASE)


def test_a_parent_stays_while_it_has_children(reopen: Open) -> None:
    driver = reopen()
    layer(driver, BASE, None, one="1")
    driver.prepare("box", BASE)
    with pytest.raises(Conflict):
        driver.remove(BASE)
    driver.remove("box")
    driver.remove("box")
    driver.remove(BASE)
    driver.collect()
    assert driver.keys() == set()
    assert reopen().keys() == set()


def test_the_root_directory_keeps_its_owner_and_mode(reopen: Open) -> None:
    driver = reopen()
    driver.prepare("unpack", None)
    os.chmod(driver.writable("unpack"), 0o1777)
    os.chown(driver.writable("unpack"), 7, 8)
    driver.commit("unpack", BASE)
    driver.prepare("box", BASE)
    status = os.stat(driver.writable("box"))
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o1777, 7, 8)


def test_usage_counts_its_own_changes_once(reopen: Open) -> None:
    driver = reopen()
    layer(driver, BASE, None, one="1" * 1000)
    driver.prepare("box", BASE)
    assert driver.usage("box").size == 0
    own = Path(driver.writable("box"))
    (own / "d").mkdir()
    (own / "d" / "f").write_text("x" * 500)
    os.link(own / "d" / "f", own / "g")
    os.symlink("nowhere", own / "l")
    usage = driver.usage("box")
    assert (usage.size, usage.inodes) == (500, 3)


def test_usage_of_what_is_deeper_than_a_path(reopen: Open, tmp_path: Path) -> None:
    driver = reopen()
    driver.prepare("box", None)
    directory = os.open(driver.writable("box"), os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=directory)
        below = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    assert driver.usage("box").inodes > 1000
    driver.remove("box")
    driver.collect()
    assert os.listdir(tmp_path / "trash") == []


def test_what_a_crash_left_half_made_is_forgotten(reopen: Open, tmp_path: Path) -> None:
    driver = reopen()
    layer(driver, BASE, None, one="1")
    (tmp_path / driver.name / "new-abcdefghijklmnop" / "diff").mkdir(parents=True)
    driver = reopen()
    assert driver.keys() == {BASE}
    assert len(os.listdir(tmp_path / driver.name)) == 1
    driver.collect()
    assert os.listdir(tmp_path / "trash") == []


def test_status_names_the_file_system(reopen: Open) -> None:
    rows = dict(reopen().status())
    assert rows["Backing Filesystem"] not in ("", "unknown")


def mounted(steps: tuple[Step, ...], target: Path, look: Callable[[Path], object]) -> object:
    """What ``look`` finds in the mounted snapshot; the mount is gone with its namespace."""

    def work() -> object:
        run = Execution({})
        for step in steps:
            step.execute(run)
        return look(target)

    target.mkdir(exist_ok=True)
    return forked(work, CLONE_NEWNS)


def test_a_mounted_snapshot_shows_all_layers_and_keeps_its_own_changes(reopen: Open, tmp_path: Path) -> None:
    driver = reopen()
    target = tmp_path / "mnt"
    layer(driver, BASE, None, one="1", gone="x")
    layer(driver, TOP, BASE, two="2")
    driver.prepare("box", TOP)

    def change(root: Path) -> object:
        (root / "gone").unlink()
        (root / "three").write_text("3")
        return sorted(os.listdir(root))

    assert mounted(driver.mounts("box", str(target)), target, change) == ["one", "three", "two"]
    names = mounted(reopen().mounts("box", str(target)), target, lambda root: sorted(os.listdir(root)))
    assert names == ["one", "three", "two"]
    assert sorted(os.listdir(driver.layers(BASE)[0])) == ["gone", "one"]
    assert os.listdir(target) == []


@pytest.mark.parametrize("key", [BASE, TOP, "box"])
def test_a_read_only_mount_cannot_be_written(reopen: Open, tmp_path: Path, key: str) -> None:
    driver = reopen()
    target = tmp_path / "mnt"
    layer(driver, BASE, None, one="1")
    layer(driver, TOP, BASE, two="2")
    driver.prepare("box", TOP)

    def attempt(root: Path) -> object:
        with pytest.raises(OSError, match="Read-only"):
            (root / "new").write_text("x")
        return (root / "one").read_text()

    assert mounted(driver.mounts(key, str(target), readonly=True), target, attempt) == "1"


def test_a_snapshot_on_nothing_is_writable(reopen: Open, tmp_path: Path) -> None:
    driver = reopen()
    driver.prepare("box", None)
    target = tmp_path / "mnt"

    def change(root: Path) -> object:
        (root / "new").write_text("x")
        return os.listdir(root)

    assert mounted(driver.mounts("box", str(target)), target, change) == ["new"]


def test_a_hundred_layers(reopen: Open, tmp_path: Path) -> None:
    driver = reopen()
    target = tmp_path / "mnt"
    parent = None
    for number in range(100):
        name = f"sha256:{number:064x}"
        layer(driver, name, parent, **{f"f{number}": str(number)})
        parent = name
    driver.prepare("box", parent)
    found = mounted(driver.mounts("box", str(target)), target, lambda root: len(os.listdir(root)))
    assert found == 100
