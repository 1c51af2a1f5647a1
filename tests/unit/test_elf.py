import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from cloche.images import elf


@pytest.mark.skipif(not shutil.which("readelf"), reason="readelf (binutils) is not here")
def test_the_same_as_readelf_says() -> None:
    for path in ("/bin/ls", "/bin/bash", os.path.realpath("/usr/bin/python3")):
        dynamic = subprocess.run(["readelf", "-dlW", path], capture_output=True, text=True).stdout
        libraries = [line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "(NEEDED)" in line]
        found = elf.read(path)
        assert list(found.needed) == libraries
        assert f"interpreter: {found.interpreter}]" in dynamic


def test_damage_and_other_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = Path("/bin/ls").read_bytes()
    huge = whole[:32] + struct.pack("<Q", 1 << 62) + whole[40:]
    for content in (b"", b"#!/bin/sh\n", whole[:40], whole[:70], huge):
        path.write_bytes(content)
        with pytest.raises(elf.NotElf):
            elf.read(str(path))
