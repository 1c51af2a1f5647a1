"""Links, addresses and routes between a container and a bridge, in a network namespace of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from box import BUSYBOX, NAMESPACES, PROC, Box
from sandbox import forked

from cloche.kernel.namespaces import CLONE_NEWNET
from cloche.kernel.netlink import Netlink
from cloche.plan import execution
from cloche.plan.step import Step, StepError
from cloche.plan.steps import (
    AddRoute,
    ApplyNftables,
    Await,
    BringUpLoopback,
    Clone,
    CreateBridge,
    CreateVeth,
    DeleteLink,
    SetAddress,
    SetHostname,
    Signal,
)

pytestmark = pytest.mark.skipif(os.getuid() != 0 or not BUSYBOX.exists(), reason="needs root and busybox")

BRIDGE = CreateBridge("ctb0", "192.0.2.1", 24, "02:00:00:00:00:01")
VETH = CreateVeth("ctv0", "eth0", "ctb0", "02:42:c0:00:02:02")
HOST = (Clone(NAMESPACES), VETH, Signal("linked"))
CONTAINER = (Await("linked"), SetAddress("eth0", "192.0.2.2", 24), AddRoute("192.0.2.1"))


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def on_host(*steps: Step) -> None:
    execution.run_host(steps, execution.Execution({}))


def links() -> set[str]:
    with Netlink() as netlink:
        return {link.name for link in netlink.links()}


def test_a_container_on_a_bridge(box: Box) -> None:
    def work() -> tuple[str, set[str]]:
        on_host(BRIDGE)
        on_host(BRIDGE)
        script = "ip -o addr show eth0; ip route; ip -o link show eth0; ip -o link show lo"
        result = box.run(PROC, BringUpLoopback(), *CONTAINER, script=script, host=HOST)
        on_host(DeleteLink("ctb0"), DeleteLink("ctb0"))
        return result.output, links()

    output, left = forked(work, CLONE_NEWNET)
    assert "inet 192.0.2.2/24 brd 192.0.2.255" in output
    assert "default via 192.0.2.1 dev eth0" in output
    assert "02:42:c0:00:02:02" in output
    assert output.count(",UP") == 2
    assert "ctb0" not in left


def test_a_failure_takes_the_link_away(box: Box) -> None:
    def work() -> tuple[str, set[str]]:
        on_host(BRIDGE)
        with pytest.raises(StepError) as caught:
            box.run(Await("linked"), SetHostname("x" * 65), script="true", host=HOST)
        return caught.value.failure.step, links()

    assert forked(work, CLONE_NEWNET) == ("SetHostname", {"lo", "ctb0"})


def test_what_is_missing_is_said(box: Box) -> None:
    def work() -> list[str]:
        hints = []
        attempts = ((HOST, CONTAINER), ((Clone(NAMESPACES),), (AddRoute("192.0.2.1"),)))
        for host, container in attempts:
            with pytest.raises(StepError) as caught:
                box.run(*container, script="true", host=host)
            hints.append(caught.value.failure.hint)
        return hints

    assert forked(work, CLONE_NEWNET) == [
        "there is no bridge ctb0",
        "the gateway is in no network of a link that is up",
    ]


def test_a_link_in_the_bridges_place() -> None:
    def work() -> str:
        on_host(CreateBridge("ctb1", "192.0.2.9", 24))
        with pytest.raises(StepError) as caught:
            on_host(CreateBridge("lo", "192.0.2.1", 24))
        return caught.value.failure.message

    assert forked(work, CLONE_NEWNET) == "link lo exists and is a device, not a bridge"


def test_rules_and_a_mistake_in_them() -> None:
    def work() -> str:
        on_host(ApplyNftables("ip cloche-test", "table ip cloche-test {\n chain c {\n }\n}\n"))
        with pytest.raises(StepError) as caught:
            on_host(ApplyNftables("ip cloche-test", "table ip cloche-test { chain"))
        return caught.value.failure.message

    assert "syntax error" in forked(work, CLONE_NEWNET)
