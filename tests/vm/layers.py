"""Images of many layers."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from tests.conftest import Daemon


def layered(daemon: Daemon, name: str, count: int, archive: Path) -> None:
    """Load an image with ``count`` layers over busybox, each with a file of its own and a new version of
    one."""
    base = archive.with_suffix(".base")
    daemon.ok("save", "-o", str(base), "busybox")
    with tarfile.open(base) as saved, tarfile.open(archive, "w") as made:

        def add(path: str, data: bytes) -> None:
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            made.addfile(entry, io.BytesIO(data))

        def read(path: str) -> bytes:
            member = saved.extractfile(path)
            assert member is not None
            return member.read()

        manifest = json.loads(read("manifest.json"))[0]
        config = json.loads(read(manifest["Config"]))
        config["history"] = []
        layers = [read(path) for path in manifest["Layers"]]
        for number in range(count):
            layer = io.BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as tar:
                for path in (f"layers/{number}", "layers/newest"):
                    entry = tarfile.TarInfo(path)
                    entry.size = len(str(number))
                    tar.addfile(entry, io.BytesIO(str(number).encode()))
            layers.append(layer.getvalue())
            config["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(layer.getvalue()).hexdigest())
        for number, data in enumerate(layers):
            add(f"{number}/layer.tar", data)
        add("config.json", json.dumps(config).encode())
        paths = [f"{number}/layer.tar" for number in range(len(layers))]
        made_manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": paths}]
        add("manifest.json", json.dumps(made_manifest).encode())
    daemon.ok("load", "-i", str(archive))
