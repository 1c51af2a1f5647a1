"""The command starts quickly because it loads little; that can be checked without a clock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = {
    "argparse",
    "asyncio",
    "enum",
    "json",
    "inspect",
    "msgspec",
    "re",
    "select_",
    "socket",
    "subprocess",
    "typing",
}
SOURCE = Path(__file__).parents[2] / "src"


def loaded(argv: list[str]) -> set[str]:
    """Modules that a command has loaded at its end, in an interpreter that starts as the script does."""
    script = (
        f"import sys; sys.path.append({str(SOURCE)!r})\n"
        "from cloche.cli import main\n"
        f"code = main._guarded({argv!r})\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split("\n")[-1].split())


@pytest.mark.parametrize(
    "argv",
    [
        ["--version"],
        ["version"],
        ["-H", "unix:///nowhere.sock", "ps"],
        ["-H", "unix:///nowhere.sock", "run", "--rm", "-m", "64m", "busybox", "true"],
        ["-H", "unix:///nowhere.sock", "images"],
        ["-H", "unix:///nowhere.sock", "explain", "x"],
    ],
    ids=lambda argv: argv[-1],
)
def test_nothing_slow_is_loaded(argv: list[str]) -> None:
    modules = loaded(argv)
    assert "cloche.cli.main" in modules
    assert modules & SLOW == set()
