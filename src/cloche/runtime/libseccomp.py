"""libseccomp by ctypes: the dozen functions that turn rules into BPF (seccomp_rule_add(3) and friends)."""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import POINTER, c_char_p, c_int, c_uint, c_uint32, c_uint64, c_void_p
from functools import cache

from cloche.errors import InvalidArgument, Unavailable

_CTL_OPTIMIZE, _BINARY_TREE = 8, 2
"""``SCMP_FLTATR_CTL_OPTIMIZE``."""

_UNKNOWN = -1
"""``__NR_SCMP_ERROR``."""


class Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = [("arg", c_uint), ("op", c_int), ("datum_a", c_uint64), ("datum_b", c_uint64)]


class _Version(ctypes.Structure):
    _fields_ = [("major", c_uint), ("minor", c_uint), ("micro", c_uint)]


class Builder:
    """A filter in the making. Use as a context manager."""

    def __init__(self, default_action: int) -> None:
        self._library = _library()
        self._context: int | None = self._library.seccomp_init(default_action)
        if not self._context:
            raise InvalidArgument(f"seccomp: libseccomp refuses the default action {default_action:#x}")
        # The kernel tries every system call when it loads a filter: a tree halves that (0.8 ms for 1.5). An
        # older libseccomp refuses this, and then makes the same decisions one after the other.
        self._library.seccomp_attr_set(self._context, _CTL_OPTIMIZE, _BINARY_TREE)

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.seccomp_release(self._context)
        self._context = None

    def add_architecture(self, token: int) -> None:
        result = self._library.seccomp_arch_add(self._context, token)
        if result not in (0, -errno.EEXIST):
            raise InvalidArgument(f"seccomp: architecture {token:#x}: {os.strerror(-result)}")

    def add_rule(self, action: int, name: str, number: int, comparisons: list[Comparison]) -> None:
        """``number`` from ``syscall_number``. Raises ``InvalidArgument`` for what libseccomp refuses."""
        array = (Comparison * len(comparisons))(*comparisons)
        result = self._library.seccomp_rule_add_array(self._context, action, number, len(comparisons), array)
        if result:
            raise InvalidArgument(f"seccomp: rule for {name}: {os.strerror(-result)}")

    def export(self) -> bytes:
        """``struct sock_filter[]``."""
        descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            result = self._library.seccomp_export_bpf(self._context, descriptor)
            if result:
                raise InvalidArgument(f"seccomp: the filter cannot be compiled: {os.strerror(-result)}")
            return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        finally:
            os.close(descriptor)


def version() -> str:
    found = _library().seccomp_version().contents
    return f"{found.major}.{found.minor}.{found.micro}"


def syscall_number(name: str) -> int | None:
    """The number that rules take (negative for a call of another architecture); ``None`` for an unknown
    name."""
    number: int = _library().seccomp_syscall_resolve_name(name.encode())
    return None if number == _UNKNOWN else number


def syscall_number_on(token: int, name: str) -> int | None:
    """The number on one architecture; ``None`` where it has no such call."""
    number: int = _library().seccomp_syscall_resolve_name_arch(token, name.encode())
    return None if number < 0 else number


def architecture(name: str) -> int:
    """The token (AUDIT_ARCH_*) of ``SCMP_ARCH_X86_64``. Raises ``InvalidArgument`` for an unknown name."""
    token: int = _library().seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
    if not token:
        raise InvalidArgument(f"seccomp: {name!r} is no architecture that libseccomp {version()} knows")
    return token


@cache
def _library() -> ctypes.CDLL:
    """Loaded at first use: most commands never need it."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        raise Unavailable(
            "seccomp: libseccomp.so.2 is not installed (Debian: libseccomp2); "
            "--security-opt seccomp=unconfined does without"
        ) from None
    for name, result, arguments in (
        ("seccomp_init", c_void_p, (c_uint32,)),
        ("seccomp_release", None, (c_void_p,)),
        ("seccomp_attr_set", c_int, (c_void_p, c_int, c_uint32)),
        ("seccomp_arch_add", c_int, (c_void_p, c_uint32)),
        ("seccomp_arch_resolve_name", c_uint32, (c_char_p,)),
        ("seccomp_syscall_resolve_name", c_int, (c_char_p,)),
        ("seccomp_syscall_resolve_name_arch", c_int, (c_uint32, c_char_p)),
        ("seccomp_rule_add_array", c_int, (c_void_p, c_uint32, c_int, c_uint, POINTER(Comparison))),
        ("seccomp_export_bpf", c_int, (c_void_p, c_int)),
        ("seccomp_version", POINTER(_Version), ()),
    ):
        function = getattr(library, name)  # cached on the library, unlike library[name]
        function.restype = result
        function.argtypes = arguments
    return library
