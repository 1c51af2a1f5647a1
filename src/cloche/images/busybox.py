"""The embedded default image: with no registry at hand ``cloche run busybox`` works all the same.

It is made from the host's static busybox (Debian's package ``busybox-static``). The image's time is that of
the binary, so that the same busybox gives the same image id on every machine."""

from __future__ import annotations

import asyncio
import os

from cloche.content.store import Ingest
from cloche.errors import NotFound, Unavailable
from cloche.images import elf
from cloche.images.imports import made
from cloche.images.layer_writer import LayerWriter
from cloche.images.model import Image, ImageRuntimeConfig
from cloche.images.store import ImageStore

NAME = "busybox:latest"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CANDIDATES = ("/bin/busybox", "/usr/bin/busybox", "/bin/busybox-static", "/usr/local/bin/busybox")

_FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\n"
        "sys:x:3:3:sys:/dev:/bin/false\nsync:x:4:100:sync:/bin:/bin/sync\nmail:x:8:8:mail:/var/spool/mail:/bin/false\n"
        "www-data:x:33:33:www-data:/var/www:/bin/false\noperator:x:37:37:Operator:/var:/bin/false\n"
        "nobody:x:65534:65534:nobody:/home:/bin/false\n"
    ),
    "etc/group": (
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nmail:x:8:\nwheel:x:10:root\n"
        "audio:x:29:\nwww-data:x:33:\noperator:x:37:\nvideo:x:44:\nstaff:x:50:\nusers:x:100:\nnobody:x:65534:\n"
    ),
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/shadow": "root:*:10933:0:99999:7:::\nnobody:*:10933:0:99999:7:::\n",
    "etc/shells": "/bin/sh\n/bin/ash\n",
}


async def ensure_default(store: ImageStore) -> Image:
    """``busybox:latest``, made where it is not there yet. Raises ``Unavailable`` without a static
    busybox."""
    try:
        return store.get(NAME)
    except NotFound:
        pass
    binary = _find()
    applets = await _applets(binary)
    mtime = int(os.stat(binary).st_mtime)

    def write(ingest: Ingest) -> None:
        _write(LayerWriter(ingest, mtime), binary, applets)

    config = ImageRuntimeConfig(Cmd=["sh"], Env=[PATH])
    return await made(store, write, NAME, config, "Made from the host's static busybox", mtime * 10**9)


def _find() -> str:
    for path in _CANDIDATES:
        try:
            if not elf.read(path).interpreter:
                return os.path.realpath(path)
        except (OSError, elf.NotElf):
            continue
    raise Unavailable(
        "the default image needs a static busybox, and this host has none: install one "
        "(apt install busybox-static), or load or import an image"
    )


async def _applets(binary: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        binary, "--list", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return sorted(name for name in output.decode().split() if "/" not in name and name != "busybox")


def write_base(layer: LayerWriter) -> None:
    """The directories and files of /etc that programs expect, where the layer has none of that name yet."""
    directories = ("dev", "etc", "home", "proc", "sys", "usr/bin", "usr/sbin", "var/spool/mail", "var/www")
    for name in directories:
        layer.directory(name)
    layer.directory("root", 0o700)
    layer.directory("tmp", 0o1777)
    layer.directory("var/tmp", 0o1777)
    for name, text in _FILES.items():
        if not layer.has(name):
            layer.data(name, text.encode(), 0o640 if name == "etc/shadow" else 0o644)


def _write(layer: LayerWriter, binary: str, applets: list[str]) -> None:
    write_base(layer)
    layer.copy("bin/busybox", binary)
    for applet in applets:
        layer.symlink(f"bin/{applet}", "busybox")
    layer.symlink("usr/bin/env", "../../bin/busybox")
    layer.finish()
