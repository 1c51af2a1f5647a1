"""A plan and its trace as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cloche.plan.plan import Plan
from cloche.plan.step import Step, StepTime, Trace


def render(plan: Plan, trace: Trace | None = None) -> str:
    """``{"host": [...], "container": [...]}``; each step with its fields, ``describe``, ``shell`` and, with
    a trace, ``begin`` and ``duration`` in nanoseconds (bytes are base64)."""
    document = {
        "host": _part(plan.host, trace.host if trace else ()),
        "container": _part(plan.container, trace.container if trace else ()),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _part(steps: Sequence[Step], times: Sequence[StepTime]) -> list[dict[str, Any]]:
    rows = []
    for index, step in enumerate(steps):
        row: dict[str, Any] = {"step": type(step).__name__, "describe": step.describe()}
        row["arguments"] = {name: getattr(step, name) for name in step.__struct_fields__}
        row["shell"] = step.shell()
        if index < len(times):
            row["begin"], row["duration"] = times[index].begin, times[index].duration
        rows.append(row)
    return rows
