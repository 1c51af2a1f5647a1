"""The json-file log: Docker's format, bounded, written in bulk.

One JSON object a line: ``{"log":"text\\n","stream":"stdout","time":"2006-01-02T15:04:05.000000000Z"}``. A
line longer than 16 KiB becomes several records, all but the last without the newline, as Docker's copier
splits it. Bytes that are not UTF-8 become U+FFFD. The lines that came with one read share its time.
"""

from __future__ import annotations

import os
import time

import msgspec

from cloche.kernel.files import close_range
from cloche.monitor.protocol import LogConfig

LINE_LIMIT = 16 << 10
"""Bytes of output in one record."""

_HEAD = b'{"log":"'
_STREAM = {1: b'","stream":"stdout","time":"', 2: b'","stream":"stderr","time":"'}
_PATIENCE = 4
"""Times its size to which the live file may grow while the last one is being compressed."""
_COMPRESSION = 1
"""igzip's level: as small as zlib's first level, at eight times its speed."""

_encode = msgspec.json.Encoder().encode


class JsonLog:
    """One container's log. ``write`` never raises: a log that cannot be written must not stop the
    container, so what does not fit on the disk is lost, whole records at a time."""

    def __init__(self, config: LogConfig) -> None:
        """Raises ``OSError`` where the live file cannot be opened."""
        self._config = config
        self._partial = {1: b"", 2: b""}
        self._second = 0
        self._prefix = b""
        self._compressor = 0
        self._open()
        if config.compress and os.access(config.path + ".1", os.F_OK):
            self._compress()

    def write(self, stream: int, chunk: bytes) -> None:
        """Log ``chunk`` of stream 1 or 2. A last line without its end is kept for the next call."""
        data = self._partial[stream] + chunk
        start = position = 0
        tail = b'%s%s"}\n' % (_STREAM[stream], self._timestamp())
        records = []
        while len(data) - position >= LINE_LIMIT:
            end = data.rfind(b"\n", position, position + LINE_LIMIT) + 1
            if end:
                position = end
                continue
            if position > start:
                records.append(_lines(data[start:position], tail))
            start = _character_end(data, position + LINE_LIMIT)
            records.append(_record(data[position:start], tail))
            position = start
        position = max(position, data.rfind(b"\n", position) + 1)
        if position > start:
            records.append(_lines(data[start:position], tail))
        self._partial[stream] = data[position:]
        if records:
            self._append(b"".join(records))

    def finish(self) -> None:
        """The output has ended: log what is left of the last lines, and close."""
        for stream, rest in self._partial.items():
            if rest:
                self._append(_record(rest, b'%s%s"}\n' % (_STREAM[stream], self._timestamp())))
        self._partial = {1: b"", 2: b""}
        os.close(self._file)

    @property
    def compressing(self) -> bool:
        """True while a rotated file is being compressed: call ``reap`` now and then."""
        return self._compressor != 0

    def reap(self, wait: bool = False) -> None:
        """Take note of a compressor that has ended."""
        if self._compressor and os.waitpid(self._compressor, 0 if wait else os.WNOHANG)[0]:
            self._compressor = 0

    def _timestamp(self) -> bytes:
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%s.%09dZ" % (self._prefix, nanoseconds)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._config.path, flags, 0o640)
        self._size = os.fstat(self._file).st_size
        # A machine that lost power may have left half a record.
        if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":
            self._size += os.write(self._file, b"\n")

    def _append(self, records: bytes) -> None:
        view, start = memoryview(records), 0
        while len(records) - start > (room := max(0, self._limit() - self._size)):
            # As many whole records as there is room for; a file that is empty takes one of any size.
            end = records.rfind(b"\n", start, start + room) + 1
            if not end and not self._size:
                end = records.index(b"\n", start) + 1
            if end:
                self._write(view[start:end])
                start = end
            elif not self._rotate():
                break
        self._write(view[start:])

    def _write(self, records: memoryview) -> None:
        size = len(records)
        try:
            while records:
                records = records[os.write(self._file, records) :]
            self._size += size
        except OSError:
            try:
                os.ftruncate(self._file, self._size)
            except OSError:
                pass

    def _limit(self) -> int:
        """Bytes that the live file may have. The compressor is behind: let the file grow before anybody
        has to wait."""
        self.reap()
        return self._config.max_size * (_PATIENCE if self._compressor else 1)

    def _rotate(self) -> bool:
        """Rename, so that whoever follows the file goes on by its inode. False where the file system
        refuses: the live file goes on."""
        self.reap(wait=True)
        path, kept, last = self._config.path, self._config.max_file, self._file
        try:
            if kept <= 1:
                os.unlink(path)
            else:
                self._shift(path, kept)
            self._open()
        except OSError:
            return False
        os.close(last)
        if kept > 1 and self._config.compress:
            self._compress()
        return True

    @staticmethod
    def _shift(path: str, kept: int) -> None:
        # As far as there are files: `kept` may be any number.
        first = 1
        while first < kept - 1 and any(os.access(f"{path}.{first}{end}", os.F_OK) for end in ("", ".gz")):
            first += 1
        for number in range(first - 1, 0, -1):
            for suffix in ("", ".gz"):
                try:
                    os.rename(f"{path}.{number}{suffix}", f"{path}.{number + 1}{suffix}")
                except FileNotFoundError:
                    pass
        os.rename(path, f"{path}.1")

    def _compress(self) -> None:
        """In a child: a second of computing must not stop the container's output."""
        try:
            self._compressor = os.fork()
        except OSError:
            return
        if self._compressor == 0:
            try:
                # The container's stdin must not stay open for this child's sake.
                close_range(0)
                compress(f"{self._config.path}.1")
            finally:
                os._exit(0)


def compress(path: str) -> None:
    """Replace ``path`` by ``path.gz``. Raises ``OSError``, and then leaves ``path`` alone."""
    # In a child that has not left the host's root: no monitor carries the library.
    from isal import isal_zlib

    packer = isal_zlib.compressobj(_COMPRESSION, isal_zlib.DEFLATED, 16 + isal_zlib.MAX_WBITS)
    with open(path, "rb", buffering=0) as source, open(path + ".tmp", "wb") as target:
        os.fchmod(target.fileno(), 0o640)
        while block := source.read(1 << 18):
            target.write(packer.compress(block))
        target.write(packer.flush())
    os.rename(path + ".tmp", path + ".gz")
    os.unlink(path)


def _lines(data: bytes, tail: bytes) -> bytes:
    """Records of whole lines, in a few passes of C: the text is escaped as one JSON string, then each
    escaped newline becomes the end of a record."""
    separator = b"\\n" + tail + _HEAD
    text = _encode(data.decode("utf-8", "replace"))
    if len(text) == len(data) + data.count(b"\n") + 2 and b"\xef\xbf\xbd" not in text:
        # Nothing but the newlines had to be escaped or replaced.
        return _HEAD + data.replace(b"\n", separator)[: -len(_HEAD)]
    # An escaped backslash followed by an ``n`` only looks like an escaped newline: those backslashes are a
    # NUL meanwhile, a byte that JSON text cannot hold.
    text = text.replace(b"\\\\", b"\0").replace(b"\\n", separator).replace(b"\0", b"\\\\")
    # Between the quotes, without the head of a record that does not follow.
    return _HEAD + text[1 : -1 - len(_HEAD)]


def _record(data: bytes, tail: bytes) -> bytes:
    """One record of text without a newline."""
    return _HEAD + _encode(data.decode("utf-8", "replace"))[1:-1] + tail


def _character_end(data: bytes, end: int) -> int:
    """``end``, or a little less where it would cut a UTF-8 character."""
    for back in range(1, 4):
        byte = data[end - back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return end - back if back < length else end
        if byte < 0x80:
            break
    return end
