"""What ``explain`` tells before, during and after a run."""

from __future__ import annotations

import msgspec
from rig import Rig

from cloche.engine.records import ContainerConfig


async def test_a_plan_is_explained_without_making_anything(rig: Rig) -> None:
    config = ContainerConfig(image="busybox", command=("true",), memory=64 << 20)
    explanation = await rig.engine.containers.explain_config(config)
    assert explanation.trace is None
    steps = msgspec.json.decode(explanation.data)
    assert steps["container"][-1]["arguments"]["argv"] == ["true"]
    assert any(step["step"] == "CreateVeth" for step in steps["host"])
    assert str(64 << 20) in explanation.text
    assert explanation.shell.startswith("#!")
    assert rig.engine.containers.list() == []
    assert rig.left_over() == []


async def test_the_plan_that_ran_has_its_times_also_after_a_restart_of_the_daemon(rig: Rig) -> None:
    id = await rig.start("sleep", "60")
    before = await rig.engine.containers.explain(id)
    assert before.trace
    assert all(time.duration >= 0 for time in (*before.trace.host, *before.trace.container))
    await rig.reopen()
    after = await rig.engine.containers.explain(id)
    assert (after.text, after.trace) == (before.text, before.trace)
    await rig.remove(id)


async def test_what_would_run_is_what_runs(rig: Rig) -> None:
    created = await rig.create("true")
    would = await rig.engine.containers.explain(created.id)
    await rig.engine.containers.start(created.id)
    ran = await rig.engine.containers.explain(created.id)
    assert would.data != ran.data
    assert would.shell == ran.shell
    await rig.ended(created.id)
    await rig.remove(created.id)
