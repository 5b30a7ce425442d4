"""The leads' orders to stop a key at once, and to resume it: no records of the registry, but kept as they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from key_registry.dsse import Envelope
from key_registry.store import locks
from key_registry.store.connection import Database
from key_registry.store.errors import Conflict
from key_registry.store.registry_log import require_unfinished


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """One stored order about a key (64 hex digits). number: from 1 for each key; odd ones stop it, even ones resume."""

    key_id: str
    number: int
    envelope: Envelope
    created_at: datetime

    @property
    def stops(self) -> bool:
        """Whether it stops the key."""
        return self.number % 2 == 1


STOPPED: LiteralString = """
SELECT encode(key_id, 'hex') FROM witness.key_orders GROUP BY key_id HAVING mod(max(number), 2) = 1
"""
_LATEST = """
SELECT DISTINCT ON (key_id) encode(key_id, 'hex'), number, envelope, created_at
FROM witness.key_orders ORDER BY key_id, number DESC
"""
_OF_KEY = """
SELECT encode(key_id, 'hex'), number, envelope, created_at
FROM witness.key_orders WHERE key_id = %s ORDER BY number
"""
_LAST_NUMBER = "SELECT coalesce(max(number), 0) FROM witness.key_orders WHERE key_id = %s"
_INSERT = "INSERT INTO witness.key_orders (key_id, number, envelope) VALUES (%s, %s, %s)"


async def add_key_order(
    database: Database, key_id: str, number: int, envelope: Envelope, proposal_id: UUID | None
) -> None:
    """Store an order while nothing is claimed; see Store.add_key_order."""
    key = bytes.fromhex(key_id)
    async with database.transaction() as connection:
        await connection.begin(locks.LOCK_REGISTRY)
        if proposal_id is not None:
            await require_unfinished(connection, proposal_id)
        ((last,),) = await connection.rows(_LAST_NUMBER, (key,))
        if last != number - 1:
            raise Conflict(f"expected order {last + 1} of the key, got {number}: another one was first")
        await connection.rows(_INSERT, (key, number, envelope.to_json()))


async def latest_key_orders(database: Database) -> list[KeyOrder]:
    """Return the last order of every key that has one, by key id."""
    return [_order(*row) for row in await database.read(_LATEST)]


async def key_orders(database: Database, key_id: str) -> list[KeyOrder]:
    """Return every order about a key, by number."""
    return [_order(*row) for row in await database.read(_OF_KEY, (bytes.fromhex(key_id),))]


async def stopped_keys(database: Database) -> frozenset[str]:
    """Return the key ids of the keys that are stopped."""
    return frozenset(key_id for (key_id,) in await database.read(STOPPED))


def _order(key_id: str, number: int, envelope: bytes, created_at: datetime) -> KeyOrder:
    return KeyOrder(key_id, number, Envelope.from_json(envelope), created_at)
