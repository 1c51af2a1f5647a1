"""Unpacking layers: what they may hold, and what hostile ones try. Each runs in a process of its own, as the
launcher's jobs do."""

import gzip
import hashlib
import io
import lzma
import os
import pickle
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from cloche.launcher.protocol import JobAnswer, JobFailed, LayerUnpacked
from cloche.launcher.unpack import unpack
from cloche.snapshots.deletion import delete

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="unpacking needs root")

Fill = Callable[[tarfile.TarFile], None]
NANOSECONDS = 1_700_000_000_123_456_789


def run(layer: bytes, target: Path) -> JobAnswer:
    """Unpack in a forked process."""
    target.mkdir(exist_ok=True)
    archive = target.with_suffix(".layer")
    archive.write_bytes(layer)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = unpack(os.open(archive, os.O_RDONLY), str(target))
            os.write(writer, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    answer: JobAnswer = pickle.loads(data)
    return answer


def tar(fill: Fill, format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        fill(archive)
    return buffer.getvalue()


def member(archive: tarfile.TarFile, name: str, content: bytes | None = None, **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content or b"")
    for key, value in fields.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(content or b""))


def unpacked(layer: bytes, target: Path) -> LayerUnpacked:
    answer = run(layer, target)
    assert isinstance(answer, LayerUnpacked), answer
    return answer


def refused(layer: bytes, target: Path) -> JobFailed:
    answer = run(layer, target)
    assert isinstance(answer, JobFailed), answer
    assert answer.invalid, answer
    return answer


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file of the host that hostile archives are after; it lies beside the target."""
    secret = tmp_path / "secret"
    secret.write_text("host")
    return secret


# --- what layers hold -------------------------------------------------------------------------------------


def test_everything_that_a_file_can_be(tmp_path: Path) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        member(archive, "./", type=tarfile.DIRTYPE, mode=0o1777)
        member(archive, "d", type=tarfile.DIRTYPE, mode=0o2750, uid=5, gid=6, mtime=NANOSECONDS / 1e9)
        member(archive, "d/file", b"content", mode=0o4711, uid=1000, gid=1001)
        member(archive, "d/root-suid", b"content", mode=0o4755)
        member(archive, "link", type=tarfile.SYMTYPE, linkname="/d/file", uid=3, gid=4)
        member(archive, "hard", type=tarfile.LNKTYPE, linkname="d/file")
        member(archive, "null", type=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3, uid=7)
        member(archive, "disk", type=tarfile.BLKTYPE, mode=0o660, devmajor=8, devminor=1)
        member(archive, "fifo", type=tarfile.FIFOTYPE, mode=0o640)
        member(archive, "made/on/the/way", b"x")

    root = tmp_path / "root"
    layer = tar(fill)
    answer = unpacked(layer, root)
    assert answer.diff_id == "sha256:" + hashlib.sha256(layer).hexdigest()
    assert (answer.size, answer.files) == (15, 9)
    assert stat.S_IMODE(os.stat(root).st_mode) == 0o1777
    directory, file = os.stat(root / "d"), os.stat(root / "d/file")
    assert (stat.S_IMODE(directory.st_mode), directory.st_uid, directory.st_gid) == (0o2750, 5, 6)
    assert (stat.S_IMODE(file.st_mode), file.st_uid, file.st_gid, file.st_nlink) == (0o4711, 1000, 1001, 2)
    assert stat.S_IMODE(os.stat(root / "d/root-suid").st_mode) == 0o4755
    assert os.stat(root / "d/root-suid").st_gid == 0
    assert os.readlink(root / "link") == "/d/file"
    assert (os.lstat(root / "link").st_uid, os.lstat(root / "link").st_gid) == (3, 4)
    assert os.stat(root / "hard").st_ino == file.st_ino
    null = os.stat(root / "null")
    assert stat.S_ISCHR(null.st_mode)
    assert (null.st_rdev, stat.S_IMODE(null.st_mode), null.st_uid) == (os.makedev(1, 3), 0o666, 7)
    assert os.stat(root / "disk").st_rdev == os.makedev(8, 1)
    assert stat.S_ISFIFO(os.stat(root / "fifo").st_mode)
    assert (root / "made/on/the/way").read_bytes() == b"x"


def test_times_keep_nanoseconds_also_of_directories(tmp_path: Path) -> None:
    when = f"{NANOSECONDS // 10**9}.{NANOSECONDS % 10**9}"

    def fill(archive: tarfile.TarFile) -> None:
        for name, kind in (("d", tarfile.DIRTYPE), ("d/f", tarfile.REGTYPE), ("d/l", tarfile.SYMTYPE)):
            member(archive, name, type=kind, linkname="f", mode=0o755, pax_headers={"mtime": when})
        member(archive, "old", b"", pax_headers={"mtime": "-1.5"})

    root = tmp_path / "root"
    unpacked(tar(fill), root)
    for name in ("d", "d/f", "d/l"):
        assert os.lstat(root / name).st_mtime_ns == NANOSECONDS
    assert os.lstat(root / "old").st_mtime_ns == -1_500_000_000


def test_extended_attributes(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    headers = {
        "SCHILY.xattr.user.note": "text",
        "SCHILY.xattr.security.capability": capability.decode("latin-1"),
        "SCHILY.xattr.trusted.overlay.redirect": "/elsewhere",
    }

    def fill(archive: tarfile.TarFile) -> None:
        archive.encoding, archive.errors = "latin-1", "strict"
        member(archive, "ping", b"x", mode=0o755, uid=9, pax_headers=dict(headers))
        member(archive, "d", type=tarfile.DIRTYPE, mode=0o755, pax_headers={"SCHILY.xattr.user.note": "dir"})

    root = tmp_path / "root"
    unpacked(tar(fill), root)
    assert os.getxattr(root / "ping", "user.note") == b"text"
    assert os.getxattr(root / "ping", "security.capability") == capability
    assert "trusted.overlay.redirect" not in os.listxattr(root / "ping")
    assert os.getxattr(root / "d", "user.note") == b"dir"


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names(tmp_path: Path, format: int) -> None:
    long = "/".join(["x" * 100] * 5) + "/ünïcode"

    def fill(archive: tarfile.TarFile) -> None:
        member(archive, long, b"deep", uid=3_000_000)
        member(archive, "hard", type=tarfile.LNKTYPE, linkname=long)
        member(archive, "soft", type=tarfile.SYMTYPE, linkname=long)

    root = tmp_path / "root"
    unpacked(tar(fill, format), root)
    assert (root / long).read_bytes() == b"deep"
    assert (root / "soft").read_bytes() == b"deep"
    assert os.stat(root / "hard").st_uid == 3_000_000


def test_a_prefix_of_ustar(tmp_path: Path) -> None:
    name = "p" * 90 + "/" + "n" * 90
    root = tmp_path / "root"
    unpacked(tar(lambda archive: member(archive, name, b"x"), tarfile.USTAR_FORMAT), root)
    assert (root / name).read_bytes() == b"x"


@pytest.mark.parametrize(
    "options", [["--format=gnu"], ["--sparse-version=0.0"], ["--sparse-version=0.1"], ["--format=pax"]]
)
def test_sparse_files(tmp_path: Path, options: list[str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "holes", "wb") as file:
        for index in range(60):
            file.seek(index * 1_000_000)
            file.write(b"%04d" % index * 1024)
        file.truncate(100_000_000)
    (source / "behind").write_text("still there")
    options = options if options[0].startswith("--format") else ["--format=pax", *options]
    done = subprocess.run(["tar", "-cS", *options, "-C", str(source), "."], capture_output=True, check=True)
    assert len(done.stdout) < 10_000_000
    root = tmp_path / "root"
    unpacked(done.stdout, root)
    assert (root / "holes").stat().st_size == 100_000_000
    assert (root / "holes").stat().st_blocks < 20_000
    assert subprocess.run(["cmp", root / "holes", source / "holes"]).returncode == 0
    assert (root / "behind").read_text() == "still there"


def test_the_format_of_the_field_s_own_tar(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a" / ("b" * 200)).mkdir(parents=True)
    (source / "a" / ("b" * 200) / "f").write_text("x" * 100_000)
    os.link(source / "a" / ("b" * 200) / "f", source / "hard")
    for format in ("v7", "oldgnu", "gnu", "ustar", "posix"):
        command = ["tar", "-c", f"--format={format}", "-C", str(source), "."]
        done = subprocess.run(command, capture_output=True)
        if done.returncode:
            continue  # names too long for it
        root = tmp_path / format
        unpacked(done.stdout, root)
        compare = ["diff", "-r", str(source), str(root)]
        assert subprocess.run(compare).returncode == 0
        assert os.stat(root / "hard").st_nlink == 2


@pytest.mark.parametrize("compression", ["gzip", "two gzip members", "zstd", "xz", "bzip2"])
def test_compressed_layers_have_the_digest_of_what_is_inside(tmp_path: Path, compression: str) -> None:
    plain = tar(lambda archive: member(archive, "f", os.urandom(3_000_000)))
    half = len(plain) // 2
    packed = {
        "gzip": lambda: gzip.compress(plain, 1),
        "two gzip members": lambda: gzip.compress(plain[:half], 1) + gzip.compress(plain[half:], 1),
        "zstd": lambda: zstandard.compress(plain),
        "xz": lambda: lzma.compress(plain, preset=0),
        "bzip2": lambda: (
            subprocess.run(["bzip2", "-1"], input=plain, capture_output=True, check=True).stdout
        ),
    }[compression]()
    answer = unpacked(packed, tmp_path / "root")
    assert answer.diff_id == "sha256:" + hashlib.sha256(plain).hexdigest()
    assert answer.size == 3_000_000
    cut = refused(packed[: len(packed) // 2], tmp_path / "cut")
    assert "too early" in cut.message or "middle" in cut.message


def test_thousands_of_gzip_members(tmp_path: Path) -> None:
    plain = tar(lambda archive: member(archive, "f", os.urandom(100_000)))
    packed = b"".join(gzip.compress(plain[at : at + 50], 1) for at in range(0, len(plain), 50))
    assert unpacked(packed, tmp_path / "root").size == 100_000


def test_the_digest_counts_what_follows_the_end(tmp_path: Path) -> None:
    layer = tar(lambda archive: member(archive, "f", b"x")) + b"\0" * 50_000 + b"behind"
    assert unpacked(layer, tmp_path / "root").diff_id == "sha256:" + hashlib.sha256(layer).hexdigest()


def test_a_later_member_replaces_an_earlier(tmp_path: Path) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        member(archive, "a", b"one", mode=0o644)
        member(archive, "a", b"two", mode=0o600)
        member(archive, "d/inside", b"x")
        member(archive, "d", b"file now")
        member(archive, "e", b"file")
        member(archive, "e", type=tarfile.DIRTYPE, mode=0o711)
        member(archive, "e/inside", b"x")
        member(archive, "k", type=tarfile.DIRTYPE, mode=0o711)
        member(archive, "k/kept", b"x")
        member(archive, "k", type=tarfile.DIRTYPE, mode=0o700)

    root = tmp_path / "root"
    unpacked(tar(fill), root)
    assert (root / "a").read_bytes() == b"two"
    assert (root / "d").read_bytes() == b"file now"
    assert (root / "e/inside").exists()
    assert (root / "k/kept").exists()
    assert stat.S_IMODE(os.stat(root / "k").st_mode) == 0o700


# --- whiteouts --------------------------------------------------------------------------------------------


def is_whiteout(path: Path) -> bool:
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def opaque(path: Path) -> bool:
    return "trusted.overlay.opaque" in os.listxattr(path)


def test_whiteouts(tmp_path: Path) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        member(archive, "etc/.wh.gone")
        member(archive, "var", type=tarfile.DIRTYPE, mode=0o755)
        member(archive, "var/.wh..wh..opq")
        member(archive, "var/new", b"x")
        member(archive, ".wh..wh.plnk/12.34", b"")
        member(archive, "new", type=tarfile.DIRTYPE, mode=0o755)
        member(archive, ".wh.new")
        member(archive, ".wh.back")
        member(archive, "back", type=tarfile.DIRTYPE, mode=0o755)
        member(archive, ".wh.deep")
        member(archive, "deep/er/file", b"x")

    root = tmp_path / "root"
    unpacked(tar(fill), root)
    assert is_whiteout(root / "etc/gone")
    assert opaque(root / "var")
    assert (root / "var/new").exists()
    assert not opaque(root / "etc")
    for name in ("new", "back", "deep"):
        assert opaque(root / name), name
    assert (root / "deep/er/file").exists()
    assert not [name for name in os.listdir(root) if name.startswith(".wh.")] or os.listdir(
        root / ".wh..wh.plnk"
    )


# --- hostile archives -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../secret", "a/../../secret", "../../../../../../etc/cloche-escaped", ".."]
)
def test_names_that_lead_out_are_refused(tmp_path: Path, outside: Path, name: str) -> None:
    answer = refused(tar(lambda archive: member(archive, name, b"evil")), tmp_path / "root")
    assert "leads out" in answer.message
    assert outside.read_text() == "host"
    assert not os.path.exists("/etc/cloche-escaped")


def test_absolute_names_stay_inside(tmp_path: Path, outside: Path) -> None:
    unpacked(tar(lambda archive: member(archive, str(outside), b"evil")), tmp_path / "root")
    assert outside.read_text() == "host"
    assert (tmp_path / "root" / str(outside)[1:]).read_bytes() == b"evil"


@pytest.mark.parametrize("target", ["/", "..", "../..", "../../../../../../../..", "/proc/1/root", "."])
def test_links_lead_nowhere_outside(tmp_path: Path, outside: Path, target: str) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        member(archive, "out", type=tarfile.SYMTYPE, linkname=target)
        member(archive, "out" + str(outside), b"evil")
        member(archive, "out/secret", b"evil")
        member(archive, "out/root/secret", b"evil")

    run(tar(fill), tmp_path / "root")
    assert outside.read_text() == "host"
    assert sorted(os.listdir(tmp_path)) == ["root", "root.layer", "secret"]


def test_links_through_links(tmp_path: Path, outside: Path) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        member(archive, "d", type=tarfile.DIRTYPE, mode=0o755)
        member(archive, "d/up", type=tarfile.SYMTYPE, linkname="..")
        member(archive, "d/up2", type=tarfile.SYMTYPE, linkname="up/..")
        member(archive, "d/up3", type=tarfile.SYMTYPE, linkname="up2/../..")
        member(archive, "d/up3/secret", b"evil")
        member(archive, "d/up2/.wh.secret", b"")

    unpacked(tar(fill), tmp_path / "root")
    assert outside.read_text() == "host"
    assert is_whiteout(tmp_path / "root/secret") or (tmp_path / "root/secret").read_bytes() == b"evil"


def test_a_file_in_place_of_a_link_does_not_write_through_it(tmp_path: Path, outside: Path) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        member(archive, "inner", b"precious")
        member(archive, "l", type=tarfile.SYMTYPE, linkname="inner")
        member(archive, "l", b"evil")
        member(archive, "h", type=tarfile.LNKTYPE, linkname="inner")
        member(archive, "h", b"evil")

    root = tmp_path / "root"
    unpacked(tar(fill), root)
    assert (root / "inner").read_bytes() == b"precious"
    assert not (root / "l").is_symlink()


@pytest.mark.parametrize("target", ["../secret", "../../../../../../etc/passwd"])
def test_hard_links_to_outside(tmp_path: Path, outside: Path, target: str) -> None:
    refused(tar(lambda a: member(a, "h", type=tarfile.LNKTYPE, linkname=target)), tmp_path / "root")
    assert outside.stat().st_nlink == 1


def test_hard_links_to_absolute_names_and_through_links(tmp_path: Path, outside: Path) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        member(archive, "out", type=tarfile.SYMTYPE, linkname="/")
        member(archive, "h", type=tarfile.LNKTYPE, linkname="out" + str(outside))

    assert refused(tar(fill), tmp_path / "root").errno
    refused(tar(lambda a: member(a, "h", type=tarfile.LNKTYPE, linkname=str(outside))), tmp_path / "root2")
    assert outside.stat().st_nlink == 1


def test_a_device_behind_a_link_is_never_opened(tmp_path: Path) -> None:
    """A loop device stands for the host's disk."""
    disk = tmp_path / "disk"
    disk.write_bytes(b"\0" * 1_048_576)
    done = subprocess.run(["losetup", "--find", "--show", str(disk)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    loop = done.stdout.strip()
    try:
        number = os.stat(loop).st_rdev

        def fill(archive: tarfile.TarFile) -> None:
            numbers = {"devmajor": os.major(number), "devminor": os.minor(number)}
            member(archive, "disk", type=tarfile.BLKTYPE, mode=0o660, **numbers)
            member(archive, "l", type=tarfile.SYMTYPE, linkname="disk")
            member(archive, "l", b"evil")
            member(archive, "disk", b"evil")

        unpacked(tar(fill), tmp_path / "root")
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
    assert disk.read_bytes() == b"\0" * 1_048_576
    assert (tmp_path / "root/disk").read_bytes() == b"evil"


def test_a_fifo_as_parent_does_not_block(tmp_path: Path) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        member(archive, "p", type=tarfile.FIFOTYPE)
        member(archive, "p/file", b"x")

    refused(tar(fill), tmp_path / "root")


def test_huge_extended_headers_are_refused(tmp_path: Path) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        member(archive, "f", b"x", pax_headers={"comment": "x" * 5_000_000})

    assert "sensible" in refused(tar(fill), tmp_path / "root").message


@pytest.mark.parametrize(
    "damage",
    [
        lambda layer: b"",
        lambda layer: b"this is no archive at all" * 1000,
        lambda layer: layer[:512],
        lambda layer: layer[:2000],
        lambda layer: b"\x1f\x8b" + layer,
        lambda layer: layer[:100] + b"9" * 12 + layer[112:],
        lambda layer: layer[:148] + b"garbage!" + layer[156:],
    ],
)
def test_damage_is_told(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    layer = tar(lambda archive: member(archive, "f", b"x" * 5000))
    assert refused(damage(layer), tmp_path / "root").message.startswith("broken layer")


@pytest.mark.parametrize(
    "headers",
    [
        {"path": "a\0b"},
        {"mtime": "99999999999999999999"},
        {"mtime": "soon"},
        {"uid": "99999999999"},
        {"size": "-1"},
        {"GNU.sparse.map": "0,5,1", "GNU.sparse.size": "10"},
        {"GNU.sparse.map": "0,99", "GNU.sparse.size": "10"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10"},
        {"GNU.sparse.map": "9223372036854775800,5", "GNU.sparse.size": "9223372036854775807"},
        {"path": "x" * 300},
        {"SCHILY.xattr.": "x"},
    ],
)
def test_senseless_headers_are_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    refused(tar(lambda archive: member(archive, "f", b"12345", pax_headers=headers)), tmp_path / "root")


def test_the_host_s_mounts_stay_as_they_were(tmp_path: Path) -> None:
    before = Path("/proc/self/mounts").read_text()
    unpacked(tar(lambda archive: member(archive, "f", b"x")), tmp_path / "root")
    assert Path("/proc/self/mounts").read_text() == before


def test_a_tree_too_deep_to_be_replaced_is_refused(tmp_path: Path) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        member(archive, "d/" * 1900 + "file", b"x")
        member(archive, "d", b"x")

    answer = refused(tar(fill), tmp_path / "root")
    assert "recursion" in answer.message
    delete(str(tmp_path), "root")
