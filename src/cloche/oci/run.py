"""``cloche-runtime run``: a bundle's container in the foreground, through its plan, without launcher or
monitor."""

from __future__ import annotations

import os
import re
import signal
import sys
from types import FrameType

from cloche.cgroups import layout as layouts
from cloche.cgroups.contract import Layout, Placement
from cloche.errors import Conflict, InvalidArgument
from cloche.kernel import sealed
from cloche.oci import bundle as bundles
from cloche.oci.terminal import Terminal
from cloche.plan import codec
from cloche.plan.execution import Execution, run_host
from cloche.plan.step import StepError
from cloche.plan.steps.mount import BindRoot
from cloche.runtime import resources, seccomp
from cloche.runtime.planner import Inputs, plan
from cloche.runtime.spec import Spec

SECCOMP_CACHE = "/run/cloche-runtime/seccomp"

_ID = re.compile(r"[A-Za-z0-9_+.-]{1,1024}")

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def run(bundle: str, identifier: str, cgroup_parent: str) -> int:
    """Returns the program's exit status, 128+n for its death by signal n; 126 or 127 where it could not be
    started."""
    _seal()
    if not _ID.fullmatch(identifier) or identifier in (".", ".."):
        raise InvalidArgument(f"id {identifier!r}: letters, digits and _ + . - make an id")
    spec = bundles.load(bundle)
    root = bundles.root(bundle, spec)
    layout = layouts.detect()
    placement = _place(layout, spec, cgroup_parent, identifier)
    filter = seccomp.program(spec.linux.seccomp, SECCOMP_CACHE) if spec.linux.seccomp else None
    made = plan(
        spec,
        Inputs(
            id=identifier,
            rootfs=(BindRoot(root, root),),
            rootfs_target=root,
            placement=placement,
            seccomp=filter,
        ),
    )
    if any(os.path.exists(leaf) for leaf in placement.leaves):
        raise Conflict(
            f"container {identifier!r} runs already, or left its cgroup {placement.leaves[0]} behind"
        )
    standard = {name: os.dup(number) for number, name in enumerate(("stdin", "stdout", "stderr"))}
    execution = Execution(standard, codec.encode(made.container))
    # They wait until there is a program to pass them on to: one that ended a start would leave init behind.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    try:
        run_host(made.host, execution)
        return _wait(execution)
    except StepError as error:
        print(f"cloche-runtime: {error}", file=sys.stderr)
        return error.failure.exit_code if error.failure.step == "Exec" else 1
    finally:
        planner = layouts.planner(layout)
        planner.kill(placement.leaves)
        planner.remove(placement.leaves)
        _remove_empty_parents(placement)


def _seal() -> None:
    """Go on in a sealed copy of the interpreter: what init is forked from is /proc/self/exe to the container
    (CVE-2019-5736)."""
    if sealed.running():
        return
    interpreter = sealed.copy_of(os.path.realpath(sys.executable))
    environment = dict(os.environ)
    if directory := sealed.library_directory():
        environment["LD_LIBRARY_PATH"] = directory
    os.execve(f"/proc/self/fd/{interpreter}", [sys.executable, *sys.orig_argv[1:]], environment)


def _place(layout: Layout, spec: Spec, parent: str, identifier: str) -> Placement:
    """``linux.cgroupsPath`` where it is given: absolute is from the hierarchy's root, relative from the
    parent."""
    path = spec.linux.cgroups_path
    if ":" in path:
        raise InvalidArgument(f"linux.cgroupsPath: {path!r} is systemd's form; Cloche takes a path")
    if path:
        parent, _, identifier = (path if path.startswith("/") else f"{parent}/{path}").rpartition("/")
    limits = resources.convert(spec.linux.resources)
    return layouts.planner(layout).place(layout, parent, identifier, limits)


def _remove_empty_parents(placement: Placement) -> None:
    """The parent goes with its last container: nobody else looks after it."""
    for directory in reversed(placement.directories):
        try:
            os.rmdir(directory)
        except OSError:
            pass


def _wait(execution: Execution) -> int:
    """Pass signals on until the program ends."""
    init = execution.init_pid

    def forward(number: int, _: FrameType | None) -> None:
        os.kill(init, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    master = execution.descriptors.get("console")
    if master is not None:
        with Terminal(master) as terminal:
            terminal.relay()
    os.waitid(os.P_PID, init, os.WEXITED | os.WNOWAIT)
    # Once it is reaped its number may be anybody's.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    _, status = os.waitpid(init, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
