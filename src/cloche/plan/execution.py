"""Running a plan: one side's state, the host part, the container part, and what the two say to each other.

The host part runs in the monitor, the container part in init, which the host part's ``Clone`` forks; they
run concurrently. Between them is a SOCK_SEQPACKET pair, closed on exec. Host to init: ``e`` and an event's
name. Init to host: ``c`` with the console's master beside it, ``t`` and the times before ``Exec``, ``f`` and
a ``StepFailure``. End of file after ``t`` means that the program's exec succeeded."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import errno
import gc
import os
import struct
from collections.abc import Callable
from time import monotonic_ns
from typing import NoReturn

import msgspec

from cloche.kernel import files, namespaces, process
from cloche.plan import codec
from cloche.plan.step import Step, StepError, StepFailure, StepTime, Trace

_MESSAGE_SIZE = 128 * 1024
_CLOEXEC_SEQPACKET = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
_KILLED = {
    _signal.SIGKILL: "the memory limit may be too small to start a process",
    _signal.SIGSYS: "the seccomp profile kills what a start needs, for one execve",
}
_times_decoder = msgspec.msgpack.Decoder(tuple[StepTime, ...])
_failure_decoder = msgspec.msgpack.Decoder(StepFailure)


class Execution:
    """The mutable state of one side of a running plan; steps read and fill it."""

    __slots__ = (
        "channel",
        "container",
        "descriptors",
        "empty",
        "environment",
        "events",
        "gid",
        "groups",
        "home",
        "init_pid",
        "null",
        "root",
        "uid",
        "undo",
    )

    def __init__(self, descriptors: dict[str, int], container: bytes | msgspec.Raw = b"") -> None:
        self.descriptors = descriptors
        """``stdin``, ``stdout``, ``stderr`` for init, all above 2. After a plan with ``OpenTerminal``
        ``console`` is the pty's master."""
        self.container = container
        """The container part as ``codec.encode`` made it."""
        self.init_pid = 0
        """Host side: 0 before ``Clone``."""
        self.channel: _socket.socket | None = None
        self.undo: list[Callable[[], None]] = []
        """Host side: how to take back what was made, in the order of making."""
        self.events: set[str] = set()
        """Container side: what the host side has signalled."""
        self.root = -1
        """Container side: descriptor of the container's root directory."""
        self.null = -1
        """Container side: descriptor of the container's verified /dev/null, for ``MaskPath``."""
        self.empty = -1
        """Container side: descriptor of an empty read-only file system, for ``MaskPath``."""
        self.uid = 0
        self.gid = 0
        self.groups: tuple[int, ...] = ()
        self.home = ""
        """From ``ResolveUser``."""

    def fork(self, flags: int, cgroup: int = -1) -> None:
        """Host side: fork init into new namespaces, with a channel to it. In the child this is
        ``run_container`` and does not return."""
        self.channel, other = _socket.socketpair(_socket.AF_UNIX, _CLOEXEC_SEQPACKET)
        try:
            pid = namespaces.clone3(flags, cgroup)
            if pid == 0:
                self.channel = other
                run_container(self)
            self.init_pid = pid
        finally:
            other.close()

    def send(self, message: bytes) -> None:
        # write(2), not send(2): the strictest seccomp profile still allows it.
        assert self.channel is not None
        os.write(self.channel.fileno(), message)

    def send_console(self, master: int) -> None:
        assert self.channel is not None
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", master))
        self.channel.sendmsg((b"c",), (rights,))

    def wait_for(self, event: str) -> None:
        """Container side: until the host side has signalled ``event``. Exits if the host side has gone."""
        assert self.channel is not None
        while event not in self.events:
            message = self.channel.recv(_MESSAGE_SIZE)
            if not message:
                os._exit(1)
            self.events.add(message[1:].decode())


def run_host(steps: tuple[Step, ...], run: Execution) -> Trace:
    """Run the host part and, where it has a ``Clone``, see init through its exec.

    Returns with ``run.init_pid`` set, the caller being its parent. Raises ``StepError`` when a step of
    either side fails; then everything is undone: init is killed and reaped, cgroups and links that were made
    are removed."""
    times: list[StepTime] = []
    try:
        for index, step in enumerate(steps):
            begin = monotonic_ns()
            try:
                step.execute(run)
            except Exception as error:
                # A step that fails because init is gone is not the cause.
                _raise_queued_failure(run)
                raise StepError(_failure("host", index, step, error)) from error
            times.append(StepTime(begin, monotonic_ns() - begin))
        inner = _await_exec(run) if run.init_pid else ()
    except BaseException:
        undo(run)
        raise
    return Trace(tuple(times), inner)


def undo(run: Execution) -> None:
    """Take back all that the host part made: init first, then links and cgroups, newest first."""
    if run.channel is not None:
        run.channel.close()
        run.channel = None
    if run.init_pid:
        os.kill(run.init_pid, _signal.SIGKILL)
        os.waitpid(run.init_pid, 0)
        run.init_pid = 0
    while run.undo:
        try:
            run.undo.pop()()
        except OSError:
            # The failure that led here is the one to tell; the rest must be taken back all the same.
            pass


def run_container(run: Execution) -> NoReturn:
    """Run the container part in the process that ``Clone`` has forked: ends in the program, or tells the
    host side what failed and exits. Nothing is imported here or below."""
    index, step = -1, None
    try:
        _become_init(run)
        steps = codec.decode(run.container)
        last = len(steps) - 1
        times: list[StepTime] = []
        for index, step in enumerate(steps):
            begin = monotonic_ns()
            if index == last:
                times.append(StepTime(begin, 0))
                run.send(b"t" + msgspec.msgpack.encode(times))
            step.execute(run)
            times.append(StepTime(begin, monotonic_ns() - begin))
        os._exit(0)
    except BaseException as error:
        _report(run, _failure("container", index, step, error))
    finally:
        os._exit(1)


def _become_init(run: Execution) -> None:
    gc.disable()
    # Before any namespace is joined: nobody in there may look at the host's interpreter (CVE-2019-5736).
    process.set_dumpable(False)
    os.setsid()
    os.umask(0)
    standard = [run.descriptors.get(name, -1) for name in ("stdin", "stdout", "stderr")]
    for number, descriptor in enumerate(standard):
        if descriptor >= 0:
            os.dup2(descriptor, number)
    # What the host side holds is none of init's business, and no way back to the host (CVE-2024-21626).
    channel = run.channel.fileno() if run.channel is not None else 2
    if channel > 3:
        files.close_range(3, channel - 1)
    files.close_range(channel + 1)


def _report(run: Execution, failure: StepFailure) -> None:
    try:
        run.send(b"f" + msgspec.msgpack.encode(failure))
    except OSError:
        pass


def _failure(side: str, index: int, step: Step | None, error: BaseException) -> StepFailure:
    number = error.errno or 0 if isinstance(error, OSError) else 0
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.strerror}: {error.filename!r}" if error.filename else error.strerror
    if step is None:
        return StepFailure(side, index, "", "", number, _text(message, 4096), "", "")
    return StepFailure(
        side=side,
        index=index,
        step=type(step).__name__,
        arguments=_text(step.describe(), 4096),
        errno=number,
        message=_text(message, 4096),
        shell=_text(step.shell(), 16384),
        hint=_text(step.hint(number), 4096),
    )


def _text(text: str, limit: int) -> str:
    """What msgpack takes: an image's file may have bytes in it that are no text."""
    return text[:limit].encode(errors="replace").decode()


def _await_exec(run: Execution) -> tuple[StepTime, ...]:
    assert run.channel is not None
    times: tuple[StepTime, ...] | None = None
    while True:
        message, ancillary, _, _ = run.channel.recvmsg(_MESSAGE_SIZE, 64, _socket.MSG_CMSG_CLOEXEC)
        kind, body = message[:1], message[1:]
        if kind == b"t":
            times = _times_decoder.decode(body)
        elif kind == b"c":
            run.descriptors["console"] = struct.unpack("i", ancillary[0][2][:4])[0]
        elif kind == b"f":
            raise StepError(_failure_decoder.decode(body))
        elif times is None:
            raise StepError(_killed(run))
        else:
            break
    run.channel.close()
    run.channel = None
    end = times[-1]
    return times[:-1] + (StepTime(end.begin, monotonic_ns() - end.begin),)


def _raise_queued_failure(run: Execution) -> None:
    """Raise what init has reported by now, if anything."""
    while run.channel is not None:
        try:
            message = run.channel.recv(_MESSAGE_SIZE, _socket.MSG_DONTWAIT)
        except OSError:
            return
        if message[:1] == b"f":
            raise StepError(_failure_decoder.decode(message[1:]))
        if not message:
            return


def _killed(run: Execution) -> StepFailure:
    _, status = os.waitpid(run.init_pid, 0)
    run.init_pid = 0
    code = os.waitstatus_to_exitcode(status)
    how = f"signal {-code}" if code < 0 else f"exit status {code}"
    message = f"init ended before the program was started: {how}"
    hint = _KILLED.get(-code, "")
    return StepFailure("container", -1, "", "", errno.ECHILD, message, "", hint)
