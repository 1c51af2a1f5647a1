"""Explaining a container: the plan that ran with its times, or the one that would run."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from cloche.engine import planning, validation
from cloche.engine.context import Context
from cloche.engine.create import describe
from cloche.engine.networking import on_bridge
from cloche.engine.records import Container, ContainerConfig, Explanation
from cloche.plan import codec, document, shell, text
from cloche.plan.plan import Plan
from cloche.plan.step import Step, Trace


async def explain(context: Context, ref: str) -> Explanation:
    """See ``Containers.explain``."""
    container = context.registry.get(ref)
    supervision = context.supervision(container.id)
    plan, trace = supervision.plan, supervision.trace
    if plan is None:
        kept = read(context, container.id)
        if kept is None:
            return _render(container, _would_run(context, container), None)
        plan, trace = kept
    return _render(container, plan, trace)


def read(context: Context, id: str) -> tuple[Plan, Trace] | None:
    """The plan of the last run and its times, as kept on disk; None where it never ran."""
    try:
        with open(context.paths.plan(id), "rb") as file:
            kept = msgspec.msgpack.decode(file.read(), type=tuple[msgspec.Raw, msgspec.Raw, Trace])
    except FileNotFoundError:
        return None
    return Plan(codec.decode(kept[0]), codec.decode(kept[1])), kept[2]


def _would_run(context: Context, container: Container) -> Plan:
    rootfs = context.snapshots.mounts(container.id, context.paths.rootfs)
    return _plan(context, container, rootfs)


def _plan(context: Context, container: Container, rootfs: tuple[Step, ...]) -> Plan:
    if on_bridge(container.config.network_mode) and container.endpoint is None:
        container = replace(container, endpoint=context.networking.preview())
    return planning.plan(context, container, rootfs, container.config.console_size)[0]


async def explain_config(context: Context, config: ContainerConfig) -> Explanation:
    """See ``Containers.explain_config``."""
    image = context.images.get(config.image)
    validation.check(config, context.layout)
    container = describe(context, config, image)
    rootfs = context.snapshots.preview(container.id, image.chain_id, context.paths.rootfs)
    return _render(None, _plan(context, container, rootfs), None)


def _render(container: Container | None, plan: Plan, trace: Trace | None) -> Explanation:
    return Explanation(
        container=container,
        text=text.render(plan, trace),
        shell=shell.render(plan),
        data=msgspec.Raw(document.render(plan, trace).encode()),
        trace=trace,
    )
