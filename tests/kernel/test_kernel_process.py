"""Namespaces, privileges, filters: each call's effect as the kernel itself reports it."""

import errno
import os
import select
import signal
import socket
import struct
import sys

import pytest
from sandbox import forked

from cloche.kernel import capabilities, files, namespaces, process, seccomp
from cloche.kernel.syscall import bind, check

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="namespaces and capabilities need root")


def status(field: str) -> str:
    with open("/proc/self/status") as file:
        return next(line.split(":")[1].strip() for line in file if line.startswith(f"{field}:"))


def test_a_call_that_is_nowhere_fails_with_enosys() -> None:
    call = bind("no_such_call")
    with pytest.raises(OSError, match=r"no_such_call\(1, 'a', NULL\): Function not implemented"):
        check(call(), "no_such_call", 1, b"a", None)


def test_clone3_forks_into_every_namespace() -> None:
    kinds = ("cgroup", "ipc", "mount", "network", "pid", "uts")

    def look() -> tuple[int, dict[str, str]]:
        names = {kind: os.readlink(f"/proc/self/ns/{namespaces.FILES[kind]}") for kind in kinds}
        return os.getpid(), names

    flags = 0
    for kind in kinds:
        flags |= namespaces.FLAGS[kind]
    pid, inside = forked(look, flags)
    assert pid == 1
    for kind in kinds:
        assert inside[kind] != os.readlink(f"/proc/self/ns/{namespaces.FILES[kind]}"), kind


def test_clone3_refused_says_what_was_asked() -> None:
    # A mount namespace cannot share file system state with the parent.
    with pytest.raises(OSError, match=r"clone3\('0x20200'\): Invalid argument") as failure:
        namespaces.clone3(namespaces.CLONE_NEWNS | 0x200)
    assert failure.value.errno == errno.EINVAL


def test_a_forked_interpreter_still_works() -> None:
    """Locks, garbage collection and a fork of its own: the interpreter's fork hooks ran."""

    def work() -> int:
        import gc
        import threading

        gc.collect()
        done = threading.Event()
        thread = threading.Thread(target=done.set)
        thread.start()
        thread.join()
        child = os.fork()
        if child == 0:
            os._exit(7 if done.is_set() else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert forked(work, namespaces.CLONE_NEWPID) == 7


def test_join_a_namespace_by_file_and_by_pidfd() -> None:
    parent, child = socket.socketpair()
    with parent, child:
        pid = namespaces.clone3(namespaces.CLONE_NEWUTS)
        if pid == 0:
            namespaces.sethostname("inside")
            namespaces.setdomainname("example.org")
            child.send(b".")
            child.recv(1)
            os._exit(0)
        try:
            parent.recv(1)

            def by_file() -> str:
                with open(namespaces.path(pid, "uts"), "rb") as file:
                    namespaces.setns(file.fileno(), namespaces.CLONE_NEWUTS)
                with open("/proc/sys/kernel/domainname") as file2:
                    return f"{os.uname().nodename} {file2.read().strip()}"

            def by_pidfd() -> str:
                namespaces.setns(process.pidfd_open(pid), namespaces.CLONE_NEWUTS)
                return os.uname().nodename

            assert forked(by_file) == "inside example.org"
            assert forked(by_pidfd) == "inside"
            assert os.uname().nodename != "inside"
        finally:
            parent.send(b".")
            os.waitpid(pid, 0)


def test_setns_of_a_file_that_is_no_namespace() -> None:
    with open("/dev/null") as file, pytest.raises(OSError, match=r"setns\(\d+, '0x0'\): Invalid argument"):
        namespaces.setns(file.fileno())


def test_capabilities_can_be_given_up_for_good() -> None:
    kept = capabilities.mask(("CAP_CHOWN", "CAP_NET_RAW", "CAP_CHECKPOINT_RESTORE", "CAP_SETPCAP"))

    def work() -> tuple[capabilities.Sets, str, str]:
        for number in range(len(capabilities.NAMES)):
            if not kept >> number & 1:
                process.drop_bounding(number)
        capabilities.capset(kept, kept, capabilities.mask(("CAP_CHOWN",)))
        process.ambient_raise(capabilities.number("CAP_CHOWN"))
        return capabilities.capget(), status("CapBnd"), status("CapAmb")

    sets, bounding, ambient = forked(work)
    assert sets == (kept, kept, 1)
    assert int(bounding, 16) == kept
    assert int(ambient, 16) == 1

    def raise_what_is_not_permitted() -> int:
        capabilities.capset(0, 0, 0)
        try:
            capabilities.capset(1, 1, 0)
        except PermissionError as error:
            return error.errno or 0
        return 0

    assert forked(raise_what_is_not_permitted) == errno.EPERM


def test_capability_names_are_this_kernels() -> None:
    assert capabilities.number("CAP_SYS_ADMIN") == 21
    with open("/proc/sys/kernel/cap_last_cap") as last:
        assert len(capabilities.NAMES) <= int(last.read()) + 1
    assert capabilities.names(capabilities.mask(("CAP_KILL", "CAP_CHOWN"))) == ("CAP_CHOWN", "CAP_KILL")
    with pytest.raises(OSError, match="PR_CAPBSET_DROP"):
        process.drop_bounding(63)


def test_process_attributes() -> None:
    def work() -> tuple[object, ...]:
        process.set_name(b"cloche-test")
        process.set_no_new_privs()
        process.set_keepcaps(True)
        with open("/proc/self/comm") as file:
            name = file.read().strip()
        os.setuid(1000)
        kept = capabilities.capget().permitted != 0
        process.set_dumpable(True)
        owners = [os.stat("/proc/self/environ").st_uid]
        process.set_dumpable(False)
        owners.append(os.stat("/proc/self/environ").st_uid)
        return name, kept, status("NoNewPrivs"), owners

    # The files of who may not be looked into belong to root.
    assert forked(work) == ("cloche-test", True, "1", [1000, 0])


def test_orphans_come_to_the_subreaper() -> None:
    def work() -> bool:
        process.set_child_subreaper(True)
        reader, writer = os.pipe()
        middle = os.fork()
        if middle == 0:
            orphan = os.fork()
            if orphan:
                os.write(writer, str(orphan).encode())
            os._exit(0)
        os.waitpid(middle, 0)
        return os.waitpid(-1, 0)[0] == int(os.read(reader, 20))

    assert forked(work)


def test_pidfd_names_one_process() -> None:
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    descriptor = process.pidfd_open(pid)
    try:
        assert process.process_start_time(pid) >= process.process_start_time(os.getpid())
        process.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], 5)[0]
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            process.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)
    with pytest.raises(OSError):
        process.process_start_time(pid)


def test_start_time_of_a_process_with_a_hostile_name() -> None:
    def work() -> tuple[int, int]:
        before = process.process_start_time(os.getpid())
        process.set_name(b"a) R 1 (b) 2 3")
        return before, process.process_start_time(os.getpid())

    before, after = forked(work)
    assert before == after > 0


def test_session_keyring_is_a_new_one() -> None:
    def work() -> tuple[int, bool]:
        serial = process.set_session_keyring("cloche-test-keyring")
        with open("/proc/keys") as keys:
            return serial, any(f"{serial:08x}" in line and "cloche-test-keyring" in line for line in keys)

    serial, listed = forked(work)
    assert serial > 0
    assert listed


def test_seccomp_filter_takes_effect() -> None:
    """Classic BPF by hand: mkdir and mkdirat fail with EDOM, all else is allowed."""
    x86 = os.uname().machine == "x86_64"
    numbers = (83, 258) if x86 else (34, 34)

    def instruction(code: int, jt: int, jf: int, k: int) -> bytes:
        return struct.pack("=HBBI", code, jt, jf, k)

    program = (
        instruction(0x20, 0, 0, 0)
        + instruction(0x15, 2, 0, numbers[0])
        + instruction(0x15, 1, 0, numbers[1])
        + instruction(0x06, 0, 0, 0x7FFF0000)
        + instruction(0x06, 0, 0, 0x00050000 | errno.EDOM)
    )

    def work() -> tuple[int, str]:
        process.set_no_new_privs()
        seccomp.load_filter(program)
        try:
            os.mkdir("/tmp/never-made")
        except OSError as error:
            return error.errno or 0, status("Seccomp")
        return 0, status("Seccomp")

    assert forked(work) == (errno.EDOM, "2")


@pytest.mark.parametrize("program", [b"", b"1234567", bytes(8)])
def test_seccomp_refuses_a_broken_program(program: bytes) -> None:
    def work() -> tuple[int, str]:
        process.set_no_new_privs()
        try:
            seccomp.load_filter(program)
        except OSError as error:
            return error.errno or 0, str(error)
        return 0, ""

    number, text = forked(work)
    assert number == errno.EINVAL
    assert "SECCOMP_SET_MODE_FILTER" in text


def test_close_range_spares_what_is_below() -> None:
    def work() -> tuple[bool, bool]:
        low = os.open("/dev/null", os.O_RDONLY)
        high = os.dup2(low, 200)
        files.close_range(150, 250)
        alive = []
        for descriptor in (low, high):
            try:
                os.fstat(descriptor)
                alive.append(True)
            except OSError:
                alive.append(False)
        return alive[0], alive[1]

    assert forked(work) == (True, False)


def test_sealed_memfd_cannot_be_written() -> None:
    descriptor = os.memfd_create("cloche-test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(descriptor, b"text")
        files.memfd_seal(descriptor)
        for attempt in (lambda: os.write(descriptor, b"more"), lambda: os.ftruncate(descriptor, 0)):
            with pytest.raises(PermissionError):
                attempt()
        assert os.pread(descriptor, 10, 0) == b"text"
    finally:
        os.close(descriptor)


def test_import_is_small() -> None:
    """The launcher imports all of this, and every monitor carries it."""
    heavy = {
        "asyncio",
        "subprocess",
        "logging",
        "json",
        "pathlib",
        "dataclasses",
        "socket",
        "inspect",
        "ipaddress",
    }
    code = (
        "import sys; sys.path[:0] = sys.argv[1].split(':');"
        "from cloche.kernel import (bpf, capabilities, files, inotify, mounts, namespaces, netlink,"
        " nftables, process, seccomp, syscall, tty); print(*sys.modules)"
    )
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code, ":".join(filter(None, sys.path))])
    os.close(writer)
    with os.fdopen(reader) as pipe:
        modules = set(pipe.read().split())
    os.waitpid(pid, 0)
    assert "cloche.kernel.tty" in modules
    assert not modules & heavy
