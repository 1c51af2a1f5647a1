"""Devices, links and directories in a container's root."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from box import BUSYBOX, DEV, PROC, Box

from cloche.plan.step import StepError
from cloche.plan.steps import Bind, MakeDevice, MakeDirectory, MakeSymlink

pytestmark = pytest.mark.skipif(os.getuid() != 0 or not BUSYBOX.exists(), reason="needs root and busybox")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_device_has_its_numbers_mode_and_owner(box: Box) -> None:
    step = MakeDevice("/dev/some/zero", "c", 1, 5, 0o640, 7, 9)
    result = box.run(DEV, step, script="stat -c '%t:%T %a %u %g' /dev/some/zero")
    assert result.output == "1:5 640 7 9\n"


def test_a_file_in_a_devices_place_is_replaced(box: Box) -> None:
    (box.root / "dev").mkdir()
    (box.root / "dev" / "null").write_text("keep me not")
    result = box.run(MakeDevice("/dev/null", "c", 1, 3), script="stat -c %t:%T /dev/null")
    assert result.output == "1:3\n"


def test_an_existing_device_is_left(box: Box) -> None:
    (box.root / "dev").mkdir()
    os.mknod(box.root / "dev" / "null", 0o020600, os.makedev(1, 3))
    result = box.run(MakeDevice("/dev/null", "c", 1, 3), script="stat -c %a /dev/null")
    assert result.output == "600\n"


def test_symlinks_and_directories(box: Box) -> None:
    (box.root / "there").symlink_to("elsewhere")
    steps = (
        MakeSymlink("/dev/fd", "/proc/self/fd"),
        MakeSymlink("/there", "nowhere"),
        MakeDirectory("/run/lock", 0o1777, 3, 4),
        MakeDirectory("/bin", 0o700),
    )
    script = "readlink /dev/fd; readlink /there; stat -c '%a %u %g' /run/lock; stat -c %a /bin"
    assert box.run(PROC, *steps, script=script).output == "/proc/self/fd\nelsewhere\n1777 3 4\n755\n"


def test_a_target_at_the_end_of_a_link_to_nothing_is_made(box: Box, tmp_path: Path) -> None:
    (box.root / "etc").mkdir()
    (box.root / "etc" / "resolv.conf").symlink_to("../run/resolve/stub.conf")
    (box.root / "var").mkdir()
    (box.root / "var" / "data").symlink_to("/srv/data")
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    (tmp_path / "data").mkdir()
    result = box.run(
        Bind(str(tmp_path / "resolv.conf"), "/etc/resolv.conf"),
        Bind(str(tmp_path / "data"), "/var/data"),
        script="cat /run/resolve/stub.conf; ls -d /srv/data",
    )
    assert result.output == "nameserver 192.0.2.1\n/srv/data\n"


def test_links_in_a_circle_are_refused(box: Box, tmp_path: Path) -> None:
    (box.root / "one").symlink_to("two")
    (box.root / "two").symlink_to("one")
    with pytest.raises(StepError) as caught:
        box.run(Bind(str(tmp_path), "/one/deep"))
    assert caught.value.failure.errno == errno.ELOOP


def test_a_directory_onto_a_file_is_refused(box: Box, tmp_path: Path) -> None:
    (box.root / "file").touch()
    with pytest.raises(StepError, match="mount of a directory onto a file"):
        box.run(Bind(str(tmp_path), "/file"))
    with pytest.raises(StepError, match="mount of a file onto a directory"):
        box.run(Bind(str(BUSYBOX), "/bin"))
