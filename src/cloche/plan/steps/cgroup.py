"""Host side: cgroups, the OOM score and the program that guards devices on v2."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from time import sleep
from typing import TYPE_CHECKING

from cloche.kernel import bpf
from cloche.plan.step import Step, quote

if TYPE_CHECKING:
    from cloche.plan.execution import Execution


class MakeCgroups(Step, frozen=True):
    """Make cgroup directories. Undone by removing those that are nobody's parent in the list (the
    container's own)."""

    directories: tuple[str, ...]
    """Parents first; one that exists is used as it is."""
    cpusets: tuple[str, ...] = ()
    """v1: those of ``directories`` that lie in the cpuset hierarchy. Where ``cpuset.cpus`` or
    ``cpuset.mems`` is empty the parent's value is copied: a process cannot be attached to an empty
    cpuset."""

    def execute(self, run: Execution) -> None:
        for directory in self.directories:
            try:
                os.mkdir(directory, 0o755)
            except FileExistsError:
                continue
            if not any(other.startswith(directory + "/") for other in self.directories):
                run.undo.append(_removal(directory))
        for directory in self.cpusets:
            for name in ("cpuset.cpus", "cpuset.mems"):
                if not read_file(f"{directory}/{name}").strip():
                    value = read_file(f"{os.path.dirname(directory)}/{name}")
                    write_file(f"{directory}/{name}", value)

    def describe(self) -> str:
        return _first(self.directories[-1:] + self.directories[:-1])

    def shell(self) -> str:
        lines = []
        for directory in self.directories:
            leaf = not any(other.startswith(directory + "/") for other in self.directories)
            lines.append(f"{'make_cgroup' if leaf else 'mkdir -p'} {quote(directory)}")
        for directory in self.cpusets:
            for name in ("cpuset.cpus", "cpuset.mems"):
                own, parent = quote(f"{directory}/{name}"), quote(f"{os.path.dirname(directory)}/{name}")
                lines.append(f'[ -n "$(cat {own})" ] || cat {parent} > {own}')
        return "\n".join(lines)

    def hint(self, number: int) -> str:
        if number == errno.EROFS:
            return "the cgroup file system is mounted read-only"
        return (
            "the parent cgroup must exist and be ours to write"
            if number in (errno.ENOENT, errno.EACCES)
            else ""
        )


class WriteCgroup(Step, frozen=True):
    """Write one cgroup file."""

    path: str
    value: str
    tolerate: tuple[int, ...] = ()
    """Errnos that do not matter here."""

    def execute(self, run: Execution) -> None:
        try:
            write_file(self.path, self.value.encode())
        except OSError as error:
            if error.errno not in self.tolerate:
                raise

    def describe(self) -> str:
        return f"{self.path} = {self.value}"

    def shell(self) -> str:
        line = f"echo {quote(self.value)} > {quote(self.path)}"
        return f"{{ {line}; }} 2>/dev/null || true" if self.tolerate else line

    def hint(self, number: int) -> str:
        if number in (errno.ENOENT, errno.EACCES):
            return "this kernel does not offer that limit here (controller not enabled, or built without it)"
        if number == errno.EBUSY:
            return "the cgroup's present use is above the limit"
        return "the kernel refuses this value" if number in (errno.EINVAL, errno.ERANGE) else ""


class AttachDeviceProgram(Step, frozen=True):
    """v2: load an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE and attach it to the leaf."""

    leaf: str
    program: bytes

    def execute(self, run: Execution) -> None:
        program = bpf.load_device_program(self.program)
        try:
            directory = os.open(self.leaf, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                bpf.attach_device_program(directory, program)
            finally:
                os.close(directory)
        finally:
            os.close(program)

    def describe(self) -> str:
        return f"{self.leaf}: {len(self.program) // 8} instructions"

    def shell(self) -> str:
        return f"# No command loads a device program: {quote(self.leaf)} is left without one."

    def hint(self, number: int) -> str:
        return "the kernel needs CONFIG_CGROUP_BPF" if number in (errno.EINVAL, errno.ENOSYS) else ""


class AttachCgroups(Step, frozen=True):
    """Move init into its cgroups (``cgroup.procs`` of each leaf), all together: the kernel waits for one RCU
    grace period."""

    leaves: tuple[str, ...]

    def execute(self, run: Execution) -> None:
        pid = str(run.init_pid).encode()
        for leaf in self.leaves:
            write_file(f"{leaf}/cgroup.procs", pid)

    def describe(self) -> str:
        return _first(self.leaves)

    def shell(self) -> str:
        return "\n".join(f'echo "$init" > {quote(leaf + "/cgroup.procs")}' for leaf in self.leaves)

    def hint(self, number: int) -> str:
        if number == errno.ENOSPC:
            return "the cpuset has no cpus or no memory nodes"
        return (
            "a v2 cgroup with controllers for its children takes no process" if number == errno.EBUSY else ""
        )


class SetOomScore(Step, frozen=True):
    """Set init's ``oom_score_adj``, which its children inherit."""

    value: int

    def execute(self, run: Execution) -> None:
        write_file(f"/proc/{run.init_pid}/oom_score_adj", str(self.value).encode())

    def describe(self) -> str:
        return str(self.value)

    def shell(self) -> str:
        return f'echo {self.value} > "/proc/$init/oom_score_adj"'


def _first(paths: tuple[str, ...]) -> str:
    return f"{paths[0]} and {len(paths) - 1} more" if len(paths) > 1 else " ".join(paths)


def _removal(directory: str) -> Callable[[], None]:
    return lambda: remove_cgroup(directory)


def write_file(path: str, data: bytes) -> None:
    """One write(2) of one control file; the error names the file and the value."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
    except OSError as error:
        shown = data.decode(errors="replace").strip()
        raise OSError(error.errno, f"write({path!r}, {shown!r}): {error.strerror}") from None


def read_file(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 65536)
    finally:
        os.close(descriptor)


def remove_cgroup(directory: str) -> None:
    """rmdir, waiting a bounded time for the last process that was in it to be gone."""
    for attempt in range(50):
        try:
            os.rmdir(directory)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or attempt == 49:
                raise
            sleep(0.002)
