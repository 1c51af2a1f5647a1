"""Compiled filters against the real kernel: each test tries system calls in a forked process."""

import ctypes
import errno
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sandbox import forked

from cloche.errors import InvalidArgument, Unsupported
from cloche.kernel import process
from cloche.kernel import seccomp as kernel
from cloche.runtime import defaults, libseccomp
from cloche.runtime.seccomp import build, program, resolve
from cloche.runtime.spec import Seccomp, SeccompArgument, SeccompSyscall

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="uses x86_64's system call numbers"),
]

CLONE, UNSHARE, PERSONALITY, SOCKET, MOUNT, CLONE3, BPF, KEYCTL = 56, 272, 135, 41, 165, 435, 321, 250
MSEAL, NOT_YET = 462, 9999
X32 = 0x40000000


def under(seccomp: Seccomp, calls: Callable[[], dict[str, int]]) -> dict[str, int]:
    code = build(seccomp)

    def work() -> dict[str, int]:
        process.set_no_new_privs()
        kernel.load_filter(code)
        return calls()

    return forked(work)


libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: int) -> int:
    """0 or the errno."""
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    return ctypes.get_errno() if result < 0 else 0


def test_docker_defaults() -> None:
    def calls() -> dict[str, int]:
        return {
            "getppid": call(110),
            "personality 0": call(PERSONALITY, 0xFFFFFFFF),
            "personality other": call(PERSONALITY, 0x0400000),
            "unshare": call(UNSHARE, 0),
            "mount": call(MOUNT, 0, 0, 0, 0, 0),
            "bpf": call(BPF, 0, 0, 0),
            "keyctl": call(KEYCTL, 0, 0, 0, 0, 0),
            "clone in a new namespace": call(CLONE, 0x10000000, 0, 0, 0, 0),
            "clone3": call(CLONE3, 0, 0),
            "vsock": call(SOCKET, 40, 1, 0),
            "unix": call(SOCKET, 1, 1, 0),
            "later than libseccomp": call(MSEAL, 1, 1, 0),
            "later than everything": call(NOT_YET),
            "x32": call(X32 | 110),
        }

    assert under(resolve(None, defaults.CAPABILITIES), calls) == {
        "getppid": 0,
        "personality 0": 0,
        "personality other": errno.EPERM,
        "unshare": errno.EPERM,
        "mount": errno.EPERM,
        "bpf": errno.EPERM,
        "keyctl": errno.EPERM,
        "clone in a new namespace": errno.EPERM,
        "clone3": errno.ENOSYS,
        "vsock": errno.EPERM,
        "unix": 0,
        "later than libseccomp": errno.EINVAL,
        "later than everything": errno.ENOSYS,
        "x32": errno.ENOSYS,
    }


def test_capabilities_open_what_needs_them() -> None:
    def calls() -> dict[str, int]:
        return {
            "unshare": call(UNSHARE, 0),
            "mount": call(MOUNT, 0, 0, 0, 0, 0),
            "clone3": call(CLONE3, 0, 0),
            "bpf": call(BPF, 9999, 0, 0),
        }

    found = under(resolve(None, (*defaults.CAPABILITIES, "CAP_SYS_ADMIN")), calls)
    assert found == {"unshare": 0, "mount": errno.EFAULT, "clone3": errno.EINVAL, "bpf": errno.EINVAL}


def test_kernel_and_machine_conditions() -> None:
    def named(seccomp: Seccomp) -> set[str]:
        return {name for rule in seccomp.syscalls for name in rule.names}

    assert "ptrace" not in named(resolve(None, (), kernel="4.7.1"))
    assert "ptrace" in named(resolve(None, (), kernel="4.8.0-rc1"))
    assert "arch_prctl" in named(resolve(None, (), machine="x86_64"))
    assert "arch_prctl" not in named(resolve(None, (), machine="aarch64"))
    assert resolve(None, (), machine="aarch64").architectures == ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM")


def test_custom_profile() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"name": "mkdir", "action": "SCMP_ACT_ERRNO", "errnoRet": 99},
            {
                "names": ["chmod", "no_such_call"],
                "action": "SCMP_ACT_ERRNO",
                "includes": {"caps": ["CAP_CHOWN"]},
            },
            {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["chown"], "action": "SCMP_ACT_ERRNO", "excludes": {"arches": ["amd64"]}},
            {"names": ["mseal"], "action": "SCMP_ACT_ERRNO", "errnoRet": 98},
        ],
    }
    resolved = resolve(json.dumps(profile).encode(), ("CAP_CHOWN",))
    assert resolved.architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")

    def calls() -> dict[str, int]:
        return {
            "mkdir": call(83, 0, 0),
            "chmod": call(90, 0, 0),
            "rmdir": call(84, 0),
            "chown": call(92, 0, 0, 0),
            "mseal": call(MSEAL, 0, 0, 0),
            "later": call(NOT_YET),
        }

    assert under(resolved, calls) == {
        "mkdir": 99,
        "chmod": errno.EPERM,
        "rmdir": errno.EFAULT,
        "chown": errno.EFAULT,
        "mseal": 98,
        "later": errno.ENOSYS,  # the kernel's own
    }


def test_calls_of_x32_with_numbers_of_their_own_are_decided_by_the_profile() -> None:
    architectures = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X32")
    usual = {name for rule in resolve(None, ()).syscalls for name in rule.names if not rule.args}
    rules = (
        SeccompSyscall(("execve",), "SCMP_ACT_ERRNO", 77),
        SeccompSyscall(tuple(usual - {"execve"}), "SCMP_ACT_ALLOW"),
    )
    seccomp = Seccomp("SCMP_ACT_ERRNO", architectures=architectures, syscalls=rules)
    calls = under(seccomp, lambda: {"execve": call(X32 | 520, 0, 0, 0), "later": call(X32 | NOT_YET)})
    assert calls == {"execve": 77, "later": errno.ENOSYS}


def test_comparisons_of_one_argument_are_alternatives_and_of_several_a_conjunction() -> None:
    def rule(name: str, *arguments: tuple[int, int]) -> SeccompSyscall:
        comparisons = tuple(SeccompArgument(index, value, "SCMP_CMP_EQ") for index, value in arguments)
        return SeccompSyscall((name,), "SCMP_ACT_ERRNO", 99, comparisons)

    seccomp = Seccomp(
        "SCMP_ACT_ALLOW",
        architectures=("SCMP_ARCH_X86_64",),
        syscalls=(rule("personality", (0, 0xFFFFFFFF), (0, 7)), rule("socket", (0, 1), (1, 2))),
    )

    def calls() -> dict[str, int]:
        return {
            "one": call(PERSONALITY, 0xFFFFFFFF),
            "other": call(PERSONALITY, 7),
            "both": call(SOCKET, 1, 2, 0),
            "half": call(SOCKET, 1, 1, 0),
        }

    assert under(seccomp, calls) == {"one": 99, "other": 99, "both": 99, "half": 0}


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (b"{", "cannot be read"),
        (b'{"defaultAction": 1}', r"`\$\.defaultAction`"),
        (b'{"defaultAction":"SCMP_ACT_X"}', "SCMP_ACT_X"),
        (b'{"defaultAction":"SCMP_ACT_ALLOW","flags":["X"]}', "'X'"),
        (b'{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_Z"]}', "SCMP_ARCH_Z"),
        (
            b'{"defaultAction":"SCMP_ACT_ALLOW","architectures":["A"],"archMap":[{"architecture":"B"}]}',
            "archMap",
        ),
        (
            b'{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_KILL"}]}',
            "'name' and 'names'",
        ),
        (
            b'{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"read","action":"SCMP_ACT_KILL",'
            b'"args":[{"index":9,"value":1,"op":"SCMP_CMP_EQ"}]}]}',
            "index 9",
        ),
        (
            b'{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"read","action":"SCMP_ACT_KILL",'
            b'"args":[{"index":1,"value":1,"op":"="}]}]}',
            "'='",
        ),
    ],
)
def test_broken_profiles(profile: bytes, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        program(resolve(profile, ()), None)


def test_listeners_are_refused() -> None:
    with pytest.raises(Unsupported, match="listener"):
        program(Seccomp("SCMP_ACT_ALLOW", listener_path="/run/x"), None)


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seccomp = resolve(None, defaults.CAPABILITIES)
    cache = tmp_path / "seccomp"
    first = program(seccomp, str(cache))
    assert [entry.name for entry in cache.iterdir()] == [f"{first.digest}.bpf"]

    monkeypatch.setattr("cloche.runtime.seccomp.build", lambda _: pytest.fail("compiled again"))
    begin = time.perf_counter()
    assert program(seccomp, str(cache)) == first
    print(f"cached: {(time.perf_counter() - begin) * 1e6:.0f} us")

    monkeypatch.undo()
    (cache / f"{first.digest}.bpf").write_bytes(first.program[:-3])
    assert program(seccomp, str(cache)) == first

    assert program(resolve(None, ()), None).digest != first.digest
    monkeypatch.setattr(libseccomp, "version", lambda: "9.9.9")
    assert program(seccomp, None).digest != first.digest
