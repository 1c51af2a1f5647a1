"""Device programs on a cgroup v2 of our own."""

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox import forked

from cloche.kernel import bpf, namespaces


def v2_mount() -> str:
    with open("/proc/self/mounts") as table:
        return next((line.split()[1] for line in table if line.split()[2] == "cgroup2"), "")


pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not v2_mount() or not os.access(v2_mount(), os.W_OK),
    reason="needs root and a mounted cgroup v2",
)


def instruction(code: int, destination: int, source: int, offset: int, immediate: int) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | destination, offset, immediate)


EXIT = instruction(0x95, 0, 0, 0, 0)
# r0 = 1 unless the device's major number (at 4 in the context) is 1 and its minor (at 8) is 5: /dev/zero.
NO_ZERO = (
    instruction(0x61, 2, 1, 4, 0)
    + instruction(0x61, 3, 1, 8, 0)
    + instruction(0xB7, 0, 0, 0, 1)
    + instruction(0x55, 2, 0, 2, 1)
    + instruction(0x55, 3, 0, 1, 5)
    + instruction(0xB7, 0, 0, 0, 0)
    + EXIT
)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    path = Path(v2_mount(), f"cloche-test-{os.getpid()}")
    path.mkdir()
    yield path
    path.rmdir()


def test_device_program_refuses_a_device(cgroup: Path) -> None:
    def work() -> tuple[int, bool]:
        directory = os.open(cgroup, os.O_RDONLY)
        bpf.attach_device_program(directory, bpf.load_device_program(NO_ZERO))
        pid = namespaces.clone3(0, cgroup_fd=directory)
        if pid == 0:
            os.close(os.open("/dev/null", os.O_RDONLY))
            try:
                os.close(os.open("/dev/zero", os.O_RDONLY))
            except OSError as error:
                os._exit(error.errno or 0)
            os._exit(0)
        number = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(os.open("/dev/zero", os.O_RDONLY))
        return number, (cgroup / "cgroup.procs").read_text() == ""

    assert forked(work) == (errno.EPERM, True)


def test_the_verifiers_words_are_in_the_error() -> None:
    with pytest.raises(OSError, match=r"BPF_PROG_LOAD.*1 instructions.*R0") as failure:
        bpf.load_device_program(EXIT)
    assert failure.value.errno in (errno.EACCES, errno.EINVAL)
    with pytest.raises(OSError, match="7 bytes"):
        bpf.load_device_program(bytes(7))
