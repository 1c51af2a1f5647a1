"""Mounts, resolution and file events, in a throw-away mount namespace."""

import errno
import os
from pathlib import Path

import pytest
from sandbox import forked

from cloche.kernel import files, inotify, mounts, tty
from cloche.kernel.namespaces import CLONE_NEWNS

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mounts need root")


def mount_line(target: str) -> list[str]:
    """Fields of the topmost mount at ``target``, from /proc/self/mountinfo."""
    with open("/proc/self/mountinfo") as table:
        return [line.split() for line in table if line.split()[4] == target][-1]


def tmpfs(*options: str) -> int:
    context = mounts.fsopen("tmpfs")
    try:
        for option in options:
            key, _, value = option.partition("=")
            mounts.fsconfig_string(context, key, value)
        mounts.fsconfig_create(context)
        return mounts.fsmount(context, mounts.MOUNT_ATTR_NODEV)
    finally:
        os.close(context)


def test_mount_by_descriptors(tmp_path: Path) -> None:
    target = str(tmp_path)

    def work() -> list[str]:
        detached = tmpfs("size=1m", "mode=0750")
        mounts.mount_setattr(detached, "", mounts.AT_EMPTY_PATH, mounts.MOUNT_ATTR_NOSUID)
        empty = mounts.MOVE_MOUNT_F_EMPTY_PATH
        mounts.move_mount(detached, "", mounts.AT_FDCWD, target, empty)
        return mount_line(target)

    line = forked(work, CLONE_NEWNS)
    assert set(line[5].split(",")) >= {"nosuid", "nodev"}
    assert {"size=1024k", "mode=750"} <= set(line[-1].split(","))
    assert not os.path.ismount(target)


def test_what_the_file_system_says_is_in_the_error() -> None:
    def work() -> list[str]:
        texts = []
        for option in ("bogus=1", "size=a lot"):
            try:
                os.close(tmpfs(option))
            except OSError as error:
                texts.append(f"{error.errno} {error}")
        return texts

    unknown, bad = forked(work, CLONE_NEWNS)
    assert unknown.startswith(str(errno.EINVAL))
    assert "fsconfig('string', 'bogus', '1')" in unknown
    assert "Unknown parameter 'bogus'" in unknown
    assert "size" in bad


def test_errors_name_the_call_and_its_arguments(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")

    def work() -> list[str]:
        texts = []
        for call in (
            lambda: mounts.mount("proc", missing, "proc", mounts.MS_NOSUID, "hidepid=2"),
            lambda: mounts.umount2(missing, mounts.MNT_DETACH),
            lambda: mounts.fsopen("no-such-fs"),
            lambda: mounts.open_tree(mounts.AT_FDCWD, missing, 0),
            lambda: mounts.pivot_root(missing, missing),
            lambda: mounts.mount("a\0b", missing),
        ):
            try:
                call()
            except OSError as error:
                texts.append(str(error))
        return texts

    mount, umount, fsopen, tree, pivot, nul = forked(work, CLONE_NEWNS)
    assert f"mount('proc', '{missing}', 'proc', '0x2', 'hidepid=2'): No such file" in mount
    assert f"umount2('{missing}', '0x2'): No such file" in umount
    assert "fsopen('no-such-fs'): No such device" in fsopen
    assert "open_tree(-100," in tree
    assert "pivot_root(" in pivot
    assert "NUL byte" in nul


def test_bind_readonly_and_pivot(tmp_path: Path) -> None:
    """A clone of a tree, made read-only before anyone can see it, becomes the root."""
    (tmp_path / "inside").write_text("here")

    def work() -> tuple[list[str], int, bool]:
        clone = mounts.open_tree(
            mounts.AT_FDCWD, str(tmp_path), mounts.OPEN_TREE_CLONE | mounts.AT_RECURSIVE
        )
        mounts.mount_setattr(
            clone,
            "",
            mounts.AT_EMPTY_PATH | mounts.AT_RECURSIVE,
            mounts.MOUNT_ATTR_RDONLY,
            propagation=mounts.MS_PRIVATE,
        )
        mounts.move_mount(clone, "", mounts.AT_FDCWD, str(tmp_path), mounts.MOVE_MOUNT_F_EMPTY_PATH)
        os.chdir(str(tmp_path))
        mounts.pivot_root(".", ".")
        mounts.umount2(".", mounts.MNT_DETACH)
        os.chdir("/")
        try:
            os.mkdir("/new")
            number = 0
        except OSError as error:
            number = error.errno or 0
        return os.listdir("/"), number, os.path.exists("/usr")

    assert forked(work, CLONE_NEWNS) == (["inside"], errno.EROFS, False)


def test_classic_mount_flags(tmp_path: Path) -> None:
    def work() -> tuple[str, bool]:
        mounts.mount("none", str(tmp_path), "tmpfs", mounts.MS_NOEXEC | mounts.MS_RDONLY, "size=64k")
        options = mount_line(str(tmp_path))[5]
        mounts.umount2(str(tmp_path))
        return options, os.path.ismount(tmp_path)

    options, still = forked(work, CLONE_NEWNS)
    assert {"ro", "noexec"} <= set(options.split(","))
    assert not still


@pytest.mark.parametrize(
    ("link", "path"),
    [("../../../../etc/passwd", "link"), ("/etc/passwd", "link"), ("..", "link/../../etc/passwd")],
)
def test_resolution_stays_in_the_root(tmp_path: Path, link: str, path: str) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("of the container")
    (root / "link").symlink_to(link)
    directory = os.open(root, os.O_PATH)
    try:
        descriptor = files.openat2(directory, path, os.O_RDONLY, resolve=files.RESOLVE_IN_ROOT)
        with open(descriptor) as file:
            assert file.read() == "of the container"
            assert not os.get_inheritable(file.fileno())
        with pytest.raises(OSError, match=r"openat2\(\d+, 'link'"):
            files.openat2(directory, "link", os.O_RDONLY, resolve=files.RESOLVE_NO_SYMLINKS)
    finally:
        os.close(directory)


def test_openat2_makes_files_with_the_mode_asked(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_PATH)
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        os.close(files.openat2(directory, "made", flags, 0o600, files.RESOLVE_IN_ROOT))
        assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600
        with pytest.raises(FileExistsError):
            files.openat2(directory, "made", flags, 0o600, files.RESOLVE_IN_ROOT)
    finally:
        os.close(directory)


def test_inotify_tells_what_happened(tmp_path: Path) -> None:
    queue = inotify.open_queue()
    try:
        mask = inotify.IN_CREATE | inotify.IN_MODIFY | inotify.IN_MOVED_TO
        watch = inotify.add_watch(queue, str(tmp_path), mask)
        assert inotify.read_events(queue) == []
        (tmp_path / "a name").write_text("x")
        os.rename(tmp_path / "a name", tmp_path / "b")
        events = inotify.read_events(queue)
        assert [(event.watch, event.mask, event.name) for event in events] == [
            (watch, inotify.IN_CREATE, "a name"),
            (watch, inotify.IN_MODIFY, "a name"),
            (watch, inotify.IN_MOVED_TO, "b"),
        ]
        with pytest.raises(FileNotFoundError, match="inotify_add_watch"):
            inotify.add_watch(queue, str(tmp_path / "missing"), mask)
    finally:
        os.close(queue)


def test_pty_of_a_devpts_of_its_own(tmp_path: Path) -> None:
    def work() -> tuple[tuple[int, int], bytes, str]:
        mounts.mount("devpts", str(tmp_path), "devpts", 0, "newinstance,ptmxmode=0666")
        master, terminal = tty.open_pty(f"{tmp_path}/ptmx")
        tty.set_size(master, 24, 80)
        os.setsid()
        tty.set_controlling(terminal)
        controlling = os.open("/dev/tty", os.O_RDWR)
        os.write(controlling, b"from the program")
        return tty.size(terminal), os.read(master, 100), ",".join(os.listdir(tmp_path))

    size, text, entries = forked(work, CLONE_NEWNS)
    assert size == (24, 80)
    assert text == b"from the program"
    assert set(entries.split(",")) == {"ptmx", "0"}
