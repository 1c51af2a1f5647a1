"""bpf(2): the device programs that take the place of the devices controller on cgroup v2."""

from __future__ import annotations

import ctypes
import errno
import struct
from ctypes import c_char_p, c_int, c_uint

from cloche.kernel.syscall import bind, failure

BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2

_INSTRUCTION_SIZE = 8
_LICENSE = b"Apache-2.0\0"
_LOG_SIZE = 1 << 16

# prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags, prog_name,
# prog_ifindex, expected_attach_type
_LOAD = struct.Struct("=IIQQIIQII16sII")
# target_fd, attach_bpf_fd, attach_type, attach_flags
_ATTACH = struct.Struct("=IIII")

_bpf = bind("bpf", c_int, c_char_p, c_uint)


def load_device_program(instructions: bytes) -> int:
    """Have the kernel verify and load a BPF_CGROUP_DEVICE program; its descriptor, closed on exec.

    Raises ``OSError`` with the verifier's last words where it refuses the program."""
    count, rest = divmod(len(instructions), _INSTRUCTION_SIZE)
    if rest or not count:
        raise failure(errno.EINVAL, "bpf", "BPF_PROG_LOAD", f"{len(instructions)} bytes")
    program = ctypes.create_string_buffer(instructions, len(instructions))
    text = ctypes.create_string_buffer(_LICENSE)
    log: ctypes.Array[ctypes.c_char] | None = None
    # The verifier's log costs time: asked for only once it has refused.
    for log in (None, ctypes.create_string_buffer(_LOG_SIZE)):
        request = _LOAD.pack(
            BPF_PROG_TYPE_CGROUP_DEVICE,
            count,
            ctypes.addressof(program),
            ctypes.addressof(text),
            1 if log else 0,
            _LOG_SIZE if log else 0,
            ctypes.addressof(log) if log else 0,
            0,
            0,
            b"cloche_devices",
            0,
            BPF_CGROUP_DEVICE,
        )
        descriptor = int(_bpf(BPF_PROG_LOAD, request, len(request)))
        if descriptor >= 0:
            return descriptor
    words = (log.value if log else b"").decode(errors="replace").strip().splitlines()
    raise failure(
        ctypes.get_errno(), "bpf", "BPF_PROG_LOAD", f"{count} instructions", detail="; ".join(words[-3:])
    )


def attach_device_program(cgroup: int, program: int) -> None:
    """Attach to the v2 cgroup of a directory descriptor; the kernel keeps the program until the cgroup
    is removed.

    Access is granted only if every attached program, here and in each parent, grants it."""
    request = _ATTACH.pack(cgroup, program, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI)
    if _bpf(BPF_PROG_ATTACH, request, len(request)) < 0:
        raise failure(ctypes.get_errno(), "bpf", "BPF_PROG_ATTACH", cgroup, program)
