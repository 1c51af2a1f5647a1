"""The engine's use of the default bridge: made when the first container needs it, addresses handed out at
starts."""

from __future__ import annotations

import asyncio
import os
import secrets

import msgspec

from cloche.engine.records import Container, EndpointRecord
from cloche.launcher.client import Launcher
from cloche.network import bridge
from cloche.network.contract import Attachment, Endpoint


def on_bridge(mode: str) -> bool:
    """Whether a container of this network mode gets an address on the default bridge."""
    return mode in ("", "default", "bridge")


class Networking:
    """Which addresses are in use, and whether the bridge is up."""

    def __init__(self, name: str, subnet: str, launcher: Launcher) -> None:
        self._name = name
        self._subnet = subnet
        self._launcher = launcher
        self._used: dict[str, str] = {}
        self._last = ""
        self._bridge: bridge.Bridge | None = None
        self._making = asyncio.Lock()

    def find(self) -> bridge.Bridge:
        """The bridge that is there, or that the first container will make. Raises ``Conflict``,
        ``Unavailable``."""
        return self._bridge or bridge.find(self._name, self._subnet)

    async def allocate(self, id: str) -> EndpointRecord:
        """A free place on the bridge, which is made where it is not there yet. Raises ``Unavailable``."""
        if not self._is_up():
            async with self._making:
                if not self._is_up():
                    await self._make()
        endpoint = self.preview()
        self._used[endpoint.address] = id
        self._last = endpoint.address
        return endpoint

    def _is_up(self) -> bool:
        """Somebody may have deleted the link; then it is made again."""
        return self._bridge is not None and os.path.exists(f"/sys/class/net/{self._bridge.link}")

    async def _make(self) -> None:
        found = bridge.find(self._name, self._subnet)
        await self._launcher.run_plan(found.setup())
        self._bridge = found

    def preview(self) -> EndpointRecord:
        """The place that the next container will get."""
        token = secrets.token_hex(4)[:7]
        endpoint = self.find().endpoint(frozenset(self._used), self._last, token)
        return msgspec.convert(endpoint, EndpointRecord, from_attributes=True)

    def recover(self, container: Container) -> None:
        """The address of a container that was found running."""
        if container.endpoint:
            self._used[container.endpoint.address] = container.id

    def release(self, container: Container) -> None:
        endpoint = container.endpoint
        if endpoint and self._used.get(endpoint.address) == container.id:
            del self._used[endpoint.address]

    def attachment(self, endpoint: EndpointRecord | None) -> Attachment:
        """The steps of a container's network; none where it has no place on the bridge."""
        if endpoint is None:
            return Attachment((), ())
        return self.find().attach(msgspec.convert(endpoint, Endpoint, from_attributes=True))
