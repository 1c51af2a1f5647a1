"""The attribute codec of rtnetlink: what is written is read back, and broken input ends quietly."""

from hypothesis import given
from hypothesis import strategies as st

from cloche.kernel.netlink import attribute, attributes

PAYLOADS = st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=70)), max_size=8)


@given(PAYLOADS)
def test_attributes_come_back_and_are_aligned(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(attribute(kind, payload) for kind, payload in pairs)
    assert len(data) % 4 == 0
    assert list(attributes(data)) == pairs


@given(st.binary(max_size=200))
def test_any_bytes_end(data: bytes) -> None:
    assert sum(len(payload) for _, payload in attributes(data)) <= len(data)


@given(PAYLOADS, st.integers(1, 20))
def test_a_cut_message_gives_whole_attributes_only(pairs: list[tuple[int, bytes]], cut: int) -> None:
    data = b"".join(attribute(kind, payload) for kind, payload in pairs)
    found = list(attributes(data[: max(0, len(data) - cut)]))
    assert found == pairs[: len(found)]
