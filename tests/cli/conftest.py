"""The ``cloche`` command against a daemon."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import Daemon


class Command:
    """``cloche`` with a daemon of the tests as its host."""

    def __init__(self, daemon: Daemon) -> None:
        self.environment = {**daemon.environment, "CLOCHE_HOST": f"unix://{daemon.socket}"}

    def line(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cloche.cli.main", *arguments]

    def __call__(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            self.line(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            **options,
        )

    def ok(self, *arguments: str, **options: Any) -> str:
        """A command that must succeed; its stdout without the last newline."""
        done = self(*arguments, **options)
        assert done.returncode == 0, f"cloche {' '.join(arguments)}: {done.returncode}\n{done.stderr}"
        return done.stdout.removesuffix("\n")


@pytest.fixture
def cloche(daemon: Daemon) -> Command:
    return Command(daemon)
