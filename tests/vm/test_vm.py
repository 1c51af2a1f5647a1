"""Cloche on machines that this one is not: cgroup v2 or v1 under systemd, Debian's kernel, a power cut.

Runs only with ``CLOCHE_VMLAB`` naming a directory with a command ``run`` that boots a virtual machine
(Debian 12, Python 3.11) with the folder of ``--share`` at /src and runs a command in it. The tests proper
are the ``guest_*.py`` beside this file; here they get the sources, the packages and the docker command."""

from __future__ import annotations

import compileall
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("aiohttp", "msgspec", "isal", "zstandard", "docker", "pytest", "pytest-asyncio", "hypothesis")
SECONDS = 1500
"""For one machine: emulated, it is up to eight times slower than this one."""

PYTEST = "python3 -m pytest -p no:cacheprovider --rootdir /src -c /src/pyproject.toml /src/tests/vm/"
PREPARE = "install /src/bin/docker /usr/local/bin/ && mkdir -p $TMPDIR"


@pytest.fixture(scope="session")
def lab() -> Path:
    directory = os.environ.get("CLOCHE_VMLAB")
    if not directory:
        pytest.skip("CLOCHE_VMLAB does not name a directory with a command `run` that boots a machine")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the guest has Python 3.11: it cannot use the packages of another version")
    if shutil.which("docker") is None:
        pytest.skip("needs the docker command, for the guest")
    return Path(directory)


@pytest.fixture(scope="session")
def share(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the guest sees as /src, byte code included: compiling is slow there."""
    share = tmp_path_factory.mktemp("share")
    for name in ("src", "tests"):
        shutil.copytree(PROJECT / name, share / name, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(share / name, quiet=1, stripdir=str(share), prependdir="/src")
    shutil.copy(PROJECT / "pyproject.toml", share)
    for file in files_of(PACKAGES):
        target = share / "deps" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file.locate(), target)
    (share / "bin").mkdir()
    shutil.copy(shutil.which("docker") or "", share / "bin/docker")
    return share


def files_of(names: tuple[str, ...]) -> Iterator[importlib.metadata.PackagePath]:
    """All files of these distributions and of those that they need, as far as they are installed."""
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop().lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += [re.split(r"[^A-Za-z0-9._-]", line)[0] for line in distribution.requires or ()]
        yield from (file for file in distribution.files or () if ".." not in file.parts)


def boot(lab: Path, share: Path, *options: str, command: str) -> None:
    """One machine. Its output passes through pytest's own descriptors, to be seen live with ``-s``."""
    environment = {
        "PYTHONPATH": "/src/src:/src/deps:/src",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Overlay needs a real file system under its upper directories.
        "TMPDIR": "/var/lib/cloche-test",
        "CLOCHE_TEST_PATIENCE": "8",
    }
    given = [word for key, value in environment.items() for word in ("--env", f"{key}={value}")]
    done = subprocess.run(
        [lab / "run", "--share", share, "--ro", "--timeout", str(SECONDS), *given, *options, "--", command],
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0


def test_cgroup_v2(lab: Path, share: Path) -> None:
    command = f"{PREPARE} && {PYTEST}guest_engine.py /src/tests/vm/guest_cgroup2.py --durations=8"
    boot(lab, share, "--env", "CLOCHE_TEST_CGROUP=2", command=command)


def test_cgroup_v1_under_systemd(lab: Path, share: Path) -> None:
    kernel = "systemd.unified_cgroup_hierarchy=0"
    command = f"{PREPARE} && {PYTEST}guest_engine.py /src/tests/vm/guest_cgroup1.py --durations=8"
    boot(lab, share, "--kernel-args", kernel, "--env", "CLOCHE_TEST_CGROUP=1", command=command)


def test_power_cut(lab: Path, share: Path) -> None:
    first, *others = (f"{PYTEST}guest_power_cut.py -k {name}" for name in ("before", "between", "after"))
    then = [word for command in others for word in ("--then", command)]
    boot(lab, share, "--reset", *then, command=f"{PREPARE} && {first}")
