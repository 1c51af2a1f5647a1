"""The default bridge as a container lives with it, between throw-away network namespaces."""

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sandbox import forked

from cloche.kernel import namespaces, nftables
from cloche.kernel.netlink import Netlink
from cloche.network import bridge
from cloche.network.bridge import Bridge
from cloche.network.contract import Endpoint
from cloche.plan.execution import Execution, run_host
from cloche.plan.step import Step

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="network namespaces need root")

OUTSIDE = "198.51.100.2"
HOST = "198.51.100.1"


class Namespace:
    """A network namespace, held by a process that ends with the test."""

    def __init__(self) -> None:
        self._hold, hold = socket.socketpair()
        self.pid = namespaces.clone3(namespaces.CLONE_NEWNET)
        if self.pid == 0:
            self._hold.close()
            with Netlink() as netlink:
                netlink.set_up("lo")
            hold.send(b".")
            hold.recv(1)
            os._exit(0)
        hold.close()
        self._hold.recv(1)
        self.descriptor = os.open(namespaces.path(self.pid, "network"), os.O_RDONLY | os.O_CLOEXEC)

    def run(self, work: Callable[[], Any]) -> Any:
        def enter() -> Any:
            namespaces.setns(self.descriptor, namespaces.CLONE_NEWNET)
            return work()

        return forked(enter)

    def close(self) -> None:
        os.close(self.descriptor)
        self._hold.close()
        os.waitpid(self.pid, 0)


@contextmanager
def a_namespace() -> Iterator[Namespace]:
    namespace = Namespace()
    try:
        yield namespace
    finally:
        namespace.close()


def execute(steps: tuple[Step, ...], init: int = 0) -> None:
    """Steps one by one; ``init`` stands for the container's process."""
    run = Execution({})
    run.init_pid = init
    for step in steps:
        step.execute(run)


def attach(container: Namespace, box: Bridge, endpoint: Endpoint) -> None:
    attachment = box.attach(endpoint)
    execute(attachment.host, container.pid)
    container.run(lambda: execute(attachment.container))


def on_a_host(work: Callable[[Namespace], Any]) -> Any:
    """Call ``work`` on a host that has one link to an outside that has no route back."""

    def host() -> Any:
        with a_namespace() as outside, Netlink() as netlink:
            netlink.set_up("lo")
            netlink.add_bridge("up0")
            up0 = netlink.link_index("up0")
            netlink.add_address(up0, HOST, 24)
            netlink.set_up(up0)
            netlink.add_veth("up1", "eth0", outside.descriptor, up0, "02:42:c6:33:64:02")

            def there() -> None:
                with Netlink() as other:
                    eth0 = other.link_index("eth0")
                    other.add_address(eth0, OUTSIDE, 24)
                    other.set_up(eth0)

            outside.run(there)
            return work(outside)

    return forked(host, namespaces.CLONE_NEWNET)


def listen(address: str) -> socket.socket:
    server = socket.create_server((address, 0))
    server.settimeout(5)
    return server


def connect(address: tuple[str, int], timeout: float = 5) -> str:
    """The peer's view of where we come from, or what is in the way."""
    try:
        with socket.create_connection(address, timeout=timeout) as connection:
            return connection.makefile().readline()
    except OSError as error:
        return type(error).__name__


def answer_one(server: socket.socket) -> None:
    """Tell one client, from a forked process, what address it comes from."""
    if os.fork() == 0:
        try:
            # Whoever waits for the end of a pipe of ours must not wait for this process.
            kept = server.fileno()
            os.closerange(3, kept)
            os.closerange(kept + 1, 256)
            connection, peer = server.accept()
            connection.sendall(peer[0].encode())
        finally:
            os._exit(0)


def serve_in(namespace: Namespace, address: str) -> tuple[str, int]:
    def work() -> tuple[str, int]:
        server = listen(address)
        answer_one(server)
        name: tuple[str, int] = server.getsockname()
        return name

    where: tuple[str, int] = namespace.run(work)
    return where


def test_containers_reach_host_outside_and_each_other() -> None:
    def work(outside: Namespace) -> dict[str, str]:
        box = bridge.find("box", "")
        run_host(box.setup(), Execution({}))
        with a_namespace() as one, a_namespace() as two:
            first = box.endpoint(frozenset(), "", "0000001")
            second = box.endpoint(frozenset([first.address]), "", "0000002")
            attach(one, box, first)
            attach(two, box, second)
            host = listen("0.0.0.0")
            answer_one(host)
            port = host.getsockname()[1]
            world, neighbour = serve_in(outside, OUTSIDE), serve_in(two, second.address)
            hidden = serve_in(two, second.address)

            def intruder() -> str:
                with Netlink() as netlink:
                    netlink.add_route(HOST, "172.16.0.0", 12)
                return connect(hidden, timeout=0.5)

            return {
                "bridge": box.address,
                "host": one.run(lambda: connect((box.address, port))),
                "world": one.run(lambda: connect(world)),
                "neighbour": one.run(lambda: connect(neighbour)),
                "intruder": outside.run(intruder),
                "from host": connect(hidden),
            }

    found = on_a_host(work)
    assert found == {
        "bridge": "172.17.0.1",
        "host": "172.17.0.2",
        "world": HOST,
        "neighbour": "172.17.0.2",
        "intruder": "TimeoutError",
        "from host": "172.17.0.1",
    }


def test_setting_up_again_changes_nothing_for_who_is_there() -> None:
    def work(outside: Namespace) -> tuple[str, str, str, str]:
        box = bridge.find("box", "10.77.0.1/24")
        run_host(box.setup(), Execution({}))
        rules = nftables.apply("list table ip box")
        with a_namespace() as container:
            attach(container, box, box.endpoint(frozenset(), "", "0000001"))
            again = bridge.find("box", "")
            assert again == box
            run_host(again.setup(), Execution({}))
            world = serve_in(outside, OUTSIDE)
            addresses = subprocess.run(
                ["ip", "-j", "-4", "address", "show", "box0"], capture_output=True
            ).stdout
            (link,) = json.loads(addresses)
            local = ",".join(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"])
            return rules, nftables.apply("list table ip box"), local, container.run(lambda: connect(world))

    before, after, addresses, source = on_a_host(work)
    assert "masquerade" in before
    assert before == after
    assert addresses == "10.77.0.1/24"
    assert source == HOST


def test_teardown_removes_all_of_it() -> None:
    def work(outside: Namespace) -> tuple[list[str], str]:
        box = bridge.find("box", "")
        run_host(box.setup(), Execution({}))
        for _ in range(2):
            run_host(box.teardown(), Execution({}))
        with Netlink() as netlink:
            return [link.name for link in netlink.links()], nftables.apply("list ruleset")

    assert on_a_host(work) == (["lo", "up0", "up1"], "")


def test_a_link_of_that_name_that_is_no_bridge() -> None:
    def work(outside: Namespace) -> str:
        subprocess.run(["ip", "link", "add", "box0", "type", "veth"], check=True)
        try:
            run_host(bridge.find("box", "").setup(), Execution({}))
        except Exception as error:
            return str(error)
        return ""

    assert "not a bridge" in on_a_host(work)


def test_two_engines_side_by_side() -> None:
    def work(outside: Namespace) -> tuple[str, str, str]:
        first = bridge.find("box", "")
        run_host(first.setup(), Execution({}))
        second = bridge.find("cask", "")
        run_host(second.setup(), Execution({}))
        run_host(first.teardown(), Execution({}))
        with a_namespace() as container:
            attach(container, second, second.endpoint(frozenset(), "", "0000001"))
            world = serve_in(outside, OUTSIDE)
            return first.address, second.address, container.run(lambda: connect(world))

    assert on_a_host(work) == ("172.17.0.1", "172.18.0.1", HOST)
