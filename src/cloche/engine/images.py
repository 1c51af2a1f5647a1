"""The verbs on images: those of ``cloche.images``, with events, and with an eye on containers that use
one."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cloche.engine.context import Context, is_running
from cloche.images import busybox, from_host, imports, load, save
from cloche.images.model import Image
from cloche.images.reference import familiar


class Images:
    """``engine.images``."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.images

    def get(self, ref: str) -> Image:
        """By reference, id or unique id prefix. Raises ``NotFound``."""
        return self._store.get(ref)

    async def load(self, archive: AsyncIterator[bytes]) -> AsyncIterator[str]:
        """``docker load`` (docker-archive and OCI layout tars, compressed or not); yields ``Loaded image:
        ...`` lines. Raises ``InvalidArgument`` for a broken archive."""
        async for loaded in load.load(self._store, archive):
            self._event("load", loaded.image.id, loaded.reference or loaded.image.id)
            yield loaded.line()

    async def import_(
        self, stream: AsyncIterator[bytes], ref: str, changes: list[str], message: str, platform: str
    ) -> Image:
        """``docker import``. Raises ``InvalidArgument``."""
        image = await imports.import_(self._store, stream, ref, changes, message, platform)
        self._event("import", image.id, ref or image.id)
        return image

    def save(self, refs: list[str]) -> AsyncIterator[bytes]:
        """``docker save``: an archive's bytes. Raises ``NotFound`` at once."""
        for ref in refs:
            image = self._store.get(ref)
            self._event("save", image.id, ref)
        return save.save(self._store, refs)

    async def tag(self, ref: str, repository: str, tag: str) -> None:
        """Name an image. Raises ``NotFound``, ``InvalidArgument``."""
        image = await self._store.tag(ref, repository, tag)
        self._event("tag", image.id, f"{repository}:{tag or 'latest'}")

    async def remove(self, ref: str, force: bool, prune: bool) -> list[tuple[str, str]]:
        """Pairs (``Untagged``|``Deleted``, what). Raises ``Conflict`` while a container uses it."""
        image = self._store.get(ref)
        removed = await self._store.remove(ref, force, self._users)
        for what, name in removed:
            if what == "Untagged":
                self._event("untag", image.id, name)
            elif name == image.id:
                self._event("delete", image.id, image.id)
        self._context.trash.collect_soon()
        return removed

    def _users(self, id: str) -> list[tuple[str, bool]]:
        return [(each.id, is_running(each)) for each in self._context.registry.made_from(id)]

    def history(self, ref: str) -> list[dict[str, object]]:
        """Docker's rows: Id, Created, CreatedBy, Tags, Size, Comment."""
        return self._store.history(ref)

    async def from_host(self, name: str, commands: list[str]) -> Image:
        """An image of host commands with what they need, found by reading ELF headers."""
        image = await from_host.from_host(self._store, name, commands)
        self._event("import", image.id, name)
        return image

    async def ensure_default(self) -> Image:
        """``busybox:latest`` from the host's static busybox where it is not there yet."""
        return await busybox.ensure_default(self._store)

    def _event(self, action: str, id: str, name: str) -> None:
        try:
            image = self._store.get(id)
            labels = (image.config.config.Labels if image.config.config else None) or {}
        except Exception:
            labels = {}
        self._context.events.publish("image", action, id, {**labels, "name": familiar(name)})

    def list(self) -> list[Image]:
        """Newest first. Filtering by Docker's filters is ``cloche.engine.filters``."""
        return self._store.all()
