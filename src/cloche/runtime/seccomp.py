"""Seccomp filters: OCI's flat form compiled to BPF by libseccomp, cached in a directory.

libseccomp knows the system calls of its own day. Those that came after it, and those that nobody has heard
of yet, are handled by instructions of our own in front of its program: what the profile names is decided as
it says, what is newer than everything the profile names answers ENOSYS. C libraries try new calls first and
fall back on ENOSYS only; EPERM from the default action would break them (glibc's fchmodat with fchmodat2,
for one)."""

from __future__ import annotations

import errno
import hashlib
import os
import struct

import msgspec

from cloche.errors import InvalidArgument, Unsupported
from cloche.runtime import libseccomp
from cloche.runtime.seccomp_profile import ARCHITECTURES, resolve
from cloche.runtime.spec import Seccomp, SeccompArgument, SeccompSyscall

__all__ = ["ACTIONS", "ARCHITECTURES", "FLAGS", "OPERATORS", "Filter", "build", "program", "resolve"]


class Filter(msgspec.Struct, frozen=True):
    """A compiled filter."""

    program: bytes
    """``struct sock_filter[]``."""
    digest: str
    """Of the resolved profile, the machine and libseccomp's version: the name of the cache entry."""
    rules: int
    """System calls that the profile names."""
    flags: int = 0
    """``SECCOMP_FILTER_FLAG_*`` for seccomp(2)."""


_FORMAT = "2"
"""Of the program that is made from the same profile; changes with the code below."""

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
"""libseccomp's values, which are the kernel's ``SECCOMP_RET_*``."""

_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")

OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}

_MODERN = {
    name: number
    for number, name in enumerate(
        (
            "set_mempolicy_home_node",
            "cachestat",
            "fchmodat2",
            "map_shadow_stack",
            "futex_wake",
            "futex_wait",
            "futex_requeue",
            "statmount",
            "listmount",
            "lsm_get_self_attr",
            "lsm_set_self_attr",
            "lsm_list_modules",
            "mseal",
            "setxattrat",
            "getxattrat",
            "listxattrat",
            "removexattrat",
            "open_tree_attr",
            "file_getattr",
            "file_setattr",
        ),
        start=450,
    )
}
"""Calls that an installed libseccomp may not know. Since 424 a call has one number on all architectures."""

_MODERN_X86_64 = {"uretprobe": 335, "uprobe": 336}

_X32_BIT = 0x40000000


def program(seccomp: Seccomp, cache: str | None) -> Filter:
    """Compile, or take from the ``cache`` directory (``None``: no cache). Raises ``InvalidArgument`` for
    what makes no sense to libseccomp, ``Unavailable`` where it is not installed, ``Unsupported`` for
    notification listeners."""
    _check(seccomp)
    identity = (_FORMAT, os.uname().machine, libseccomp.version(), seccomp)
    digest = hashlib.sha256(msgspec.json.encode(identity)).hexdigest()
    code = _load(cache, digest)
    if not code:
        code = build(seccomp)
        if cache is not None:
            _store(cache, digest, code)
    names = {name for rule in seccomp.syscalls for name in rule.names}
    return Filter(code, digest, len(names), sum(FLAGS[flag] for flag in set(seccomp.flags)))


def build(seccomp: Seccomp) -> bytes:
    """Compile, without a cache."""
    default = _action(seccomp.default_action, seccomp.default_errno_ret)
    tokens = [libseccomp.architecture(name) for name in seccomp.architectures]
    unknown: dict[str, int] = {}
    with libseccomp.Builder(default) as builder:
        for token in tokens:
            builder.add_architecture(token)
        for rule in seccomp.syscalls:
            action = _action(rule.action, rule.errno_ret)
            if action == default:
                continue  # libseccomp takes a rule that changes nothing for an error
            for name in rule.names:
                number = libseccomp.syscall_number(name)
                if number is not None:
                    for comparisons in _alternatives(rule):
                        builder.add_rule(action, name, number, comparisons)
                elif not rule.args:
                    unknown[name] = action
        compiled = builder.export()
    return _prelude(seccomp, unknown) + compiled


def _check(seccomp: Seccomp) -> None:
    if seccomp.listener_path or any(rule.action == "SCMP_ACT_NOTIFY" for rule in seccomp.syscalls):
        raise Unsupported("seccomp: Cloche does not hand notifications to a listener")
    for flag in seccomp.flags:
        if flag not in FLAGS:
            raise InvalidArgument(f"seccomp: {flag!r} is not one of {', '.join(FLAGS)}")


def _action(name: str, number: int | None) -> int:
    if name not in ACTIONS:
        raise InvalidArgument(f"seccomp: {name!r} is not one of {', '.join(ACTIONS)}")
    if name not in _WITH_ERRNO:
        return ACTIONS[name]
    value = errno.EPERM if number is None else number
    if not 0 <= value <= 0xFFFF:
        raise InvalidArgument(f"seccomp: errnoRet {value} is not between 0 and 65535")
    return ACTIONS[name] | value


def _alternatives(rule: SeccompSyscall) -> list[list[libseccomp.Comparison]]:
    """The rule's comparisons must all hold; but several of one argument are alternatives, as every runtime
    reads it."""
    comparisons = [_comparison(argument) for argument in rule.args]
    indexes = [argument.index for argument in rule.args]
    if len(set(indexes)) < len(indexes):
        return [[comparison] for comparison in comparisons]
    return [comparisons]


def _comparison(argument: SeccompArgument) -> libseccomp.Comparison:
    if argument.op not in OPERATORS:
        raise InvalidArgument(f"seccomp: {argument.op!r} is not one of {', '.join(OPERATORS)}")
    if not 0 <= argument.index <= 5:
        raise InvalidArgument(f"seccomp: argument index {argument.index} is not between 0 and 5")
    return libseccomp.Comparison(argument.index, OPERATORS[argument.op], argument.value, argument.value_two)


# --- the instructions in front ----------------------------------------------------------------------

_LOAD, _AND, _JUMP_EQUAL, _JUMP_GREATER, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x06
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET = 0, 4  # of struct seccomp_data


def _prelude(seccomp: Seccomp, unknown: dict[str, int]) -> bytes:
    """For each architecture of the profile: its token, then the calls that libseccomp does not know, then
    the end of what the profile knows. A profile that allows by default restricts named calls only: no ENOSYS
    there."""
    restrictive = seccomp.default_action not in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")
    if not restrictive and not unknown:
        return b""
    names = {name for rule in seccomp.syscalls for name in rule.names}
    code = b""
    for name in seccomp.architectures:
        if name == "SCMP_ARCH_X32":
            continue  # it has x86_64's token and a bit in the number
        token = libseccomp.architecture(name)
        body = _instruction(_LOAD, _NUMBER_OFFSET)
        last = max((_number(token, call) for call in names), default=0)
        if name == "SCMP_ARCH_X86_64" and "SCMP_ARCH_X32" in seccomp.architectures:
            body += _instruction(_AND, 0xFFFFFFFF & ~_X32_BIT)
            # Some of its calls have numbers of their own, from 512 on.
            x32 = libseccomp.architecture("SCMP_ARCH_X32")
            last = max([last, *(_number(x32, call) & ~_X32_BIT for call in names)])
        modern = _MODERN | _MODERN_X86_64 if name == "SCMP_ARCH_X86_64" else _MODERN
        for number, action in sorted(
            (modern[call], unknown[call]) for call in unknown.keys() & modern.keys()
        ):
            body += _instruction(_JUMP_EQUAL, number, 0, 1) + _instruction(_RETURN, action)
        if restrictive and last:
            body += _instruction(_JUMP_GREATER, last, 0, 1)
            body += _instruction(_RETURN, ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS)
        code += _instruction(_LOAD, _ARCHITECTURE_OFFSET) + _instruction(
            _JUMP_EQUAL, token, 0, len(body) // 8
        )
        code += body
    return code


def _number(token: int, name: str) -> int:
    return libseccomp.syscall_number_on(token, name) or _MODERN.get(name, 0)


def _instruction(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    """``struct sock_filter``."""
    return struct.pack("=HBBI", code, when_true, when_false, value)


# --- the cache --------------------------------------------------------------------------------------


def _load(cache: str | None, digest: str) -> bytes:
    """Empty where there is no whole entry."""
    if cache is None:
        return b""
    try:
        with open(f"{cache}/{digest}.bpf", "rb") as file:
            code = file.read()
    except FileNotFoundError:
        return b""
    return code if len(code) % 8 == 0 else b""


def _store(cache: str, digest: str, code: bytes) -> None:
    """Whole or not at all; a lost entry is compiled again, so nothing is synced."""
    os.makedirs(cache, mode=0o700, exist_ok=True)
    temporary = f"{cache}/.{digest}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(code)
    os.rename(temporary, f"{cache}/{digest}.bpf")
