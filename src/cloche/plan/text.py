"""A plan, and where its milliseconds went, as text for people."""

from __future__ import annotations

import re

from cloche.plan.plan import Plan
from cloche.plan.step import Step, StepTime, Trace
from cloche.plan.steps import cgroup, files, mount, network, privileges, process

_CONCERNS = {
    cgroup.__name__: "cgroups",
    files.__name__: "devices and paths",
    mount.__name__: "mounts",
    network.__name__: "network",
    privileges.__name__: "user and privileges",
    process.__name__: "process",
}
_OWN_ROW = ("Clone", "Await", "Exec")
"""Steps whose time is not spent on a concern: forking, waiting for the other side, becoming the program."""


_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
"""A container's id, of which people need the beginning."""


def render(plan: Plan, trace: Trace | None = None) -> str:
    """One line for each step; with a trace, when it began and how long it took, and a summary."""
    steps = (*plan.host, *plan.container)
    width = max((len(type(step).__name__) for step in steps), default=0)
    start = min((time.begin for time in (*trace.host, *trace.container)), default=0) if trace else 0
    lines = []
    for side, part, times in _sides(plan, trace):
        if not part:
            continue
        lines.append(f"{side}{'   at ms   took ms' if trace else ''}")
        for index, step in enumerate(part):
            clock = _clock(times[index], start) if index < len(times) else " " * 18 if trace else ""
            described = _ID.sub(r"\1…", step.describe())
            lines.append(f"  {clock}{type(step).__name__:<{width}}  {described}".rstrip())
    if trace:
        lines += ["", *_summary(plan, trace, start)]
    return "\n".join(lines) + "\n"


def _sides(
    plan: Plan, trace: Trace | None
) -> tuple[tuple[str, tuple[Step, ...], tuple[StepTime, ...]], ...]:
    return (
        ("host     ", plan.host, trace.host if trace else ()),
        ("container", plan.container, trace.container if trace else ()),
    )


def _clock(time: StepTime, start: int) -> str:
    return f"{(time.begin - start) / 1e6:8.3f}  {time.duration / 1e6:8.3f}  "


def _summary(plan: Plan, trace: Trace, start: int) -> list[str]:
    """Milliseconds by concern and side. The sides run at the same time, so the sums exceed the whole."""
    spent: dict[str, list[int]] = {}
    for side, (_, part, times) in enumerate(_sides(plan, trace)):
        for step, time in zip(part, times, strict=False):
            name = type(step).__name__
            concern = name if name in _OWN_ROW else _CONCERNS[type(step).__module__]
            spent.setdefault(concern, [0, 0])[side] += time.duration
    end = max((time.begin + time.duration for time in (*trace.host, *trace.container)), default=start)
    lines = [f"{'where the time went, ms':<24}{'host':>9}{'container':>11}"]
    for concern, (host, container) in sorted(spent.items(), key=lambda row: -sum(row[1])):
        lines.append(f"  {concern:<22}{host / 1e6:9.3f}{container / 1e6:11.3f}")
    lines.append(f"  {'from first to last':<22}{(end - start) / 1e6:9.3f}")
    return lines
