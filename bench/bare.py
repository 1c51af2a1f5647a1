"""Containers without an engine: the OCI runtimes by themselves, and the kernel's floor (floor.c)."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
from pathlib import Path

from bench.engines import archive


def root_directory(directory: Path) -> Path:
    """The image's files, as a directory."""
    root = directory / "rootfs"
    root.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive())) as tar:
        tar.extractall(root)
    return root


def command_time(command: list[str]) -> float:
    """Milliseconds that a command takes. Raises ``RuntimeError`` where it fails."""
    with open(os.devnull, "r+b") as nothing:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE)
        _, errors = process.communicate()
        elapsed = (time.perf_counter() - began) * 1e3
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors.decode()[-500:]}")
    return elapsed


class Runtime:
    """``crun`` or ``runc``: ``run`` of one bundle, with the namespaces that Docker gives."""

    def __init__(self, program: str, directory: Path) -> None:
        self.program = program
        self.name = Path(program).name
        self.bundle = directory / self.name
        self.state = directory / f"{self.name}-state"
        self.count = 0
        root_directory(self.bundle)
        subprocess.run([program, "spec"], cwd=self.bundle, check=True)
        path = self.bundle / "config.json"
        config = json.loads(path.read_text())
        config["process"] |= {"args": ["true"], "terminal": False}
        config["linux"]["cgroupsPath"] = f"/cloche-bench-{self.name}-{os.getpid()}"
        path.write_text(json.dumps(config))

    def run(self) -> float:
        self.count += 1
        name = f"cloche-bench-{os.getpid()}-{self.count}"
        return command_time(
            [self.program, "--root", str(self.state), "run", "--bundle", str(self.bundle), name]
        )

    def version(self) -> str:
        output = subprocess.run([self.program, "--version"], capture_output=True, text=True)
        return output.stdout.splitlines()[0]


class Floor:
    """The compiled ``floor.c``; one process for all rounds."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        program = directory / "floor"
        source = Path(__file__).parent / "floor.c"
        subprocess.run(["cc", "-O2", "-Wall", "-o", program, source], check=True)
        root = root_directory(directory / "floor-lower")
        self.process = subprocess.Popen(
            [program, root, directory / "floor-scratch", f"cloche-bench-floor-{os.getpid()}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("floor ended; its error is above")
        return float(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
