import os
from pathlib import Path

from cloche.snapshots.deletion import delete


def test_a_tree_deeper_than_any_path(tmp_path: Path) -> None:
    trash = tmp_path / "trash"
    outside = tmp_path / "outside"
    trash.mkdir()
    outside.mkdir()
    (outside / "kept").touch()
    directory = os.open(trash, os.O_RDONLY)
    name = "engine-1"
    for _ in range(6000):
        os.mkdir(name, dir_fd=directory)
        below = os.open(name, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory, name = below, "deeper"
        os.close(os.open("file", os.O_CREAT, dir_fd=directory))
        os.symlink(outside, "link", dir_fd=directory)
    os.close(directory)
    delete(str(trash), "engine-1")
    assert os.listdir(trash) == []
    assert os.listdir(outside) == ["kept"]


def test_a_link_and_a_file(tmp_path: Path) -> None:
    trash = tmp_path / "trash"
    trash.mkdir()
    (tmp_path / "kept").mkdir()
    (trash / "engine-1").symlink_to(tmp_path / "kept")
    (trash / "engine-2").touch()
    delete(str(trash), "engine-1")
    delete(str(trash), "engine-2")
    assert os.listdir(trash) == []
    assert (tmp_path / "kept").is_dir()
