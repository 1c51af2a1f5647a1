"""All containers: their records in memory, found by id, prefix or name, and their rows in the store.

Memory is what lists and inspects read; a row follows each change. Everything here runs on the event loop's
thread.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import Future

import msgspec

from cloche.engine.names import random_name
from cloche.engine.records import Container
from cloche.engine.validation import check_name
from cloche.errors import Conflict, InvalidArgument, NotFound
from cloche.state.rows import ContainerRow
from cloche.state.store import Store
from cloche.state.transaction import Transaction

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Container)


class Registry:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._records: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        self._coming: dict[str, Container] = {}
        """Whose first row is being written."""

    def load(self) -> list[Container]:
        """Read all rows; only at the start."""
        for row in self._store.read(lambda queries: queries.containers()):
            container = _decoder.decode(row.record)
            self._records[container.id] = container
            self._names[container.name] = container.id
        return list(self._records.values())

    def new_id(self) -> str:
        return secrets.token_hex(32)

    def reserve(self, name: str | None, id: str) -> str:
        """Take a name, a random one where none is given. Raises ``Conflict`` where it is taken."""
        if name is None:
            name = random_name(self._names)
        name = name.removeprefix("/")
        check_name(name)
        holder = self._names.get(name)
        if holder:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        self._names[name] = id
        return name

    def free(self, name: str) -> None:
        self._names.pop(name, None)

    async def put(self, container: Container, durable: bool) -> None:
        """The new shape of a record: seen at once, and stored when this returns.

        ``durable`` for what a user asked to be kept; the state of a run can be told again from its monitor.
        """
        self._records[container.id] = container
        await self._store.write(_put(container), durable)

    def put_soon(self, container: Container) -> Future[None]:
        """``put`` for states that a monitor or an exit record on disk can tell again: stored a moment later,
        when what is returned is done."""
        self._records[container.id] = container
        return self._store.submit(_put(container), durable=False)

    async def store(self, container: Container) -> None:
        """The first row of a container, durably; it is to be seen only after that."""
        self._coming[container.id] = container
        try:
            await self._store.write(_put(container), durable=True)
            self._records[container.id] = container
        finally:
            del self._coming[container.id]

    def made_from(self, image_id: str) -> list[Container]:
        """Those of an image, also those that are just being created."""
        everyone = (*self._records.values(), *self._coming.values())
        return [container for container in everyone if container.image_id == image_id]

    async def forget(self, container: Container) -> None:
        """Row, record and name go. A row that comes back after a power cut has lost its snapshot, and the
        next start of the daemon forgets it again."""
        await self._store.write(
            lambda transaction: transaction.delete_container(container.id), durable=False, frees=True
        )
        self._records.pop(container.id, None)
        if self._names.get(container.name) == container.id:
            del self._names[container.name]

    def by_id(self, id: str) -> Container | None:
        return self._records.get(id)

    def get(self, ref: str) -> Container:
        """By id, name or unique id prefix. Raises ``NotFound``; ``InvalidArgument`` where a prefix is
        ambiguous."""
        found = self._records.get(ref) or self._records.get(self._names.get(ref.removeprefix("/"), ""))
        if found:
            return found
        matches = [container for id, container in self._records.items() if ref and id.startswith(ref)]
        if len(matches) > 1:
            raise InvalidArgument(f"Multiple IDs found with provided prefix: {ref}")
        if not matches:
            raise NotFound(f"No such container: {ref}")
        return matches[0]

    def all(self) -> list[Container]:
        """Newest first."""
        return sorted(self._records.values(), key=lambda container: container.created_at, reverse=True)

    def ids(self) -> set[str]:
        return set(self._records)


def _put(container: Container) -> Callable[[Transaction], None]:
    row = ContainerRow(
        container.id, container.name, container.image_id, container.created_at, _encoder.encode(container)
    )
    return lambda transaction: transaction.put_container(row)
