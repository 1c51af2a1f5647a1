"""Namespaces, names, limits, kernel settings and the terminal of a container's first process."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest
from box import BUSYBOX, DEV, DEVPTS, NULL, PROC, Box

from cloche.kernel import tty
from cloche.kernel.process import process_start_time
from cloche.plan.step import StepError
from cloche.plan.steps import (
    Bind,
    Clone,
    JoinNamespace,
    JoinSessionKeyring,
    MakeDevice,
    OpenTerminal,
    SetDomainname,
    SetHostname,
    SetRlimit,
    UnshareCgroup,
    WriteSysctl,
)

pytestmark = pytest.mark.skipif(os.getuid() != 0 or not BUSYBOX.exists(), reason="needs root and busybox")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_every_namespace_is_new(box: Box) -> None:
    kinds = ("pid", "mnt", "uts", "ipc", "net", "cgroup")
    script = "for kind in " + " ".join(kinds) + "; do readlink /proc/self/ns/$kind; done; echo $$"
    output = box.run(PROC, UnshareCgroup(), script=script).output.split()
    assert output[-1] == "1"
    assert len(output) == len(kinds) + 1
    for kind, seen in zip(kinds, output, strict=False):
        assert seen != os.readlink(f"/proc/self/ns/{kind}"), kind


def test_joining_a_namespace(box: Box) -> None:
    own = os.readlink("/proc/self/ns/net")
    host = (Clone(("pid", "mount")),)
    step = JoinNamespace("network", f"/proc/{os.getpid()}/ns/net")
    assert box.run(PROC, step, script="readlink /proc/self/ns/net", host=host).output.strip() == own
    with pytest.raises(StepError, match="is not a ipc namespace"):
        box.run(JoinNamespace("ipc", f"/proc/{os.getpid()}/ns/net"), host=host)


def test_a_namespace_is_not_joined_by_a_number_that_changed_hands(box: Box) -> None:
    path, started = f"/proc/{os.getpid()}/ns/net", process_start_time(os.getpid())
    host = (Clone(("pid", "mount")),)
    assert box.run(JoinNamespace("network", path, started), script="true", host=host).code == 0
    with pytest.raises(StepError, match="the process that held this namespace has ended"):
        box.run(JoinNamespace("network", path, started + 1), host=host)


def test_names_are_the_containers_own(box: Box) -> None:
    before = os.uname()
    script = "hostname; cat /proc/sys/kernel/domainname"
    result = box.run(PROC, SetHostname("box"), SetDomainname("example"), script=script)
    assert result.output == "box\nexample\n"
    assert os.uname() == before
    with pytest.raises(StepError, match="a host name has at most 64 bytes"):
        box.run(SetHostname("x" * 65))


def test_limits(box: Box) -> None:
    script = "ulimit -S -n; ulimit -H -n; ulimit -c"
    steps = (SetRlimit("RLIMIT_NOFILE", 100, 200), SetRlimit("RLIMIT_CORE", 0, -1))
    assert box.run(*steps, script=script).output == "100\n200\n0\n"
    script = "grep locks /proc/self/limits"
    assert box.run(PROC, SetRlimit("RLIMIT_LOCKS", 7, 8), script=script).output.split()[3:5] == ["7", "8"]
    with pytest.raises(StepError, match="the soft limit may not exceed the hard one"):
        box.run(SetRlimit("RLIMIT_NOFILE", 200, 100))


def test_kernel_settings_are_those_of_the_container(box: Box) -> None:
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    value = "0" if before.strip() == "1" else "1"
    step = WriteSysctl("net/ipv4/ip_forward", value)
    assert box.run(PROC, step, script="cat /proc/sys/net/ipv4/ip_forward").output.strip() == value
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before
    with pytest.raises(StepError, match="this kernel has no such setting"):
        box.run(PROC, WriteSysctl("net/no/such", "1"))


def test_a_kernel_setting_is_written_nowhere_else(box: Box, tmp_path: Path) -> None:
    """A volume that another container changes meanwhile may lie over /proc or in it."""
    false = tmp_path / "false"
    (false / "sys/kernel").mkdir(parents=True)
    (false / "sys/kernel/shmmni").write_text("untouched")
    setting = WriteSysctl("kernel/shmmni", "7")
    with pytest.raises(StepError, match="not a proc file system"):
        box.run(Bind(str(false), "/proc"), inside=(setting,))
    with pytest.raises(StepError, match="mounted over the setting"):
        box.run(PROC, Bind(str(false / "sys/kernel"), "/proc/sys/kernel"), inside=(setting,))
    assert (false / "sys/kernel/shmmni").read_text() == "untouched"


def test_a_session_keyring_of_its_own(box: Box) -> None:
    assert box.run(JoinSessionKeyring("box"), script="true").code == 0


def test_the_terminal_controls_the_program(box: Box) -> None:
    script = "test -t 0 && test -t 2 && test -c /dev/console && stty size && readlink /proc/self/fd/1"
    script += "; echo ok > /dev/tty"
    devices = (NULL, MakeDevice("/dev/tty", "c", 5, 0))
    result = box.run(PROC, DEV, DEVPTS, *devices, OpenTerminal(33, 77), script=script)
    assert result.code == 0
    assert tty.size(result.console) == (33, 77)
    assert read_terminal(result.console) == "33 77\r\n/dev/pts/0\r\nok\r\n"


def test_a_terminal_needs_devpts(box: Box) -> None:
    with pytest.raises(StepError, match="no devpts"):
        box.run(DEV, OpenTerminal())


def test_the_console_is_no_link_of_the_image(box: Box) -> None:
    (box.root / "dev").mkdir()
    (box.root / "victim").touch()
    (box.root / "dev/console").symlink_to("/victim")
    with pytest.raises(StepError, match="/dev/console is a link"):
        box.run(NULL, DEVPTS, OpenTerminal())


def test_a_false_ptmx_is_not_opened(box: Box) -> None:
    with pytest.raises(StepError, match="not the pseudo-terminals' device"):
        box.run(DEV, MakeDevice("/dev/pts/ptmx", "c", 1, 3), OpenTerminal())


def read_terminal(master: int) -> str:
    data = b""
    while select.select([master], [], [], 5)[0]:
        try:
            data += os.read(master, 4096)
        except OSError:  # EIO: the last process has left
            break
    os.close(master)
    return data.decode()
