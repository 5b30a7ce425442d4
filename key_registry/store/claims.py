"""Streams, places and claims: what a witness binds itself to sign, before it signs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from key_registry.store import locks
from key_registry.store.connection import Connection, Database, Row
from key_registry.store.key_orders import STOPPED
from key_registry.store.registry_log import SIZE


@dataclass(frozen=True, slots=True)
class StreamHead:
    """A stream and its last place; None twice while it has no place."""

    stream_id: int
    link_rule: str
    last_sequence: int | None
    last_hash: str | None


@dataclass(frozen=True, slots=True)
class NewPlace:
    """What is to stand at a place for ever."""

    stream_id: int
    sequence: int
    event_hash: str
    previous_event_hash: str | None


@dataclass(frozen=True, slots=True)
class NewClaim:
    """A statement to be signed. key_id: 64 hex digits. statement: the exact bytes."""

    stream_id: int
    sequence: int
    witness_id: str
    key_id: str
    statement: bytes


@dataclass(frozen=True, slots=True)
class StoredClaim:
    """A committed claim; leaf_index and signature are None until it is sealed. key_id: 64 hex digits."""

    claim_id: int
    stream: str
    sequence: int
    event_hash: str
    previous_event_hash: str | None
    witness_id: str
    key_id: str
    statement: bytes
    leaf_index: int | None
    signature: bytes | None

    @classmethod
    def of(cls, row: Row) -> StoredClaim:
        """Return the claim of a row of CLAIM_COLUMNS."""
        return cls(*row)


CLAIM_COLUMNS = """
SELECT claim.claim_id, stream.name, claim.sequence, place.event_hash, place.previous_event_hash,
claim.witness_id, encode(claim.key_id, 'hex'), claim.statement, leaf.leaf_index, leaf.signature
"""
CLAIM_JOINS = """
JOIN witness.places AS place ON place.stream_id = claim.stream_id AND place.sequence = claim.sequence
JOIN witness.streams AS stream ON stream.stream_id = claim.stream_id
LEFT JOIN witness.attestations AS leaf ON leaf.claim_id = claim.claim_id
"""

_FIND_STREAMS = "SELECT name, stream_id, link_rule FROM witness.streams WHERE name = ANY(%s::text[])"

# By name: two transactions that make the same streams wait for each other in the same order.
_MAKE_STREAMS = """
INSERT INTO witness.streams (name, link_rule)
SELECT new.name, new.link_rule FROM unnest(%s::text[], %s::text[]) AS new (name, link_rule) ORDER BY new.name
ON CONFLICT (name) DO NOTHING
"""

_HEADS = """
SELECT asked.stream_id, head.sequence, head.event_hash
FROM unnest(%b::integer[]) AS asked (stream_id)
CROSS JOIN LATERAL (
    SELECT place.sequence, place.event_hash FROM witness.places AS place
    WHERE place.stream_id = asked.stream_id ORDER BY place.sequence DESC LIMIT 1
) AS head
"""

_CLAIMS_AT = f"""
{CLAIM_COLUMNS}
FROM unnest(%b::integer[], %b::bigint[]) AS asked (stream_id, sequence)
JOIN witness.claims AS claim ON claim.stream_id = asked.stream_id AND claim.sequence = asked.sequence
{CLAIM_JOINS}
ORDER BY claim.claim_id
"""

_INSERT_PLACES = """
INSERT INTO witness.places (stream_id, sequence, starts, event_hash, previous_event_hash)
SELECT * FROM unnest(%b::integer[], %b::bigint[], %b::boolean[], %b::text[], %b::text[])
"""

# Claim ids are given in the order of the arrays, so sorting them restores it.
_INSERT_CLAIMS = """
WITH made AS (
    INSERT INTO witness.claims (stream_id, sequence, witness_id, key_id, statement)
    SELECT new.stream_id, new.sequence, new.witness_id, new.key_id, new.statement
    FROM unnest(%b::integer[], %b::bigint[], %b::text[], %b::bytea[], %b::bytea[]) WITH ORDINALITY
        AS new (stream_id, sequence, witness_id, key_id, statement, position)
    ORDER BY new.position
    RETURNING claim_id, key_id
)
INSERT INTO witness.unsealed (claim_id, key_id) SELECT claim_id, key_id FROM made RETURNING claim_id
"""


class ClaimTransaction:
    """A transaction that claims places, all or none.

    registry_size: records. stopped: key ids of the keys by which nothing may be claimed. Both fixed while it runs.
    """

    def __init__(self, connection: Connection, registry_size: int, stopped: frozenset[str]) -> None:
        self.registry_size = registry_size
        self.stopped = stopped
        self._connection = connection
        self._empty: set[int] = set()

    async def lock_streams(self, rules: Mapping[str, str]) -> dict[str, StreamHead]:
        """Lock streams until the transaction ends and return their heads by name.

        rules: by name, the link rule ("witnessed", "recorded", "none") a stream gets if it does not exist
        yet.
        """
        found = {name: (stream_id, rule) for name, stream_id, rule in await self._streams(rules)}
        ids = sorted(stream_id for stream_id, _ in found.values())
        await self._connection.rows(locks.LOCK_STREAMS, (ids,))
        rows = await self._connection.rows(_HEADS, (ids,))
        heads = {stream_id: (sequence, event_hash) for stream_id, sequence, event_hash in rows}
        self._empty |= set(ids) - heads.keys()
        return {
            name: StreamHead(stream_id, rule, *heads.get(stream_id, (None, None)))
            for name, (stream_id, rule) in found.items()
        }

    async def _streams(self, rules: Mapping[str, str]) -> list[Row]:
        found = await self._connection.rows(_FIND_STREAMS, (list(rules),))
        missing = rules.keys() - {row[0] for row in found}
        if not missing:
            return found
        names = list(missing)
        await self._connection.rows(_MAKE_STREAMS, (names, [rules[name] for name in names]))
        return await self._connection.rows(_FIND_STREAMS, (list(rules),))

    async def claims_at(self, places: Sequence[tuple[int, int]]) -> list[StoredClaim]:
        """Return every claim at the places, sealed or not. places: (stream id, sequence)."""
        columns = _columns(sorted(set(places)), 2)
        return [StoredClaim.of(row) for row in await self._connection.rows(_CLAIMS_AT, columns)]

    async def insert(self, places: Sequence[NewPlace], claims: Sequence[NewClaim]) -> list[int]:
        """Write places, and claims on these or on earlier places; return the claim ids in the order of the
        claims.

        The streams are locked. Raises Conflict for a place or a witness that is taken, IntegrityBroken for
        places that do not continue their stream.
        """
        place_rows = [
            (
                place.stream_id,
                place.sequence,
                self._starts(place),
                place.event_hash,
                place.previous_event_hash,
            )
            for place in places
        ]
        claim_rows = [
            (claim.stream_id, claim.sequence, claim.witness_id, bytes.fromhex(claim.key_id), claim.statement)
            for claim in claims
        ]
        if place_rows:
            await self._connection.rows(_INSERT_PLACES, _columns(place_rows, 5))
        if not claim_rows:
            return []
        made = await self._connection.rows(_INSERT_CLAIMS, _columns(claim_rows, 5))
        return sorted(claim_id for (claim_id,) in made)

    def _starts(self, place: NewPlace) -> bool:
        if place.stream_id not in self._empty:
            return False
        self._empty.discard(place.stream_id)
        return True


@asynccontextmanager
async def claiming(database: Database) -> AsyncIterator[ClaimTransaction]:
    """Open a claim transaction: no record and no order about a key is stored while it runs."""
    async with database.transaction() as connection:
        _, ((registry_size,),), stopped = await connection.begin(locks.SHARE_REGISTRY, SIZE, STOPPED)
        yield ClaimTransaction(connection, registry_size, frozenset(key_id for (key_id,) in stopped))


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
