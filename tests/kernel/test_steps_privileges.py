"""Who the program is and what it may."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from box import BUSYBOX, DEV, NULL, PROC, Box
from sandbox import forked

from cloche.kernel import process
from cloche.kernel.syscall import libc
from cloche.plan.execution import Execution
from cloche.plan.step import Step, StepError
from cloche.plan.steps import (
    ChangeDirectory,
    LoadSeccomp,
    NoNewPrivileges,
    ResolveUser,
    SetCapabilities,
    SetIds,
)

pytestmark = pytest.mark.skipif(os.getuid() != 0 or not BUSYBOX.exists(), reason="needs root and busybox")

PR_GET_DUMPABLE = 3
PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv/web:/bin/sh\n# a comment\nbroken\n"
PASSWD += "stays-root:x:4294967295:5::/:/bin/sh\nsuperscript:x:²:²::/:/bin/sh\n"
GROUP = "root:x:0:\nweb:x:34:\nlogs:x:40:web,other\nmail:x:41:web\nall:x:4294967295:\n"


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    (box.root / "etc").mkdir()
    (box.root / "etc" / "passwd").write_text(PASSWD)
    (box.root / "etc" / "group").write_text(GROUP)
    return box


def test_who_changes_its_ids_cannot_be_looked_into() -> None:
    def work() -> int:
        process.set_dumpable(True)
        SetIds(os.getuid(), os.getgid()).execute(Execution({}))
        return int(libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0))

    assert forked(work) == 0


def status(box: Box, *inside: Step, field: str) -> list[str]:
    """Values of the lines of the program's /proc/self/status that begin with ``field``."""
    output = box.run(PROC, inside=inside, argv=("grep", f"^{field}", "/proc/self/status")).output
    return [line.partition(":")[2].strip() for line in output.splitlines()]


@pytest.mark.parametrize(
    ("user", "groups", "expected"),
    [
        ("", (), "0 0 [0] HOME=/root"),
        ("web", (), "33 34 [34, 40, 41] HOME=/srv/web"),
        ("33", (), "33 34 [34, 40, 41] HOME=/srv/web"),
        ("1234", (), "1234 0 [0] HOME=/"),
        ("1234:5678", (), "1234 5678 [5678] HOME=/"),
        ("web:logs", (), "33 40 [40] HOME=/srv/web"),
        ("web:mail", ("logs", "99"), "33 41 [40, 41, 99] HOME=/srv/web"),
    ],
)
def test_users_are_those_of_the_container(
    box: Box, user: str, groups: tuple[str, ...], expected: str
) -> None:
    script = "grep -E '^(Uid|Gid|Groups)' /proc/self/status; env"
    inside = (ResolveUser(user, groups), SetIds())
    output = box.run(PROC, script=script, inside=inside, environment=("PATH=/bin", "HOME=")).output
    fields = dict(line.split(":", 1) for line in output.splitlines() if ":\t" in line)
    home = next(line for line in output.splitlines() if line.startswith("HOME="))
    uid, gid, supplementary = (fields[name].split() for name in ("Uid", "Gid", "Groups"))
    assert f"{uid[0]} {gid[0]} {sorted(map(int, supplementary))} {home}" == expected


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("web:none", "unable to find group none: no matching entries in group file"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("stays-root", "uids and gids must be in range 0-2147483647: 4294967295"),
        ("4294967295", "uids and gids must be in range 0-2147483647: 4294967295"),
        ("web:all", "uids and gids must be in range 0-2147483647: 4294967295"),
        ("superscript", "unable to find user superscript: no matching entries in passwd file"),
    ],
)
def test_an_unknown_user_is_refused_in_dockers_words(box: Box, user: str, words: str) -> None:
    with pytest.raises(StepError, match=words) as caught:
        box.run(inside=(ResolveUser(user), SetIds()))
    assert caught.value.failure.step == "ResolveUser"


def test_a_number_is_never_a_name(box: Box) -> None:
    """CVE-2016-3697; and no entry stands for "leave the id as it is", which is root's."""
    (box.root / "etc/passwd").write_text("1000:x:0:0::/:\nsame:x:-1:-1::/:\nlast:x:4294967295:0::/:\n")
    (box.root / "etc/group").write_text("50:x:0:\n")
    inside = (ResolveUser("1000:50"), SetIds())
    assert [line.split()[0] for line in status(box, *inside, field="[UG]id")] == ["1000", "50"]
    for user, words in (("same", "must be in range"), ("last", "must be in range")):
        with pytest.raises(StepError, match=words):
            box.run(inside=(ResolveUser(user), SetIds()))


def test_a_passwd_that_is_a_fifo_or_leads_out_is_no_passwd(box: Box) -> None:
    (box.root / "etc" / "passwd").unlink()
    os.mkfifo(box.root / "etc" / "passwd")
    (box.root / "etc" / "group").unlink()
    (box.root / "etc" / "group").symlink_to("/proc/1/root/etc/group")
    result = box.run(PROC, inside=(ResolveUser("7"), SetIds()), argv=("grep", "^Uid", "/proc/self/status"))
    assert result.output.split() == ["Uid:", "7", "7", "7", "7"]


def test_capabilities_of_root(box: Box) -> None:
    names = ("CAP_CHOWN", "CAP_KILL")
    sets = status(box, SetIds(0, 0), SetCapabilities(names, names, names, (), ()), field="Cap")
    assert sets == [f"{bits:016x}" for bits in (0, 0x21, 0x21, 0x21, 0)]


def test_capabilities_of_another_user(box: Box) -> None:
    names = ("CAP_CHOWN", "CAP_KILL")
    sets = status(box, SetIds(1000, 1000), SetCapabilities(names, names, names, (), ()), field="Cap")
    assert sets == [f"{bits:016x}" for bits in (0, 0, 0, 0x21, 0)]
    ambient = SetCapabilities(names, names, names, ("CAP_KILL",), ("CAP_KILL",))
    sets = status(box, SetIds(1000, 1000), ambient, field="Cap")
    assert sets == [f"{bits:016x}" for bits in (0x20, 0x20, 0x20, 0x21, 0x20)]


def test_a_user_may_reopen_its_own_output(box: Box) -> None:
    result = box.run(PROC, DEV, NULL, inside=(SetIds(1000, 1000),), script="echo again > /proc/self/fd/1")
    assert result.output == "again\n"
    assert os.stat("/dev/null").st_uid == 0


def test_a_file_of_the_host_keeps_its_owner(box: Box, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("x")
    with open(tmp_path / "input") as file:
        result = box.run(inside=(SetIds(1000, 1000),), script="cat", descriptors={"stdin": file.fileno()})
    assert (result.output, (tmp_path / "input").stat().st_uid) == ("x", 0)


def test_no_new_privileges(box: Box) -> None:
    assert status(box, NoNewPrivileges(), field="NoNewPrivs") == ["1"]


def filter_refusing(number: int, error: int) -> bytes:
    """BPF: that system call fails with ``error``, every other is allowed."""
    return b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),  # load the system call's number
            (0x15, 0, 1, number),
            (0x06, 0, 0, 0x00050000 | error),
            (0x06, 0, 0, 0x7FFF0000),
        )
    )


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of mkdir(2) is x86_64's")
def test_a_filter_with_and_without_no_new_privileges(box: Box) -> None:
    load = LoadSeccomp(filter_refusing(83, 95))
    script = "grep ^Seccomp: /proc/self/status; mkdir /made"
    for inside in ((load, SetIds(1000, 1000)), (SetIds(0, 0), NoNewPrivileges(), load)):
        result = box.run(PROC, script=script, inside=inside)
        refused = "mkdir: can't create directory '/made': Operation not supported"
        assert result.output == f"Seccomp:\t2\n{refused}\n"
    with pytest.raises(StepError, match="a filter needs CAP_SYS_ADMIN"):
        box.run(inside=(SetIds(1000, 1000), load))
    with pytest.raises(StepError, match="the kernel refuses the filter"):
        box.run(inside=(LoadSeccomp(b"\xff" * 8),))


def test_the_working_directory_is_made(box: Box) -> None:
    result = box.run(inside=(ChangeDirectory("/srv/deep/er"), SetIds(1000, 1000)), script="pwd")
    assert result.output == "/srv/deep/er\n"
    with pytest.raises(StepError, match="the working directory leads to a file"):
        box.run(inside=(ChangeDirectory("/etc/passwd"),))


def test_the_working_directory_never_is_a_descriptor_of_the_host(box: Box) -> None:
    """CVE-2024-21626: /proc/self/fd/N of a directory that the engine has open."""
    (box.root / "in-the-container").touch()
    directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    entered = []
    try:
        for number in range(3, 16):
            try:
                step = ChangeDirectory(f"/proc/self/fd/{number}")
                entered.append(box.run(PROC, inside=(step,), script="ls").output)
            except StepError:
                pass
    finally:
        os.close(directory)
    assert all("in-the-container" in output for output in entered)
