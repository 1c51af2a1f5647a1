"""The generated eBPF, run by a small interpreter of its instructions, against the rules read one by one."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from cloche.cgroups.contract import DeviceRule
from cloche.cgroups.device_program import generate

ACCESS = {"m": 1, "r": 2, "w": 4}
TYPES = {"b": 1, "c": 2}

NUMBERS = st.one_of(st.none(), st.integers(0, 3))
RULES = st.lists(
    st.builds(
        DeviceRule,
        allow=st.booleans(),
        type=st.sampled_from("abc"),
        major=NUMBERS,
        minor=NUMBERS,
        access=st.sets(st.sampled_from("rwm"), min_size=1).map(lambda letters: "".join(sorted(letters))),
    ),
    max_size=6,
).map(tuple)


def run(program: bytes, kind: str, major: int, minor: int, access: int) -> int:
    context = struct.pack("=III", access << 16 | TYPES[kind], major, minor)
    registers = dict.fromkeys(range(11), 0)
    position = 0
    for _ in range(10_000):
        opcode, places, offset, immediate = struct.unpack_from("<BBhi", program, position * 8)
        target, source = places & 15, places >> 4
        position += 1
        if opcode == 0x61:
            (registers[target],) = struct.unpack_from("=I", context, offset)
        elif opcode == 0xB7:
            registers[target] = immediate
        elif opcode == 0xBF:
            registers[target] = registers[source]
        elif opcode == 0x57:
            registers[target] &= immediate
        elif opcode == 0x77:
            registers[target] >>= immediate
        elif opcode == 0x15:
            position += offset if registers[target] == immediate else 0
        elif opcode == 0x55:
            position += offset if registers[target] != immediate else 0
        elif opcode == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"opcode {opcode:#x}")
    raise AssertionError("no end")


def expected(rules: tuple[DeviceRule, ...], kind: str, major: int, minor: int, letters: set[str]) -> bool:
    """For each access on its own, the last rule that matches decides; none is no."""

    def allowed(letter: str) -> bool:
        for rule in reversed(rules):
            matches = (
                rule.type in ("a", kind) and rule.major in (None, major) and rule.minor in (None, minor)
            )
            if matches and letter in rule.access:
                return rule.allow
        return False

    return all(allowed(letter) for letter in letters)


@given(
    RULES,
    st.sampled_from("bc"),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sets(st.sampled_from("rwm"), min_size=1),
)
def test_program_decides_as_the_rules_say(
    rules: tuple[DeviceRule, ...], kind: str, major: int, minor: int, letters: set[str]
) -> None:
    access = sum(ACCESS[letter] for letter in letters)
    assert run(generate(rules), kind, major, minor, access) == expected(rules, kind, major, minor, letters)
