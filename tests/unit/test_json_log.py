"""The json-file log: what is in it, at its edges, and how it is bounded."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.monitor.log import LINE_LIMIT, JsonLog
from cloche.monitor.protocol import LogConfig


def config(path: Path, size: int = 1 << 30, files: int = 4, compress: bool = True) -> LogConfig:
    return LogConfig("json-file", str(path), size, files, compress)


def records(path: Path) -> list[dict[str, str]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def text(path: Path, stream: str = "stdout") -> str:
    return "".join(record["log"] for record in records(path) if record["stream"] == stream)


PIECES = st.lists(
    st.sampled_from(
        ["\n", "\\", "\\n", "n", '"', "a", "é", "€", "😀", "\0", "\x7f", "\t", "\r", "{", "\u2028"]
    ).map(str.encode)
)


@settings(deadline=None)
@given(chunks=st.lists(PIECES.map(b"".join)))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = JsonLog(config(path))
    for chunk in chunks:
        log.write(1, chunk)
    log.finish()
    whole = b"".join(chunks).decode()
    if not whole:
        assert path.read_bytes() == b""
        return
    assert text(path) == whole
    # One record a line: only its end is a newline.
    assert all("\n" not in record["log"][:-1] for record in records(path))


@settings(deadline=None, max_examples=50)
@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_bytes_that_are_not_utf8_are_replaced(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = JsonLog(config(path))
    log.write(1, data[:cut])
    log.write(1, data[cut:] + b"\n")
    log.finish()
    assert text(path) == (data + b"\n").decode("utf-8", "replace")


def test_streams_do_not_mix(tmp_path: Path) -> None:
    log = JsonLog(config(tmp_path / "log"))
    for stream, chunk in ((1, b"out "), (2, b"err "), (1, b"one\nout two"), (2, b"one\n")):
        log.write(stream, chunk)
    log.finish()
    assert [(r["stream"], r["log"]) for r in records(tmp_path / "log")] == [
        ("stdout", "out one\n"),
        ("stderr", "err one\n"),
        ("stdout", "out two"),
    ]
    time = records(tmp_path / "log")[0]["time"]
    assert len(time) == len("2006-01-02T15:04:05.000000000Z")
    assert time.endswith("Z")


@pytest.mark.parametrize("chunk", [1000, LINE_LIMIT, 1 << 16])
def test_long_lines_are_split(tmp_path: Path, chunk: int) -> None:
    log = JsonLog(config(tmp_path / "log"))
    data = b"x" * (3 * LINE_LIMIT + 10) + b"\n" + b"y" * (LINE_LIMIT - 1) + b"\n"
    for start in range(0, len(data), chunk):
        log.write(1, data[start : start + chunk])
    log.finish()
    lengths = [len(record["log"]) for record in records(tmp_path / "log")]
    assert lengths == [LINE_LIMIT, LINE_LIMIT, LINE_LIMIT, 11, LINE_LIMIT]


def test_a_split_does_not_cut_a_character(tmp_path: Path) -> None:
    log = JsonLog(config(tmp_path / "log"))
    line = "a" + "😀" * 20000
    log.write(1, line.encode() + b"\n")
    log.finish()
    assert text(tmp_path / "log") == line + "\n"


def test_rotation_keeps_the_newest_and_compresses(tmp_path: Path) -> None:
    log = JsonLog(config(tmp_path / "log", size=20_000, files=3))
    for number in range(1000):
        log.write(1, b"line %04d\n" % number)
        log.reap(wait=True)
    log.finish()
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1.gz", "log.2.gz"]
    assert all(os.stat(tmp_path / name).st_size <= 20_000 for name in os.listdir(tmp_path))
    kept = [text(tmp_path / name) for name in ("log.2.gz", "log.1.gz", "log")]
    first = int("".join(kept)[5:9])
    assert "".join(kept) == "".join(f"line {number:04}\n" for number in range(first, 1000))


def test_the_live_file_grows_while_the_last_one_is_compressed(tmp_path: Path) -> None:
    log = JsonLog(config(tmp_path / "log", size=20_000, files=3))
    for number in range(3000):
        log.write(1, b"line %04d\n" % number)
    log.reap(wait=True)
    log.finish()
    assert (tmp_path / "log").stat().st_size <= 80_000
    assert text(tmp_path / "log").endswith("line 2999\n")


def test_a_batch_is_split_where_the_file_is_full(tmp_path: Path) -> None:
    log = JsonLog(config(tmp_path / "log", size=20_000, files=3, compress=False))
    log.write(1, b"".join(b"line %04d\n" % number for number in range(1000)))
    log.finish()
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1", "log.2"]
    assert all(os.stat(tmp_path / name).st_size <= 20_000 for name in os.listdir(tmp_path))
    kept = "".join(text(tmp_path / name) for name in ("log.2", "log.1", "log"))
    first = int(kept[5:9])
    assert first > 0
    assert kept == "".join(f"line {number:04}\n" for number in range(first, 1000))


def test_a_record_larger_than_a_file_is_kept(tmp_path: Path) -> None:
    log = JsonLog(config(tmp_path / "log", size=100, files=2, compress=False))
    log.write(1, b"a\n" + b"x" * 500 + b"\n" + b"y" * 500 + b"\n")
    log.finish()
    assert text(tmp_path / "log.1") == "x" * 500 + "\n"
    assert text(tmp_path / "log") == "y" * 500 + "\n"


def test_a_rotation_that_fails_loses_nothing(tmp_path: Path) -> None:
    """The last file stays open: its descriptor's number must not come to mean another file."""
    directory = tmp_path / "logs"
    directory.mkdir()
    log = JsonLog(config(directory / "log", size=100, files=2, compress=False))
    directory.rename(tmp_path / "gone")
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    for _ in range(5):
        log.write(1, b"x" * 40 + b"\n")
    log.finish()
    os.close(other)
    assert text(tmp_path / "gone" / "log") == ("x" * 40 + "\n") * 5
    assert (tmp_path / "other").read_bytes() == b""


def test_rotation_is_a_rename(tmp_path: Path) -> None:
    log = JsonLog(config(tmp_path / "log", size=1000, files=3, compress=False))
    log.write(1, b"first\n")
    inode = (tmp_path / "log").stat().st_ino
    for _ in range(12):
        log.write(1, b"x" * 40 + b"\n")
    log.finish()
    assert (tmp_path / "log.1").stat().st_ino == inode


def test_any_number_of_files_may_be_kept(tmp_path: Path) -> None:
    log = JsonLog(config(tmp_path / "log", size=50, files=10**12, compress=False))
    for number in range(4):
        log.write(1, b"line %04d\n" % number)
    log.finish()
    names = ["log.3", "log.2", "log.1", "log"]
    assert [text(tmp_path / name) for name in names] == [f"line {number:04}\n" for number in range(4)]


def test_one_file_is_replaced(tmp_path: Path) -> None:
    log = JsonLog(config(tmp_path / "log", size=1000, files=1))
    for number in range(100):
        log.write(1, b"line %04d\n" % number)
    log.finish()
    assert os.listdir(tmp_path) == ["log"]
    assert text(tmp_path / "log").endswith("line 0099\n")
    assert (tmp_path / "log").stat().st_size <= 1000


def test_half_a_record_is_ended(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b'{"log":"ha')
    log = JsonLog(config(tmp_path / "log"))
    log.write(1, b"next\n")
    log.finish()
    half, whole = (tmp_path / "log").read_bytes().splitlines()
    assert half == b'{"log":"ha'
    assert json.loads(whole)["log"] == "next\n"


def test_what_was_being_compressed_is_finished(tmp_path: Path) -> None:
    (tmp_path / "log.1").write_bytes(b'{"log":"old\\n","stream":"stdout","time":"t"}\n')
    log = JsonLog(config(tmp_path / "log"))
    log.reap(wait=True)
    log.finish()
    assert text(tmp_path / "log.1.gz") == "old\n"
    assert not (tmp_path / "log.1").exists()
