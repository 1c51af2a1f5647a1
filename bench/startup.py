"""``bench/start``: the rounds, and the table of their medians."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import life, memory
from bench.bare import Floor, Runtime, command_time
from bench.engines import ENGINES, Cloche, Engine, running

QUIET = 0.06
"""Seconds before each measurement: the kernel's first cgroup attach after quiet waits for an RCU grace
period, and everyone is to meet it alike."""
IDLE = 20
"""Containers that run while memory is looked at."""
CLIENTS = 8

Samples = dict[str, dict[str, list[float]]]
"""Row of the table -> contender -> what was measured."""


class Bench:
    def __init__(self, engines: list[Engine], runtimes: list[Runtime], floor: Floor) -> None:
        self.engines = engines
        self.runtimes = runtimes
        self.floor = floor
        self.samples: Samples = {}

    def add(self, row: str, contender: str, value: float) -> None:
        self.samples.setdefault(row, {}).setdefault(contender, []).append(value)

    def lives(self) -> None:
        """One life in each engine, and one turn of the kernel's floor."""

        def one(engine: Engine) -> None:
            times = life.live(engine.client)
            for name, value in zip(times._fields, times, strict=True):
                self.add(f"API, network none: {name}, ms", engine.name, value)
            self.add("API, network none: the four together, ms", engine.name, times.total)

        def bare() -> None:
            self.add("API, network none: the four together, ms", "kernel floor", self.floor.run())

        self._in_turns([*((lambda e=engine: one(e)) for engine in self.engines), bare])

    def commands(self) -> None:
        """One ``run --rm`` by each command."""
        row = "`run --rm --network none busybox true`, ms"

        def one(name: str, command: list[str]) -> None:
            self.add(row, name, command_time(command))

        turns: list[Callable[[], None]] = []
        for engine in self.engines:
            turns.append(lambda e=engine: one(e.name, e.run_command()))  # type: ignore[misc]
            if isinstance(engine, Cloche):
                turns.append(lambda e=engine: one("cloche's own command", e.own_command()))  # type: ignore[misc]
        for runtime in self.runtimes:
            turns.append(lambda r=runtime: self.add(row, r.name, r.run()))  # type: ignore[misc]
        self._in_turns(turns)

    def _in_turns(self, turns: list[Callable[[], None]]) -> None:
        for turn in turns:
            time.sleep(QUIET)
            turn()

    def rates(self, seconds: float) -> None:
        for clients in (1, CLIENTS):
            row = f"containers per second, {clients} client{'s' if clients > 1 else ''}"
            for engine in self.engines:
                self.add(row, engine.name, life.rate([engine.client for _ in range(clients)], seconds))

    def memory(self) -> None:
        for engine in self.engines:
            daemon = self._processes(engine)
            self.add("daemon (all its processes) idle, PSS, MiB", engine.name, sum(map(memory.pss, daemon)))
            self.add("daemon (all its processes) idle, RSS, MiB", engine.name, sum(map(memory.rss, daemon)))
            # What the daemon loads for its first container is not each container's.
            life.remove(engine.client, life.start_idle(engine.client, 1))
            time.sleep(1.0)
            before = sum(map(memory.pss, self._processes(engine)))
            containers = life.start_idle(engine.client, IDLE)
            time.sleep(1.0)
            after = sum(map(memory.pss, self._processes(engine)))
            self.add(
                f"engine's processes per idle container ({IDLE} run), PSS, MiB",
                engine.name,
                (after - before) / IDLE,
            )
            life.remove(engine.client, containers)

    @staticmethod
    def _processes(engine: Engine) -> list[int]:
        """All of an engine's own: the daemon's family and what stands beside containers."""
        assert engine.process is not None
        family, directory = memory.family(engine.process.pid), str(engine.directory)
        return [
            pid for pid in memory.pids() if memory.on_host(pid) and memory.belongs(pid, directory, family)
        ]

    def restarts(self, times: int) -> None:
        for _ in range(times):
            for engine in self.engines:
                self.add("daemon: start to first `_ping`, ms", engine.name, engine.seconds_to_ping * 1e3)
                engine.stop()
                shutil.rmtree(engine.directory / "run", ignore_errors=True)
                engine.start()


def table(samples: Samples, contenders: list[str]) -> str:
    """Medians, and in brackets how many times Cloche's value that is."""
    lines = ["| | " + " | ".join(contenders) + " |", "| --- |" + " ---: |" * len(contenders)]
    for row, values in samples.items():
        ours = statistics.median(values["cloche"])
        cells = []
        for contender in contenders:
            if contender not in values:
                cells.append("")
                continue
            median = statistics.median(values[contender])
            ratio = f" ({median / ours:.2g}x)" if contender != "cloche" and ours else ""
            cells.append((f"{median:.0f}" if median >= 100 else f"{median:.3g}") + ratio)
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(bench: Bench, rounds: int, arguments: list[str]) -> str:
    contenders = [engine.name for engine in bench.engines]
    contenders[1:1] = ["cloche's own command"]
    contenders += [runtime.name for runtime in bench.runtimes] + ["kernel floor"]
    versions = [engine.version() for engine in bench.engines] + [
        runtime.version() for runtime in bench.runtimes
    ]
    version = "; ".join(versions)
    return f"""# Starting containers

Medians of {rounds} rounds; in each round everyone had a turn, after {QUIET * 1e3:.0f} ms of quiet.
In brackets: how many times Cloche's value. Only the ratios mean anything elsewhere.

Made by `bench/start {shlex.join(arguments)}`, {time.strftime("%Y-%m-%d")}, Linux {os.uname().release},
{os.cpu_count()} processors. {version}.

{table(bench.samples, contenders)}

- *API*: one client, raw HTTP over the unix socket; the container runs `true` from a static busybox.
- *kernel floor*: `bench/floor.c`, the same namespaces, cgroups, mounts and exec without an engine,
  made and removed.
- `run --rm`: by the `docker` command against cloche and dockerd, by podman's own; crun and runc run a
  ready bundle.
- *engine's processes per idle container*: what all processes of the engine take more than without
  containers.
- dockerd and podman have no network to set up (`--bridge none`); dockerd's processes include containerd's.
"""


def measure(bench: Bench, rounds: int, seconds: float) -> None:
    bench.memory()
    for count in range(rounds):
        print(f"\rround {count + 1} of {rounds}", end="", file=sys.stderr, flush=True)
        bench.lives()
        bench.commands()
    print(file=sys.stderr)
    bench.rates(seconds)
    bench.restarts(5)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each rate")
    parser.add_argument(
        "--peers", default="dockerd,podman,crun,runc", help="those of these that are installed"
    )
    parser.add_argument("--output", type=Path, default=Path("bench/results/start.md"))
    options = parser.parse_args()
    peers = options.peers.split(",")
    with contextlib.ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp", prefix="cloche-bench-"))
        )
        engines = [
            stack.enter_context(running(kind(directory / kind.name)))
            for kind in ENGINES
            if kind is Cloche or (kind.name in peers and os.path.exists(kind.program))
        ]
        runtimes = [
            Runtime(program, directory)
            for program in ("/usr/bin/crun", "/usr/sbin/runc")
            if Path(program).name in peers and os.path.exists(program)
        ]
        floor = stack.enter_context(contextlib.closing(Floor(directory)))
        bench = Bench(engines, runtimes, floor)
        measure(bench, options.rounds, options.seconds)
        text = report(bench, options.rounds, sys.argv[1:])
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
