"""One container's life over the API, and its four times."""

from __future__ import annotations

import itertools
import threading
import time
from typing import NamedTuple

from cloche.cli.client import Client

PROGRAM = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
IDLE = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}


class Life(NamedTuple):
    """Milliseconds."""

    create: float
    start: float
    wait: float
    remove: float

    @property
    def total(self) -> float:
        return sum(self)


def live(client: Client) -> Life:
    """Create, start, wait for and remove a container that runs ``true``."""
    times = [time.perf_counter()]
    container = client.call("POST", "/containers/create", PROGRAM)["Id"]
    times.append(time.perf_counter())
    client.call("POST", f"/containers/{container}/start")
    times.append(time.perf_counter())
    code = client.call("POST", f"/containers/{container}/wait")["StatusCode"]
    times.append(time.perf_counter())
    client.call("DELETE", f"/containers/{container}")
    times.append(time.perf_counter())
    if code != 0:
        raise RuntimeError(f"true ended with {code}")
    return Life(*((end - begin) * 1e3 for begin, end in itertools.pairwise(times)))


def rate(clients: list[Client], seconds: float) -> float:
    """Containers per second of so many clients at once, over ``seconds``."""
    counts = [0] * len(clients)
    failures: list[BaseException] = []
    began = time.perf_counter()

    def work(index: int) -> None:
        try:
            while time.perf_counter() - began < seconds:
                live(clients[index])
                counts[index] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts) / (time.perf_counter() - began)


def start_idle(client: Client, count: int) -> list[str]:
    """Ids of ``count`` running containers that sleep."""
    containers = []
    for _ in range(count):
        containers.append(client.call("POST", "/containers/create", IDLE)["Id"])
        client.call("POST", f"/containers/{containers[-1]}/start")
    return containers


def remove(client: Client, containers: list[str]) -> None:
    for container in containers:
        client.call("DELETE", f"/containers/{container}?force=1")
