"""What the command prints: units, columns, templates; and the JSON that it reads and writes."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.cli import tables, terminal, units, wire
from cloche.cli.attachment import Frames
from cloche.cli.errors import UsageError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_json_is_json(value: object) -> None:
    assert json.loads(wire.encode(value)) == value
    assert wire.decode(json.dumps(value, indent=1).encode()) == value
    assert wire.decode(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) == value


@pytest.mark.parametrize("text", [b"", b"OK", b"{", b'{"a": }', b"[1, 2"])
def test_what_is_not_json(text: bytes) -> None:
    with pytest.raises(ValueError):
        wire.decode(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("64m", 64 << 20),
        ("1g", 1 << 30),
        ("1.5k", 1536),
        ("10", 10),
        ("2MB", 2 << 20),
        ("2MiB", 2 << 20),
        ("-1", -1),
    ],
)
def test_sizes_in(text: str, count: int) -> None:
    assert units.size_in_bytes(text, "--memory") == count


@pytest.mark.parametrize("text", ["", "m", "12x", "1.2.3m"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(UsageError):
        units.size_in_bytes(text, "--memory")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (4_261_550, "4.26MB"),
        (1_980_000, "1.98MB"),
        (72_000_000, "72MB"),
        (1.2e9, "1.2GB"),
    ],
)
def test_sizes_out(count: float, text: str) -> None:
    assert units.human_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (150, "2 minutes"),
        (3600, "About an hour"),
        (7300, "2 hours"),
        (47 * 3600, "47 hours"),
        (72 * 3600, "3 days"),
        (15 * 86400, "2 weeks"),
        (70 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert units.human_duration(seconds) == text


def test_moments() -> None:
    assert units.moment("2024-01-02T03:04:05Z") == "2024-01-02T03:04:05Z"
    assert units.moment("1700000000.5") == "1700000000.5"
    assert units.moment(None) is None
    minute, hour = (float(units.moment(text) or "") for text in ("1m", "1h1m"))
    assert math.isclose(minute - hour, 3600, abs_tol=1)
    with pytest.raises(UsageError):
        units.moment("soon")


def test_template() -> None:
    record = {
        "State": {"Status": "running", "Pid": 7, "Dead": False},
        "Names": ["/a", "/b"],
        "Labels": {"x": "y"},
    }
    parts = tables.parse(
        "{{.State.Status}}\\t{{.State.Pid}} {{.State.Dead}} {{.Names}} {{.Labels}} {{json .Labels}}"
    )
    assert tables.render(parts, record) == 'running\t7 false [/a /b] map[x:y] {"x":"y"}'
    assert tables.render(tables.parse("{{json .}}"), {"a": 1}) == '{"a":1}'


@pytest.mark.parametrize("template", ["{{range .X}}{{end}}", "{{.X", "{{X}}", "{{json}}"])
def test_templates_that_are_too_much(template: str) -> None:
    with pytest.raises(UsageError, match="--format"):
        tables.parse(template)


def test_columns(capsys: pytest.CaptureFixture[str]) -> None:
    fields: tables.Fields = {"ID": lambda row: row["id"], "Names": lambda row: row["name"]}
    columns = {"CONTAINER ID": "ID", "NAMES": "Names"}
    rows = [{"id": "1", "name": "one"}, {"id": "22", "name": "two"}]
    tables.show(rows, fields, columns, None)
    assert capsys.readouterr().out == "CONTAINER ID   NAMES\n1              one\n22             two\n"
    tables.show(rows, fields, columns, "table {{.Names}}\t{{.ID}}")
    assert capsys.readouterr().out == "NAMES     CONTAINER ID\none       1\ntwo       22\n"
    tables.show(rows, fields, columns, "json")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()][1] == {
        "ID": "22",
        "Names": "two",
    }
    with pytest.raises(UsageError, match="no field Nmaes"):
        tables.show(rows, fields, columns, "{{.Nmaes}}")


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=8), st.integers(1, 30))
def test_frames_in_any_pieces(frames: list[tuple[int, bytes]], size: int) -> None:
    stream = b"".join(
        bytes((number, 0, 0, 0)) + len(data).to_bytes(4, "big") + data for number, data in frames
    )
    written = {1: b"", 2: b""}

    def keep(descriptor: int, data: bytes) -> None:
        written[descriptor] += data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloche.cli.attachment.write", keep)
        reader = Frames()
        for at in range(0, len(stream), size):
            reader.feed(stream[at : at + size])
    assert written == {n: b"".join(data for number, data in frames if number == n) for n in (1, 2)}


def test_detach_keys() -> None:
    assert terminal.keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert terminal.keys("a,ctrl-[,ctrl-@") == b"a\x1b\x00"
    for wrong in ("ctrl-", "ctrl-pq", "alt-a", "ab"):
        with pytest.raises(ValueError):
            terminal.keys(wrong)
