"""Heads of both logs and the signed checkpoints over them."""

from __future__ import annotations

from dataclasses import dataclass

from key_registry.merkle import EMPTY_ROOT
from key_registry.store.connection import Database
from key_registry.store.seals import HEAD, LogHead


@dataclass(frozen=True, slots=True)
class Heads:
    """Both logs at one moment."""

    registry_size: int
    statement: LogHead


_HEADS = f"""
SELECT (SELECT coalesce(max(seq) + 1, 0) FROM witness.registry_records), head.size, head.root
FROM (SELECT) AS one LEFT JOIN ({HEAD}) AS head ON true
"""

_INSERT = """
INSERT INTO witness.checkpoints (log, size, note) VALUES (%s, %s, %s) ON CONFLICT (log, size) DO NOTHING
"""
_AT = "SELECT note FROM witness.checkpoints WHERE log = %s AND size = %s"
_LATEST = "SELECT size, note FROM witness.checkpoints WHERE log = %s AND size >= %s ORDER BY size DESC LIMIT 1"


async def statement_head(database: Database) -> LogHead:
    """Return the head of the statement log."""
    return LogHead.of(await database.read(HEAD))


async def heads(database: Database) -> Heads:
    """Return both heads out of one snapshot."""
    ((registry_size, size, root),) = await database.read(_HEADS)
    return Heads(registry_size, LogHead(0, EMPTY_ROOT) if size is None else LogHead(size, root))


async def add_checkpoint(database: Database, log: str, size: int, note: bytes) -> None:
    """Keep a signed checkpoint; see Store.add_checkpoint."""
    await database.write((_INSERT, (log, size, note)))


async def checkpoint(database: Database, log: str, *, at_least: int) -> tuple[int, bytes] | None:
    """Return the newest checkpoint; see Store.checkpoint."""
    rows = await database.read(_LATEST, (log, at_least))
    return (rows[0][0], rows[0][1]) if rows else None


async def checkpoint_at(database: Database, log: str, size: int) -> bytes | None:
    """Return the checkpoint of one size; see Store.checkpoint_at."""
    rows = await database.read(_AT, (log, size))
    return bytes(rows[0][0]) if rows else None
