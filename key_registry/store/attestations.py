"""Reading claims and attestations."""

from __future__ import annotations

from key_registry.store.claims import CLAIM_COLUMNS, CLAIM_JOINS, StoredClaim
from key_registry.store.connection import Database
from key_registry.store.registry_log import COUNT_SIGNED

_UNSEALED = f"""
{CLAIM_COLUMNS}
FROM witness.unsealed AS waiting
JOIN witness.claims AS claim ON claim.claim_id = waiting.claim_id
{CLAIM_JOINS}
ORDER BY claim.claim_id
"""

# With ties, so that a page never ends between two attestations of one place.
_BETWEEN = f"""
{CLAIM_COLUMNS}
FROM witness.claims AS claim
{CLAIM_JOINS}
WHERE claim.stream_id = (SELECT stream_id FROM witness.streams WHERE name = %s)
    AND claim.sequence BETWEEN %s AND %s AND leaf.leaf_index IS NOT NULL
ORDER BY claim.sequence
FETCH FIRST %s ROWS WITH TIES
"""

_FROM = f"""
{CLAIM_COLUMNS}
FROM witness.attestations AS signed
JOIN witness.claims AS claim ON claim.claim_id = signed.claim_id
{CLAIM_JOINS}
WHERE signed.leaf_index >= %s AND signed.leaf_index < %s
ORDER BY signed.leaf_index
"""


async def unsealed(database: Database) -> list[StoredClaim]:
    """Return every claim that is not sealed, by claim id."""
    return [StoredClaim.of(row) for row in await database.read(_UNSEALED)]


async def attestations_between(database: Database, stream: str, first: int, last: int, limit: int) -> list[StoredClaim]:
    """Return sealed claims by sequence and leaf index; see Store.attestations_between."""
    claims = [StoredClaim.of(row) for row in await database.read(_BETWEEN, (stream, first, last, limit))]
    return sorted(claims, key=lambda claim: (claim.sequence, claim.leaf_index))


async def attestations_from(database: Database, leaf_index: int, limit: int) -> list[StoredClaim]:
    """Return sealed claims by leaf index; see Store.attestations_from."""
    return [StoredClaim.of(row) for row in await database.read(_FROM, (leaf_index, leaf_index + limit))]


async def signed_count(database: Database, key_id: str) -> int:
    """Return how many attestations a key has signed."""
    ((count,),) = await database.read(COUNT_SIGNED, (bytes.fromhex(key_id),))
    return int(count)
