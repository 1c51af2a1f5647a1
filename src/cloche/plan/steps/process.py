"""How init is forked, how the two sides wait for each other, and what of a process' own state is set."""

from __future__ import annotations

import errno
import os
import resource
import stat
from typing import TYPE_CHECKING

from cloche.kernel import files, mounts, namespaces, process, tty
from cloche.plan import root
from cloche.plan.step import Step, inside, quote
from cloche.plan.steps.cgroup import write_file

if TYPE_CHECKING:
    from cloche.plan.execution import Execution

_UNSHARE_OPTIONS = {
    "pid": "--pid --fork --kill-child",
    "network": "--net",
    "mount": "--mount",
    "ipc": "--ipc",
    "uts": "--uts",
    "user": "--user",
    "time": "--time",
}

_RLIMIT_LOCKS = 10
"""The one limit that the module ``resource`` does not name."""
_RESOLVE_SYSCTL = files.RESOLVE_BENEATH | files.RESOLVE_NO_XDEV | files.RESOLVE_NO_SYMLINKS
"""What is mounted or linked there could lead the write to another file of proc (CVE-2025-52881)."""


class Clone(Step, frozen=True):
    """Host side: fork init in new namespaces with one clone3(2). Exactly one per host part that has a
    container part."""

    namespaces: tuple[str, ...]
    """OCI's names: ``pid network mount ipc uts user time``. ``cgroup`` is not allowed here: see
    ``UnshareCgroup``."""
    cgroup: str = ""
    """v2: directory that init is born in (CLONE_INTO_CGROUP), which needs no attach and no RCU grace
    period."""

    def execute(self, run: Execution) -> None:
        flags = 0
        for name in self.namespaces:
            flags |= namespaces.FLAGS[name]
        directory = -1
        if self.cgroup:
            directory = os.open(self.cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            run.fork(flags, directory)
        finally:
            if directory >= 0:
                os.close(directory)
        if "pid" not in self.namespaces:
            # Init was born in the pid namespace that this side has joined; its later children are not.
            _join("/proc/self/ns/pid", namespaces.CLONE_NEWPID)

    def describe(self) -> str:
        return " ".join(self.namespaces) + (f" in {self.cgroup}" if self.cgroup else "")

    def shell(self) -> str:
        return "unshare " + " ".join(_UNSHARE_OPTIONS[name] for name in self.namespaces)

    def hint(self, number: int) -> str:
        if number == errno.ENOSPC:
            return "a limit in /proc/sys/user/max_*_namespaces is reached"
        return (
            "too many processes (ulimit -u, pids cgroup, kernel.pid_max)" if number == errno.EAGAIN else ""
        )


class Signal(Step, frozen=True):
    """Host side: tell init that ``event`` (``attached``, ``linked``) has happened."""

    event: str

    def execute(self, run: Execution) -> None:
        run.send(b"e" + self.event.encode())

    def describe(self) -> str:
        return self.event

    def shell(self) -> str:
        return f"signal {quote(self.event)}"


class Await(Step, frozen=True):
    """Container side: wait for the host side's ``Signal`` of the same event."""

    event: str

    def execute(self, run: Execution) -> None:
        run.wait_for(self.event)

    def describe(self) -> str:
        return self.event

    def shell(self) -> str:
        return f"await {quote(self.event)}"


class JoinNamespace(Step, frozen=True):
    """Container side, before ``PivotRoot``: enter an existing namespace instead of a new one. A pid one
    takes in the children of who joins it: host side, before ``Clone``."""

    kind: str
    """OCI's name: ``pid network mount ipc uts cgroup user time``."""
    path: str
    """On the host, e.g. ``/proc/123/ns/net``."""
    started: int = 0
    """When that process began (field 22 of /proc/PID/stat), where it may have ended meanwhile: its number
    may be anybody's then, a process of the host's included."""

    def execute(self, run: Execution) -> None:
        _join(self.path, namespaces.FLAGS[self.kind], self.started)

    def describe(self) -> str:
        return f"{self.kind} of {self.path}"

    def shell(self) -> str:
        kind = {"network": "net", "mount": "mount"}.get(self.kind, self.kind)
        return f"nsenter --{kind}={quote(self.path)}"

    def hint(self, number: int) -> str:
        if number in (errno.ENOENT, errno.ESRCH):
            return "the process that held this namespace has ended"
        return f"{self.path} is not a {self.kind} namespace" if number == errno.EINVAL else ""


class UnshareCgroup(Step, frozen=True):
    """Container side, after ``Await("attached")``: a new cgroup namespace, rooted at the container's own
    cgroups."""

    def execute(self, run: Execution) -> None:
        namespaces.unshare(namespaces.CLONE_NEWCGROUP)

    def describe(self) -> str:
        return "cgroup"

    def shell(self) -> str:
        return "unshare --cgroup"


class SetHostname(Step, frozen=True):
    """sethostname(2)."""

    name: str

    def execute(self, run: Execution) -> None:
        namespaces.sethostname(self.name)

    def describe(self) -> str:
        return self.name

    def shell(self) -> str:
        return f"echo {quote(self.name)} > /proc/sys/kernel/hostname"

    def hint(self, number: int) -> str:
        return "a host name has at most 64 bytes" if number == errno.EINVAL else ""


class SetDomainname(Step, frozen=True):
    """setdomainname(2)."""

    name: str

    def execute(self, run: Execution) -> None:
        namespaces.setdomainname(self.name)

    def describe(self) -> str:
        return self.name

    def shell(self) -> str:
        return f"echo {quote(self.name)} > /proc/sys/kernel/domainname"

    def hint(self, number: int) -> str:
        return "a domain name has at most 64 bytes" if number == errno.EINVAL else ""


class WriteSysctl(Step, frozen=True):
    """Write a file below /proc/sys: the host's on the host side, in the container part the container's own
    /proc (after that is mounted, before ``ReadonlyPath("/proc/sys")``)."""

    path: str
    """Relative to /proc/sys with slashes, e.g. ``net/ipv4/ip_forward``."""
    value: str

    def execute(self, run: Execution) -> None:
        if run.root < 0:
            write_file(f"/proc/sys/{self.path}", self.value.encode())
            return
        proc = root.open_path(run.root, "/proc", files.RESOLVE_NO_SYMLINKS)
        try:
            if files.filesystem(proc) != files.PROC_SUPER_MAGIC:
                raise OSError(errno.ENODEV, "open('/proc'): not a proc file system")
            descriptor = files.openat2(proc, f"sys/{self.path}", os.O_WRONLY, 0, _RESOLVE_SYSCTL)
            try:
                os.write(descriptor, self.value.encode())
            finally:
                os.close(descriptor)
        finally:
            os.close(proc)

    def describe(self) -> str:
        return f"{self.path} = {self.value}"

    def shell(self) -> str:
        return f"echo {quote(self.value)} > {inside('/proc/sys/' + self.path)}"

    def hint(self, number: int) -> str:
        if number == errno.ENOENT:
            return "this kernel has no such setting, or not in this namespace"
        if number in (errno.EXDEV, errno.ELOOP):
            return "something is mounted over the setting"
        return "the kernel refuses this value" if number == errno.EINVAL else ""


class SetRlimit(Step, frozen=True):
    """setrlimit(2) by OCI's name (``RLIMIT_NOFILE``). -1 is unlimited."""

    name: str
    soft: int
    hard: int

    def execute(self, run: Execution) -> None:
        kind: int = getattr(resource, self.name, _RLIMIT_LOCKS)
        try:
            resource.setrlimit(kind, (self.soft, self.hard))
        except ValueError as error:
            raise OSError(
                errno.EINVAL, f"setrlimit({self.name}, {self.soft}, {self.hard}): {error}"
            ) from None

    def describe(self) -> str:
        return f"{self.name} {_limit(self.soft)}:{_limit(self.hard)}"

    def shell(self) -> str:
        option = self.name.removeprefix("RLIMIT_").lower()
        return f"prlimit --pid $$ --{option}={_limit(self.soft)}:{_limit(self.hard)}"

    def hint(self, number: int) -> str:
        return "the soft limit may not exceed the hard one, nor RLIMIT_NOFILE fs.nr_open" if number else ""


class JoinSessionKeyring(Step, frozen=True):
    """A new session keyring, so that the program does not share the engine's."""

    name: str

    def execute(self, run: Execution) -> None:
        try:
            process.set_session_keyring(self.name)
        except OSError as error:
            if error.errno != errno.ENOSYS:  # a kernel without keys has none to share
                raise

    def describe(self) -> str:
        return self.name

    def shell(self) -> str:
        return ""

    def hint(self, number: int) -> str:
        return "kernel.keys.maxkeys of root is reached" if number == errno.EDQUOT else ""


class OpenTerminal(Step, frozen=True):
    """Container side, after its devpts is mounted: open a pty there, send the master to the host side, make
    the slave the controlling terminal, descriptors 0, 1 and 2 and /dev/console."""

    rows: int = 0
    columns: int = 0

    def execute(self, run: Execution) -> None:
        ptmx = root.open_path(run.root, "/dev/pts/ptmx")
        found = os.fstat(ptmx)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(5, 2):
            raise OSError(errno.ENOTTY, "open('/dev/pts/ptmx'): not the pseudo-terminals' device")
        master, slave = tty.open_pty(f"/proc/self/fd/{ptmx}")
        if self.rows and self.columns:
            tty.set_size(master, self.rows, self.columns)
        _bind_console(run, slave)
        run.send_console(master)
        for number in (0, 1, 2):
            os.dup2(slave, number)
        tty.set_controlling(0)
        for descriptor in (ptmx, master, slave):
            os.close(descriptor)

    def describe(self) -> str:
        return f"{self.rows} rows, {self.columns} columns" if self.rows else "default size"

    def shell(self) -> str:
        return ""

    def hint(self, number: int) -> str:
        if number == errno.ELOOP:
            return "/dev/console is a link"
        return "the container has no devpts at /dev/pts" if number == errno.ENOENT else ""


def _bind_console(run: Execution, slave: int) -> None:
    """The terminal that is open, not what its name means by now, onto /dev/console itself, not what that may
    be a link to (CVE-2025-52565)."""
    target = root.make_node(run.root, "/dev/console")
    copy = mounts.open_tree(slave, "", mounts.OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH)
    both = mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH
    mounts.move_mount(copy, "", target, "", both)
    os.close(target)
    os.close(copy)


def _limit(value: int) -> str:
    return "unlimited" if value < 0 else str(value)


def _join(path: str, flag: int, started: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # After the opening: the process that is there now was there then.
        if started and process.process_start_time(int(path.split("/")[2])) != started:
            raise OSError(errno.ESRCH, f"open({path!r}): {os.strerror(errno.ESRCH)}")
        namespaces.setns(descriptor, flag)
    finally:
        os.close(descriptor)
