"""A container of one's own: a busybox root in a temporary directory, and steps run in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from cloche.plan import codec, execution
from cloche.plan.step import Step, Trace
from cloche.plan.steps import (
    BindRoot,
    Clone,
    Exec,
    MakeDevice,
    MakePrivate,
    MountFilesystem,
    PivotRoot,
)

BUSYBOX = Path("/bin/busybox")
_PROGRAMS = "cat env grep hostname ip ls mkdir readlink sh sleep stat stty true"
NAMESPACES = ("pid", "mount", "uts", "ipc", "network")
PROC = MountFilesystem("proc", "proc", "/proc", ("nosuid", "nodev", "noexec"))
DEV = MountFilesystem("tmpfs", "tmpfs", "/dev", ("nosuid",), ("mode=755",))
DEVPTS = MountFilesystem(
    "devpts", "devpts", "/dev/pts", ("nosuid", "noexec"), ("newinstance", "ptmxmode=0666", "mode=0620")
)
NULL = MakeDevice("/dev/null", "c", 1, 3)


class Result(NamedTuple):
    code: int
    output: str
    trace: Trace
    console: int


class Box:
    """The root is ``root`` on the host; ``enter`` makes it the container's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        (self.root / "bin").mkdir(parents=True)
        shutil.copy(BUSYBOX, self.root / "bin" / "busybox")
        for name in _PROGRAMS.split():
            (self.root / "bin" / name).symlink_to("busybox")

    def enter(self) -> tuple[Step, ...]:
        return MakePrivate(), BindRoot(str(self.root), str(self.root))

    def pivot(self) -> Step:
        return PivotRoot(str(self.root))

    def run(
        self,
        *steps: Step,
        script: str = "",
        argv: tuple[str, ...] = (),
        environment: tuple[str, ...] = ("PATH=/bin",),
        host: tuple[Step, ...] | None = None,
        inside: tuple[Step, ...] = (),
        descriptors: dict[str, int] | None = None,
    ) -> Result:
        """Enter the root, run ``steps`` before ``PivotRoot`` and ``inside`` after it, then the program; its
        output and exit code. Raises ``StepError``."""
        container = (*self.enter(), *steps, self.pivot(), *inside)
        return run(
            (*container, Exec(argv or ("sh", "-c", script), environment)),
            host or (Clone(NAMESPACES),),
            descriptors,
        )


def run(
    container: tuple[Step, ...],
    host: tuple[Step, ...] = (Clone(NAMESPACES),),
    descriptors: dict[str, int] | None = None,
) -> Result:
    reader, writer = os.pipe()
    empty, end = os.pipe()
    os.close(end)
    standard = {"stdin": empty, "stdout": writer, "stderr": writer}
    side = execution.Execution(standard | (descriptors or {}), codec.encode(container))
    try:
        trace = execution.run_host(host, side)
    finally:
        os.close(writer)
        os.close(empty)
        if not side.init_pid:
            os.close(reader)
    with os.fdopen(reader, "rb") as pipe:
        output = pipe.read().decode(errors="replace")
    _, status = os.waitpid(side.init_pid, 0)
    return Result(os.waitstatus_to_exitcode(status), output, trace, side.descriptors.get("console", -1))
