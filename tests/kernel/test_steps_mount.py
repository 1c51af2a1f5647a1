"""Mounts and the change of root, against the real kernel in the container's own mount namespace."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from box import BUSYBOX, DEV, NULL, PROC, Box, run

from cloche.plan.step import StepError
from cloche.plan.steps import (
    Bind,
    Exec,
    MakePrivate,
    MaskPath,
    MountFilesystem,
    MountOverlay,
    PivotRoot,
    ReadonlyPath,
    ReadonlyRoot,
)

pytestmark = pytest.mark.skipif(os.getuid() != 0 or not BUSYBOX.exists(), reason="needs root and busybox")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def overlay(directory: Path, lower: tuple[str, ...], **options: object) -> MountOverlay:
    for name in ("upper", "work", "merged"):
        (directory / name).mkdir(exist_ok=True)
    paths = [str(directory / name) for name in ("upper", "work", "merged")]
    return MountOverlay(lower, *paths, **options)  # type: ignore[arg-type]


def run_overlay(box: Box, step: MountOverlay, script: str) -> tuple[int, str]:
    program = Exec(("sh", "-c", script), ("PATH=/bin",))
    result = run((MakePrivate(), step, PivotRoot(step.target), program))
    return result.code, result.output


def test_overlay_shows_the_topmost_layer_and_writes_to_upper(box: Box, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "who").write_text("top")
    (box.root / "who").write_text("bottom")
    step = overlay(tmp_path, (str(top), str(box.root)))
    assert run_overlay(box, step, "cat /who; echo new > /made") == (0, "top")
    assert (tmp_path / "upper" / "made").read_text() == "new\n"
    assert not (box.root / "made").exists()
    assert os.listdir(step.target) == []


def test_overlay_of_a_hundred_layers_with_long_names(box: Box, tmp_path: Path) -> None:
    layers = []
    for number in range(100):
        layer = tmp_path / f"{number:03d}{'x' * 60}"
        layer.mkdir()
        (layer / f"file{number}").touch()
        layers.append(str(layer))
    step = overlay(tmp_path, (*layers, str(box.root)))
    assert run_overlay(box, step, "ls -d /file*") == (
        0,
        "".join(sorted(f"/file{number}\n" for number in range(100))),
    )


def test_overlay_of_a_hundred_layers_in_one_page_of_options(box: Box, tmp_path: Path) -> None:
    """A path too long for fsconfig(2) needs mount(2), as every path does before Linux 6.8."""
    base = tmp_path / ("d" * 250)
    box.root.rename(tmp_path / "bottom")
    layers = [base / f"layer{number:011}" / "diff" for number in range(120)]
    for number, layer in enumerate(layers):
        layer.mkdir(parents=True)
        (layer / f"file{number}").touch()
    (tmp_path / "bottom").rename(base / "bottom")
    step = overlay(base, (*(str(layer) for layer in layers), str(base / "bottom")))
    code, output = run_overlay(box, step, "echo new > /made; ls -d /file*")
    assert (code, len(output.split())) == (0, 120)
    assert (base / "upper" / "made").read_text() == "new\n"


def test_overlay_read_only(box: Box, tmp_path: Path) -> None:
    step = overlay(tmp_path, (str(box.root),), readonly=True)
    code, output = run_overlay(box, step, "echo > /made")
    assert code != 0
    assert "Read-only" in output


def test_overlay_that_is_refused_says_why(box: Box, tmp_path: Path) -> None:
    step = overlay(tmp_path, (str(box.root), "/nowhere"))
    with pytest.raises(StepError) as caught:
        run_overlay(box, step, "true")
    failure = caught.value.failure
    assert (failure.step, failure.side, failure.index) == ("MountOverlay", "container", 1)
    assert failure.errno == errno.ENOENT
    assert "layer's directory is missing" in failure.hint
    assert failure.shell.startswith("mount -t overlay -o lowerdir=")


def test_nothing_of_the_host_is_left_and_nothing_is_seen_there(box: Box) -> None:
    result = box.run(PROC, DEV, script="cat /proc/self/mounts")
    assert [line.split()[1] for line in result.output.splitlines()] == ["/", "/proc", "/dev"]
    assert str(box.root) not in Path("/proc/self/mounts").read_text()


def test_bind_read_only_applies_to_the_whole_tree(box: Box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("content")
    step = Bind(str(tmp_path / "data"), "/mnt/data", options=("ro", "nosuid", "noexec"))
    result = box.run(PROC, step, script="cat /mnt/data/file; echo > /mnt/data/new || grep data /proc/mounts")
    assert result.output.startswith("content")
    assert "Read-only" in result.output
    assert not (tmp_path / "data" / "new").exists()


def test_bind_of_a_file_makes_the_target(box: Box, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    result = box.run(Bind(str(tmp_path / "hosts"), "/etc/hosts"), script="cat /etc/hosts")
    assert result.output == "127.0.0.1 localhost\n"


def test_bind_of_a_missing_source(box: Box) -> None:
    with pytest.raises(StepError) as caught:
        box.run(Bind("/nowhere/at/all", "/mnt"))
    assert caught.value.failure.hint == "/nowhere/at/all does not exist on the host"


def test_bind_refuses_an_unknown_option(box: Box, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="not an option of a bind mount: size=1"):
        box.run(Bind(str(tmp_path), "/mnt", options=("size=1",)))


def test_a_link_of_the_image_never_leads_a_target_out(box: Box, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (box.root / "escape").symlink_to(outside)
    (box.root / "up").symlink_to("../../../../../../../.." + str(outside))
    (tmp_path / "data").mkdir()
    result = box.run(
        Bind(str(tmp_path / "data"), "/escape"),
        Bind(str(tmp_path / "data"), "/up/deep"),
        script="true",
    )
    assert result.code == 0
    assert os.listdir(outside) == []
    assert (box.root / str(outside).lstrip("/")).is_dir()


def test_proc_is_not_mounted_through_a_link(box: Box) -> None:
    (box.root / "elsewhere").mkdir()
    (box.root / "proc").symlink_to("elsewhere")
    with pytest.raises(StepError) as caught:
        box.run(PROC)
    assert caught.value.failure.errno == errno.ELOOP
    assert caught.value.failure.hint == "/proc is a symlink in the image"


def test_a_new_file_system_has_its_options(box: Box) -> None:
    step = MountFilesystem("tmpfs", "shm", "/dev/shm", ("nosuid", "noexec"), ("mode=1777", "size=64k"))
    result = box.run(PROC, DEV, step, script="grep /dev/shm /proc/mounts")
    assert "rw,nosuid,noexec,relatime,size=64k" in result.output


def test_a_tmpfs_has_the_mode_of_what_it_covers(box: Box) -> None:
    (box.root / "private").mkdir(mode=0o700)
    steps = [MountFilesystem("tmpfs", "tmpfs", target) for target in ("/private", "/new")]
    assert box.run(*steps, script="stat -c %a /private /new").output == "700\n1777\n"
    explicit = MountFilesystem("tmpfs", "tmpfs", "/private", (), ("mode=750",))
    assert box.run(explicit, script="stat -c %a /private").output == "750\n"


def test_a_bad_option_comes_back_with_the_kernels_words(box: Box) -> None:
    with pytest.raises(StepError) as caught:
        box.run(MountFilesystem("tmpfs", "tmpfs", "/mnt", (), ("size=much",)))
    assert "size" in caught.value.failure.message
    assert caught.value.failure.errno == errno.EINVAL


def test_mask_and_protect(box: Box) -> None:
    (box.root / "secret").write_text("secret")
    for name in ("hidden", "hidden2", "kept"):
        (box.root / name).mkdir()
        (box.root / name / "file").write_text(name)
    inside = (MaskPath("/secret"), MaskPath("/hidden"), MaskPath("/hidden2"), MaskPath("/no/such"))
    script = "cat /secret; ls /hidden /hidden2; cat /kept/file; echo x > /kept/file; echo x > /hidden/file"
    result = box.run(
        PROC, DEV, NULL, script=script, inside=(*inside, ReadonlyPath("/kept"), ReadonlyPath("/no/such"))
    )
    assert result.output.startswith("/hidden:\n\n/hidden2:\nkept")
    assert result.output.count("Read-only") == 2
    assert (box.root / "kept" / "file").read_text() == "kept"


def test_a_false_null_device_masks_nothing(box: Box) -> None:
    (box.root / "dev").mkdir()
    (box.root / "dev" / "null").write_text("an image's trick")
    (box.root / "secret").write_text("secret")
    with pytest.raises(StepError, match="not the null device"):
        box.run(inside=(MaskPath("/secret"),))


def test_readonly_root_leaves_other_mounts_writable(box: Box) -> None:
    result = box.run(DEV, inside=(ReadonlyRoot(),), script="echo > /dev/new && echo ok; echo > /new")
    assert result.output.startswith("ok")
    assert "Read-only" in result.output


def test_the_hosts_null_device_does_not_come_along(box: Box) -> None:
    """Its mode and owner could be changed through /proc/self/fd/0."""
    null = os.open("/dev/null", os.O_RDWR)
    try:
        script = "stat -L -c %d:%i /dev/null /proc/self/fd/0 /proc/self/fd/2"
        result = box.run(DEV, NULL, PROC, script=script, descriptors={"stdin": null, "stderr": null})
        own, stdin, stderr = result.output.split()
        assert own == stdin == stderr
        (box.root / "dev/null").touch()
        with pytest.raises(StepError, match="not the null device"):
            box.run(PROC, script=script, descriptors={"stdin": null})
    finally:
        os.close(null)


def test_pivot_needs_a_mount(box: Box) -> None:
    with pytest.raises(StepError) as caught:
        run((MakePrivate(), PivotRoot(str(box.root)), Exec(("true",), ())))
    assert (
        caught.value.failure.hint == "the new root must be a mount of its own, and its parent mount private"
    )


def test_a_file_system_does_not_go_onto_a_file(box: Box) -> None:
    (box.root / "file").write_text("")
    with pytest.raises(StepError) as caught:
        box.run(MountFilesystem("tmpfs", "tmpfs", "/file"))
    assert caught.value.failure.errno == errno.ENOTDIR
    assert "mount of a directory onto a file" in caught.value.failure.message
