"""The engine: what the doors call. Every verb is async, raises ``cloche.errors`` and returns frozen
records."""

from __future__ import annotations

import fcntl
import os
import resource

from cloche.content.store import ContentStore
from cloche.engine import info, recovery
from cloche.engine.containers import Containers
from cloche.engine.context import Context, Paths
from cloche.engine.events import Events
from cloche.engine.images import Images
from cloche.engine.records import EngineInfo
from cloche.engine.settings import Settings
from cloche.errors import Unavailable
from cloche.images.store import ImageStore
from cloche.launcher.client import Launcher
from cloche.snapshots.overlay2 import Overlay2
from cloche.state.store import Store


class Engine:
    """One engine on one root. ``start`` it before anything else; afterwards it has ``containers``,
    ``images`` and ``events``."""

    containers: Containers
    images: Images
    events: Events

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._paths = Paths(settings)
        self._lock = -1
        self._id = ""

    async def start(self) -> None:
        """Open the state, start the launcher, find the running containers again. Raises ``Unavailable``
        where another engine has the root."""
        self._paths.make()
        self._take_root()
        store = Store(self._paths.state)
        launcher = await Launcher.start()
        _allow_descriptors()
        snapshots = Overlay2(self._paths.snapshots, self._paths.trash)
        images = ImageStore(store, ContentStore(self._paths.content), snapshots, launcher)
        self._id = info.engine_id(store)
        self._context = Context(self.settings, self._paths, store, snapshots, images, launcher)
        self.containers = Containers(self._context)
        self.images = Images(self._context)
        self.events = self._context.events
        await recovery.recover(self._context)

    def _take_root(self) -> None:
        """Two engines on one root would undo each other's work."""
        self._lock = os.open(f"{self._paths.root}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = -1
            raise Unavailable(
                f"another engine uses {self._paths.root}: stop it, or give this one another --root"
            ) from None

    async def close(self) -> None:
        """Let go; containers run on. Harmless when it is closed already."""
        if self._lock < 0:
            return
        await self._context.close()
        await self._context.launcher.close()
        self._context.store.close()
        os.close(self._lock)
        self._lock = -1

    def info(self) -> EngineInfo:
        """What the engine says of itself, of its containers and of the machine."""
        return info.info(self._context, self._id)


def _allow_descriptors() -> None:
    """As many as may be: each running container and each client holds one, and the usual 1024 are few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
