"""Container side, last before the program: who it is and what it may."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import os
import stat
from typing import TYPE_CHECKING

from cloche.kernel import capabilities, files, process, seccomp
from cloche.kernel.syscall import NUMBERS
from cloche.plan import program, root
from cloche.plan import user as users
from cloche.plan.step import Step, inside, quote

if TYPE_CHECKING:
    from cloche.plan.execution import Execution

_SETPCAP = 1 << capabilities.number("CAP_SETPCAP")


class ResolveUser(Step, frozen=True):
    """After ``PivotRoot``: look Docker's USER up in the container's own /etc/passwd and /etc/group. What is
    found is used by the ``SetIds`` that follows, and HOME is set for ``Exec`` where the environment has
    none."""

    user: str
    """``""`` (root), ``name``, ``uid``, ``name:group``, ``uid:gid``."""
    groups: tuple[str, ...] = ()
    """More groups (``--group-add``), names or numbers."""

    def execute(self, run: Execution) -> None:
        passwd, group = root.read(run.root, "/etc/passwd"), root.read(run.root, "/etc/group")
        run.uid, run.gid, run.groups, run.home = users.look_up(self.user, self.groups, passwd, group)

    def describe(self) -> str:
        more = f", groups {' '.join(self.groups)}" if self.groups else ""
        return f"{self.user or 'root'}{more}"

    def shell(self) -> str:
        return " ".join(["resolve_user", quote(self.user), *(quote(group) for group in self.groups)])


class SetIds(Step, frozen=True):
    """setgroups, setresgid, setresuid; the permitted capabilities stay for ``SetCapabilities``. Without
    numbers it uses what ``ResolveUser`` found. ``ChangeDirectory`` and a ``LoadSeccomp`` that needs
    CAP_SYS_ADMIN come before it."""

    uid: int = -1
    gid: int = -1
    groups: tuple[int, ...] = ()

    def execute(self, run: Execution) -> None:
        uid, gid, groups = self.uid, self.gid, self.groups
        if uid < 0:
            uid, gid, groups = run.uid, run.gid, run.groups
        if uid:
            _own_standard_streams(uid)
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        process.set_keepcaps(True)
        os.setresuid(uid, uid, uid)
        # The kernel has set it to fs.suid_dumpable with the change of ids: until exec this process still is
        # the host's interpreter, and now of a user whose processes in a joined namespace could look in.
        process.set_dumpable(False)

    def describe(self) -> str:
        if self.uid < 0:
            return "as resolved"
        return f"uid {self.uid}, gid {self.gid}, groups {' '.join(map(str, self.groups)) or 'none'}"

    def shell(self) -> str:
        if self.uid < 0:
            return 'setpriv --reuid="$uid" --regid="$gid" "$groups"'
        groups = f"--groups={','.join(map(str, self.groups))}" if self.groups else "--clear-groups"
        return f"setpriv --reuid={self.uid} --regid={self.gid} {groups}"

    def hint(self, number: int) -> str:
        return "the user namespace does not map this id" if number == errno.EINVAL else ""


class SetCapabilities(Step, frozen=True):
    """Cut the bounding set and set the process' capability sets, after ``SetIds`` (which keeps what is
    permitted for this).

    For a user that is not root, Docker's sets leave the program without any: a capability survives exec only
    as ambient. Each set is cut to what the engine itself may have: ``--privileged`` in a machine whose own
    bounding set lacks some is all that there is, not a failure."""

    bounding: tuple[str, ...]
    """``CAP_...`` names."""
    effective: tuple[str, ...]
    permitted: tuple[str, ...]
    inheritable: tuple[str, ...]
    ambient: tuple[str, ...]

    def execute(self, run: Execution) -> None:
        keep = capabilities.mask(self.bounding)
        now = capabilities.capget()
        if not now.effective & _SETPCAP:
            capabilities.capset(now.permitted, now.permitted, now.inheritable)
        # All that this kernel has, also what is younger than our list of names.
        for number in range(64):
            if not keep >> number & 1 and not _drop(number):
                break
        capabilities.capset(
            capabilities.mask(self.effective) & now.permitted,
            capabilities.mask(self.permitted) & now.permitted,
            capabilities.mask(self.inheritable) & now.permitted,
        )
        for name in self.ambient:
            if now.permitted >> capabilities.number(name) & 1:
                process.ambient_raise(capabilities.number(name))

    def describe(self) -> str:
        names = " ".join(name.removeprefix("CAP_").lower() for name in self.bounding) or "none"
        return f"{names}{f'; ambient {len(self.ambient)}' if self.ambient else ''}"

    def shell(self) -> str:
        return (
            f"setpriv --bounding-set={_setpriv(self.bounding)} --inh-caps={_setpriv(self.inheritable)}"
            f" --ambient-caps={_setpriv(self.ambient)}"
        )

    def hint(self, number: int) -> str:
        return (
            "a capability was asked for that the engine itself does not have"
            if number == errno.EPERM
            else ""
        )


class NoNewPrivileges(Step, frozen=True):
    """prctl(PR_SET_NO_NEW_PRIVS)."""

    def execute(self, run: Execution) -> None:
        process.set_no_new_privs()

    def describe(self) -> str:
        return "setuid bits and file capabilities give nothing from here on"

    def shell(self) -> str:
        return "setpriv --no-new-privs"


class LoadSeccomp(Step, frozen=True):
    """Install a BPF filter. Without ``NoNewPrivileges`` before it this needs CAP_SYS_ADMIN, hence comes
    before ``SetIds``."""

    program: bytes
    """``struct sock_filter`` instructions, 8 bytes each."""
    digest: str = ""
    """Of the profile it was compiled from."""
    rules: int = 0
    """How many of the profile's rules apply here."""
    flags: int = 0
    """SECCOMP_FILTER_FLAG_*."""

    def execute(self, run: Execution) -> None:
        seccomp.load_filter(self.program, self.flags)

    def describe(self) -> str:
        rules = f", {self.rules} rules" if self.rules else ""
        return (
            f"{len(self.program) // 8} instructions{rules}{f', {self.digest[:19]}' if self.digest else ''}"
        )

    def shell(self) -> str:
        return f"perl -e {quote(self.perl())}"

    def perl(self) -> str:
        """A perl program that installs the filter and executes its arguments; no other command of a small
        system loads one (setpriv does from util-linux 2.41 on)."""
        size, call = len(self.program) // 8, NUMBERS["seccomp"]
        return (
            f'my $f = pack("H*", "{self.program.hex()}");'
            f' my $p = pack("S x![P] P", {size}, $f);'
            f" syscall({call}, {seccomp.SECCOMP_SET_MODE_FILTER}, {self.flags}, $p) == 0"
            ' or die "seccomp: $!\\n"; exec { $ARGV[0] } @ARGV or die "$ARGV[0]: $!\\n";'
        )

    def hint(self, number: int) -> str:
        if number == errno.EACCES:
            return "without no-new-privileges a filter needs CAP_SYS_ADMIN"
        return (
            "the kernel refuses the filter, or is built without CONFIG_SECCOMP_FILTER"
            if number == errno.EINVAL
            else ""
        )


class ChangeDirectory(Step, frozen=True):
    """chdir in the container, made where missing (as Docker does for WorkingDir), and verified to be inside
    its root (CVE-2024-21626)."""

    path: str

    def execute(self, run: Execution) -> None:
        try:
            os.chdir(self.path)
        except FileNotFoundError:
            os.close(root.make_directory(run.root, self.path))
            os.chdir(self.path)
        try:
            current = os.getcwd()
        except FileNotFoundError:
            current = ""
        if not current.startswith("/"):
            os.chdir("/")
            raise OSError(
                errno.EXDEV, f"chdir({self.path!r}): current working directory is outside of container root"
            )

    def describe(self) -> str:
        return self.path

    def shell(self) -> str:
        path = inside(self.path)
        return f"[ -d {path} ] || mkdir -p {path}\ncd {path}"

    def script(self) -> str:
        """Only making it: the script's last program goes there."""
        path = inside(self.path)
        return f"[ -d {path} ] || mkdir -p {path}"

    def hint(self, number: int) -> str:
        return "the working directory leads to a file" if number == errno.ENOTDIR else ""


class Exec(Step, frozen=True):
    """Become the program. ``argv[0]`` without a slash is searched in the environment's PATH, inside the
    container."""

    argv: tuple[str, ...]
    environment: tuple[str, ...]
    """``NAME=value`` each."""

    def execute(self, run: Execution) -> None:
        environment = dict(entry.split("=", 1) for entry in self.environment if "=" in entry)
        if run.home and not environment.get("HOME"):
            environment["HOME"] = run.home
        path = program.find(self.argv[0], environment.get("PATH", program.DEFAULT_PATH))
        _restore_defaults()
        try:
            os.execve(path, self.argv, environment)
        except OSError as error:
            text = os.strerror(error.errno or 0).lower()
            raise OSError(error.errno, f"exec {path}: {text}") from None

    def describe(self) -> str:
        return " ".join(quote(word) for word in self.argv)

    def shell(self) -> str:
        environment = " ".join(quote(entry) for entry in self.environment)
        return f"exec env -i {environment} {self.describe()}"

    def hint(self, number: int) -> str:
        if number not in (errno.ENOENT, errno.ENOEXEC, errno.EACCES):
            return ""
        path = dict(entry.split("=", 1) for entry in self.environment if "=" in entry).get("PATH")
        try:
            return program.diagnose(program.find(self.argv[0], path or program.DEFAULT_PATH))
        except OSError:
            return ""


def _own_standard_streams(uid: int) -> None:
    """Let a user that is not root reopen its own pipes and terminal (/dev/stdout); not the shared null
    device, nor a file that somebody has redirected to: that is the host's."""
    for descriptor in (0, 1, 2):
        found = os.fstat(descriptor)
        if found.st_uid != uid and not stat.S_ISREG(found.st_mode) and not root.is_null(descriptor):
            try:
                os.fchown(descriptor, uid, -1)
            except OSError as error:
                # A read-only file system, or a file of a user that this user namespace does not map.
                if error.errno not in (errno.EINVAL, errno.EPERM, errno.EROFS):
                    raise


def _drop(number: int) -> bool:
    """False where this kernel has no capability of that number, and so none above."""
    try:
        process.drop_bounding(number)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def _restore_defaults() -> None:
    """What exec keeps and a program expects to find as after login: signals, umask, no stray descriptors."""
    for number in range(1, _signal.NSIG):
        if _signal.getsignal(number) is _signal.SIG_IGN:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    os.umask(0o022)
    files.close_range(3, flags=files.CLOSE_RANGE_CLOEXEC)


def _setpriv(names: tuple[str, ...]) -> str:
    """A capability set for setpriv(1): all off, then each on."""
    return ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in names)])
