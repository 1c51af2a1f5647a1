"""What the launcher may import: its memory is paid once for each container's monitor."""

import subprocess
import sys
from pathlib import Path

import msgspec

import cloche

SOURCES = Path(cloche.__file__).parent
PATHS = [str(SOURCES.parent), str(Path(msgspec.__file__).parent.parent)]

FORBIDDEN = {
    "asyncio",
    "concurrent",
    "dataclasses",
    "email",
    "http",
    "json",
    "logging",
    "multiprocessing",
    "pathlib",
    "shutil",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "urllib",
    "hashlib",
    "aiohttp",
    "sqlite3",
    "cloche.runtime",
    "cloche.content",
    "cloche.snapshots",
    "cloche.state",
    "cloche.images",
    "cloche.engine",
}


def modules(*packages: str) -> list[str]:
    """Every module of these packages, by its file."""
    return sorted(
        ".".join((*file.parent.relative_to(SOURCES.parent).parts, file.stem)).removesuffix(".__init__")
        for package in packages
        for file in (SOURCES / package).rglob("*.py")
    )


def imported(names: list[str]) -> set[str]:
    """What a bare interpreter has loaded after importing these."""
    code = f"import sys; sys.path[:0] = {PATHS}; before = set(sys.modules)\n"
    code += "".join(f"import {name}\n" for name in names)
    code += "print('\\n'.join(set(sys.modules) - before))"
    command = [sys.executable, "-I", "-S", "-c", code]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_what_the_launcher_is_made_of_imports_little() -> None:
    assert imported(modules("kernel", "cgroups", "plan", "monitor")) & FORBIDDEN == set()


def test_the_launcher_imports_little() -> None:
    assert imported(["cloche.launcher.server"]) & FORBIDDEN == set()


def test_the_planner_does_not_load_libseccomp() -> None:
    code = f"import sys; sys.path[:0] = {PATHS}; import cloche.runtime.planner\n"
    code += "print(open('/proc/self/maps').read())"
    command = [sys.executable, "-I", "-S", "-c", code]
    assert "libseccomp" not in subprocess.run(command, capture_output=True, text=True, check=True).stdout
