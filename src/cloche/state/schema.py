"""The schema of ``state.db`` and its migrations.

    facts          what the engine remembers of itself
    ├── key           e.g. ``engine-id``
    └── value
    containers     one row each
    ├── id            64 hex digits
    ├── name          unique, without the leading slash
    ├── image_id      of the image that it was made from
    ├── created_at    nanoseconds since the epoch
    └── record        the whole record as msgpack; the engine alone knows its shape
    images         one row each; the config blob itself is in the content store
    ├── id            digest of the config blob, ``sha256:...``
    ├── chain_id      -> layers.chain_id of the top layer; NULL without layers
    ├── size          bytes of all layers, unpacked
    ├── created_at    nanoseconds since the epoch, from the config
    └── last_tagged_at
    tags
    ├── reference     normalised, with tag: ``docker.io/library/busybox:latest``
    └── image_id      -> images.id
    layers         unpacked layers, shared between images
    ├── chain_id      digest over the layer and all below it (image-spec config.md); key of the snapshot
    ├── parent        -> layers.chain_id of the one below; NULL at the bottom
    ├── diff_id       digest of the uncompressed tar
    ├── blob          digest of the tar as it came, perhaps compressed: what ``save`` gives out again
    ├── blob_size     bytes
    ├── media_type    of the blob
    └── size          bytes of file content unpacked

``PRAGMA user_version`` is the number of migrations applied. A migration is never edited once released; a new
one is appended.
"""

from __future__ import annotations

import sqlite3

from cloche.errors import Unavailable

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE containers (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image_id TEXT NOT NULL, created_at INTEGER NOT NULL,
        record BLOB NOT NULL
    );
    CREATE TABLE layers (
        chain_id TEXT PRIMARY KEY, parent TEXT REFERENCES layers (chain_id), diff_id TEXT NOT NULL,
        blob TEXT NOT NULL, blob_size INTEGER NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL
    );
    CREATE INDEX layers_by_parent ON layers (parent);
    CREATE TABLE images (
        id TEXT PRIMARY KEY, chain_id TEXT REFERENCES layers (chain_id), size INTEGER NOT NULL,
        created_at INTEGER NOT NULL, last_tagged_at INTEGER NOT NULL
    );
    CREATE INDEX images_by_chain ON images (chain_id);
    CREATE TABLE tags (reference TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images (id));
    CREATE INDEX tags_by_image ON tags (image_id);
    """,
)


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the database up to this version. Raises ``Unavailable`` for one that a newer Cloche has
    written."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise Unavailable(
            f"{path} has schema version {version}, this cloche knows up to {len(MIGRATIONS)}: "
            "it was written by a newer cloche; use that one or another --root"
        )
    for number in range(version, len(MIGRATIONS)):
        script = f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
        connection.executescript(script)
