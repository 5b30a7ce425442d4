"""What the statement log had at a time, and how many attestations of a key lie where: to choose a cut."""

from __future__ import annotations

from datetime import datetime

from key_registry.store.connection import Database

PAGE = 200_000
"""Leaves counted by one query, so that none takes long."""

# Not simply the largest head sealed before: where the clock went back, no later head proves anything.
_SEALED_BEFORE = """
SELECT coalesce(
    (SELECT min(previous_size) FROM witness.seals WHERE sealed_at >= %s), (SELECT max(size) FROM witness.seals), 0)
"""
_COUNT = """
SELECT count(*) FROM witness.attestations AS leaf
JOIN witness.claims AS claim ON claim.claim_id = leaf.claim_id
WHERE leaf.leaf_index >= %s AND leaf.leaf_index < %s AND claim.key_id = %s
"""
_UNSEALED_KEYS = "SELECT DISTINCT encode(key_id, 'hex') FROM witness.unsealed"


async def sealed_before(database: Database, time: datetime) -> int:
    """Return the largest size of the log up to which everything was sealed before a time; see Store.sealed_before."""
    ((size,),) = await database.read(_SEALED_BEFORE, (time,))
    return int(size)


async def signed_between(database: Database, key_id: str, first: int, end: int) -> int:
    """Return how many of the leaves first to end - 1 a key has signed."""
    key, total = bytes.fromhex(key_id), 0
    for start in range(first, end, PAGE):
        ((count,),) = await database.read(_COUNT, (start, min(start + PAGE, end), key))
        total += count
    return total


async def unsealed_keys(database: Database) -> frozenset[str]:
    """Return the key ids of the keys that have claims without an attestation."""
    return frozenset(key_id for (key_id,) in await database.read(_UNSEALED_KEYS))
