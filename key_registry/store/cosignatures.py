"""What others said about the checkpoints: cosignatures, one row for each answer, and timestamp tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from key_registry.store.connection import Database, Row


@dataclass(frozen=True, slots=True)
class StoredCosignature:
    """A verified answer of one cosigner.

    log: "registry" or "statements". size: of the checkpoint. cosigner_id: 32 bytes, of its name and key.
    cosigned_at: POSIX seconds by the cosigner's clock. line: the note signature line, with its newline.
    """

    log: str
    size: int
    cosigner_id: bytes
    cosigned_at: int
    line: str


_INSERT = """
INSERT INTO witness.cosignatures (log, size, cosigner_id, cosigned_at, line) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""
_LATEST = """
SELECT asked.cosigner_id, latest.size, latest.cosigned_at
FROM unnest(%b::bytea[]) AS asked (cosigner_id) CROSS JOIN LATERAL (
    SELECT found.size, found.cosigned_at FROM witness.cosignatures AS found
    WHERE found.log = %s AND found.cosigner_id = asked.cosigner_id
    ORDER BY found.size DESC, found.cosigned_at DESC LIMIT 1
) AS latest
"""
_NEWEST_LINES = """
SELECT asked.cosigner_id, one.cosigned_at, one.line
FROM unnest(%b::bytea[]) AS asked (cosigner_id) CROSS JOIN LATERAL (
    SELECT found.cosigned_at, found.line FROM witness.cosignatures AS found
    WHERE found.log = %s AND found.cosigner_id = asked.cosigner_id AND found.size = %s
    ORDER BY found.cosigned_at DESC LIMIT 1
) AS one
"""
_FIRST_LINES = """
SELECT checkpoint.size, asked.cosigner_id, one.cosigned_at, one.line
FROM unnest(%b::bigint[]) AS checkpoint (size) CROSS JOIN unnest(%b::bytea[]) AS asked (cosigner_id)
CROSS JOIN LATERAL (
    SELECT found.cosigned_at, found.line FROM witness.cosignatures AS found
    WHERE found.log = 'statements' AND found.cosigner_id = asked.cosigner_id AND found.size = checkpoint.size
    ORDER BY found.cosigned_at LIMIT 1
) AS one
"""
_SIZES_UP: LiteralString = """
SELECT DISTINCT size FROM witness.cosignatures WHERE log = 'statements' AND size >= %s ORDER BY size LIMIT %s
"""
_SIZES_DOWN: LiteralString = """
SELECT DISTINCT size FROM witness.cosignatures WHERE log = 'statements' AND size >= %s ORDER BY size DESC LIMIT %s
"""
_ADD_TIMESTAMP = """
INSERT INTO witness.timestamps (size, token) VALUES (%s, %s) ON CONFLICT (log, size) DO NOTHING
"""
_TIMESTAMP = "SELECT token FROM witness.timestamps WHERE log = 'statements' AND size = %s"
_FIRST_TIMESTAMPED = """
SELECT size FROM witness.timestamps WHERE log = 'statements' AND size >= %s ORDER BY size LIMIT 1
"""
_LAST_TIMESTAMPED = "SELECT size FROM witness.timestamps WHERE log = 'statements' ORDER BY size DESC LIMIT 1"


async def add_cosignature(database: Database, added: StoredCosignature) -> None:
    """Keep a cosignature; see Store.add_cosignature."""
    await database.write((_INSERT, (added.log, added.size, added.cosigner_id, added.cosigned_at, added.line)))


async def latest_cosigned(database: Database, log: str, cosigner_ids: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
    """Return what each cosigner cosigned last; see Store.latest_cosigned."""
    rows = await database.read(_LATEST, (list(cosigner_ids), log))
    return {bytes(cosigner_id): (size, cosigned_at) for cosigner_id, size, cosigned_at in rows}


async def newest_cosignatures(
    database: Database, log: str, size: int, cosigner_ids: Sequence[bytes]
) -> list[StoredCosignature]:
    """Return the newest line of each cosigner for a checkpoint; see Store.newest_cosignatures."""
    rows = await database.read(_NEWEST_LINES, (list(cosigner_ids), log, size))
    return [StoredCosignature(log, size, bytes(cosigner_id), time, line) for cosigner_id, time, line in rows]


async def first_cosignatures(
    database: Database, sizes: Sequence[int], cosigner_ids: Sequence[bytes]
) -> dict[int, list[StoredCosignature]]:
    """Return the first line of each cosigner for statement-log checkpoints; see Store.first_cosignatures."""
    rows: list[Row] = await database.read(_FIRST_LINES, (list(sizes), list(cosigner_ids)))
    found: dict[int, list[StoredCosignature]] = {size: [] for size in sizes}
    for size, cosigner_id, time, line in rows:
        found[size].append(StoredCosignature("statements", size, bytes(cosigner_id), time, line))
    return found


async def cosigned_sizes(database: Database, *, at_least: int, newest_first: bool, limit: int) -> list[int]:
    """Return sizes of cosigned statement-log checkpoints; see Store.cosigned_sizes."""
    rows = await database.read(_SIZES_DOWN if newest_first else _SIZES_UP, (at_least, limit))
    return [size for (size,) in rows]


async def add_timestamp(database: Database, size: int, token: bytes) -> None:
    """Keep a timestamp token; see Store.add_timestamp."""
    await database.write((_ADD_TIMESTAMP, (size, token)))


async def timestamp(database: Database, size: int) -> bytes | None:
    """Return the timestamp token over a statement-log checkpoint; see Store.timestamp."""
    rows = await database.read(_TIMESTAMP, (size,))
    return bytes(rows[0][0]) if rows else None


async def first_timestamped(database: Database, *, at_least: int) -> int | None:
    """Return the smallest size with a token; see Store.first_timestamped."""
    rows = await database.read(_FIRST_TIMESTAMPED, (at_least,))
    return rows[0][0] if rows else None


async def last_timestamped(database: Database) -> int | None:
    """Return the largest size with a token; see Store.last_timestamped."""
    rows = await database.read(_LAST_TIMESTAMPED)
    return rows[0][0] if rows else None
