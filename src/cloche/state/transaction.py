"""The changes and the queries that ``state.db`` knows; each is one SQL statement."""

from __future__ import annotations

import sqlite3

from cloche.errors import Conflict
from cloche.state.rows import ContainerRow, ImageRow, LayerRow, TagRow

_LAYERS = "SELECT chain_id, parent, diff_id, blob, blob_size, media_type, size FROM layers"


class Queries:
    """What can be read."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def fact(self, key: str) -> str | None:
        row = self._connection.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def containers(self) -> list[ContainerRow]:
        query = "SELECT id, name, image_id, created_at, record FROM containers ORDER BY created_at"
        return [ContainerRow(*row) for row in self._connection.execute(query)]

    def images(self) -> list[ImageRow]:
        query = (
            "SELECT id, chain_id, size, created_at, last_tagged_at FROM images ORDER BY created_at DESC, id"
        )
        return [ImageRow(*row) for row in self._connection.execute(query)]

    def tags(self) -> list[TagRow]:
        query = "SELECT reference, image_id FROM tags ORDER BY reference"
        return [TagRow(*row) for row in self._connection.execute(query)]

    def layer(self, chain_id: str) -> LayerRow | None:
        row = self._connection.execute(f"{_LAYERS} WHERE chain_id = ?", (chain_id,)).fetchone()
        return LayerRow(*row) if row else None

    def layers(self) -> list[LayerRow]:
        return [LayerRow(*row) for row in self._connection.execute(_LAYERS)]


class Transaction(Queries):
    """What can be changed; all changes of one ``Store.write`` become durable together or not at all."""

    def set_fact(self, key: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    def put_container(self, row: ContainerRow) -> None:
        """Insert or replace by id. Raises ``Conflict`` where another container has the name."""
        statement = (
            "INSERT INTO containers VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "name = excluded.name, image_id = excluded.image_id, record = excluded.record"
        )
        try:
            self._connection.execute(statement, row)
        except sqlite3.IntegrityError:
            raise Conflict(f"the container name {row.name!r} is already in use") from None

    def delete_container(self, id: str) -> None:
        self._connection.execute("DELETE FROM containers WHERE id = ?", (id,))

    def put_image(self, row: ImageRow) -> None:
        """Insert or replace by id."""
        statement = (
            "INSERT INTO images VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "chain_id = excluded.chain_id, size = excluded.size, last_tagged_at = excluded.last_tagged_at"
        )
        self._connection.execute(statement, row)

    def delete_image(self, id: str) -> None:
        """Its tags go with it."""
        self._connection.execute("DELETE FROM tags WHERE image_id = ?", (id,))
        self._connection.execute("DELETE FROM images WHERE id = ?", (id,))

    def put_tag(self, row: TagRow) -> None:
        """Insert, or move the reference to another image."""
        self._connection.execute("INSERT OR REPLACE INTO tags VALUES (?, ?)", row)

    def delete_tag(self, reference: str) -> None:
        self._connection.execute("DELETE FROM tags WHERE reference = ?", (reference,))

    def put_layer(self, row: LayerRow) -> None:
        """Insert; a chain id that is there already stays as it is."""
        self._connection.execute("INSERT OR IGNORE INTO layers VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def delete_layer(self, chain_id: str) -> None:
        self._connection.execute("DELETE FROM layers WHERE chain_id = ?", (chain_id,))
