"""The device allow-list as an eBPF program for a v2 cgroup (BPF_CGROUP_DEVICE), as plain bytes.

The rules are read from last to first: the last one that matches decides, for each access (mknod, read,
write) on its own. r3 holds the accesses that are not decided yet; an allowing rule strikes its own off, a
denying one ends the program. bpf(2), linux/bpf.h ``struct bpf_cgroup_dev_ctx``.
"""

from __future__ import annotations

import struct

from cloche.cgroups.contract import DeviceRule
from cloche.errors import InvalidArgument

_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ALL = 7

# Opcodes: class | source of the operand | operation (Documentation/bpf/standardization/instruction-set.rst).
_LOAD_WORD = 0x61
_MOVE = 0xB7
_MOVE_REGISTER = 0xBF
_AND = 0x57
_SHIFT_RIGHT = 0x77
_JUMP_EQUAL = 0x15
_JUMP_NOT_EQUAL = 0x55
_EXIT = 0x95

_CONTEXT, _TYPE, _WANTED, _MAJOR, _MINOR, _SCRATCH, _RESULT = 1, 2, 3, 4, 5, 1, 0


def generate(rules: tuple[DeviceRule, ...]) -> bytes:
    """The program; devices that no rule names are denied. Raises ``InvalidArgument`` for more rules than the
    kernel takes."""
    code = [
        _instruction(_LOAD_WORD, _TYPE, source=_CONTEXT, offset=0),
        _instruction(_LOAD_WORD, _MAJOR, source=_CONTEXT, offset=4),
        _instruction(_LOAD_WORD, _MINOR, source=_CONTEXT, offset=8),
        _instruction(_MOVE_REGISTER, _WANTED, source=_TYPE),
        _instruction(_AND, _TYPE, immediate=0xFFFF),
        _instruction(_SHIFT_RIGHT, _WANTED, immediate=16),
    ]
    for rule in reversed(rules):
        code += _rule(rule)
        if matches_everything(rule):
            break
    else:
        code += _return(0)
    if len(code) > 4096:
        raise InvalidArgument(f"{len(rules)} device rules do not fit into the kernel's 4096 instructions")
    return b"".join(code)


def matches_everything(rule: DeviceRule) -> bool:
    """True where no earlier rule can matter."""
    return rule.type == "a" and rule.major is None and rule.minor is None and _accesses(rule) == _ALL


def _rule(rule: DeviceRule) -> list[bytes]:
    """One rule's block. Its conditions jump behind the block where they do not hold."""
    if matches_everything(rule):
        return _return(int(rule.allow))
    if rule.allow:
        decision = [_instruction(_AND, _WANTED, immediate=_ALL & ~_accesses(rule))]
        decision += [_instruction(_JUMP_NOT_EQUAL, _WANTED, immediate=0, offset=2), *_return(1)]
    else:
        decision = [_instruction(_MOVE_REGISTER, _SCRATCH, source=_WANTED)]
        decision += [_instruction(_AND, _SCRATCH, immediate=_accesses(rule))]
        decision += [_instruction(_JUMP_EQUAL, _SCRATCH, immediate=0, offset=2), *_return(0)]
    conditions = []
    if rule.type != "a":
        conditions.append((_TYPE, _TYPES[rule.type]))
    if rule.major is not None:
        conditions.append((_MAJOR, rule.major))
    if rule.minor is not None:
        conditions.append((_MINOR, rule.minor))
    size = len(conditions) + len(decision)
    return [
        _instruction(_JUMP_NOT_EQUAL, register, immediate=value, offset=size - index - 1)
        for index, (register, value) in enumerate(conditions)
    ] + decision


def _accesses(rule: DeviceRule) -> int:
    bits = 0
    for letter in rule.access:
        bits |= _ACCESS[letter]
    return bits


def _return(value: int) -> list[bytes]:
    return [_instruction(_MOVE, _RESULT, immediate=value), _instruction(_EXIT, 0)]


def _instruction(opcode: int, target: int, *, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    """``struct bpf_insn`` of a little-endian machine (x86_64, aarch64)."""
    return struct.pack("<BBhi", opcode, source << 4 | target, offset, immediate)
