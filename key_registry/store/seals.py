"""Seals: signed claims become leaves of the statement log."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from key_registry.merkle import EMPTY_ROOT
from key_registry.store import locks
from key_registry.store.connection import Connection, Database, Row
from key_registry.store.proofs import read_edge
from key_registry.store.proposals import NewProposal, insert
from key_registry.store.registry_log import SIZE
from key_registry.store.tiles import Edge, NewTile


@dataclass(frozen=True, slots=True)
class LogHead:
    """Size and root hash (32 bytes) of a log."""

    size: int
    root: bytes

    @classmethod
    def of(cls, rows: Sequence[Row]) -> LogHead:
        """Return the head of the rows of HEAD: one, or none for the empty log."""
        return cls(*rows[0]) if rows else cls(0, EMPTY_ROOT)


@dataclass(frozen=True, slots=True)
class NewAttestation:
    """A claim's verified signature at its place in the log. key_id: 64 hex digits. leaf_hash: 32 bytes."""

    leaf_index: int
    claim_id: int
    key_id: str
    signature: bytes
    leaf_hash: bytes


HEAD = "SELECT size, root FROM witness.seals ORDER BY size DESC LIMIT 1"

_TAKE = "DELETE FROM witness.unsealed WHERE claim_id = ANY(%b::bigint[]) RETURNING claim_id"
_INSERT_SEAL = "INSERT INTO witness.seals (size, previous_size, root) VALUES (%s, %s, %s)"
_INSERT_ATTESTATIONS = """
INSERT INTO witness.attestations (leaf_index, claim_id, signature, leaf_hash)
SELECT * FROM unnest(%b::bigint[], %b::bigint[], %b::bytea[], %b::bytea[])
"""
_INSERT_TILES = """
INSERT INTO witness.tiles (level, tile_index, root, hashes)
SELECT * FROM unnest(%b::smallint[], %b::bigint[], %b::bytea[], %b::bytea[])
"""
_COUNT = """
INSERT INTO witness.key_counts AS total (key_id, signed) SELECT * FROM unnest(%b::bytea[], %b::bigint[])
ON CONFLICT (key_id) DO UPDATE SET signed = total.signed + excluded.signed
"""


class SealTransaction:
    """A transaction that appends to the statement log: it commits as a whole or not at all.

    registry_size, head: of both logs, fixed while it runs.
    """

    def __init__(self, connection: Connection, registry_size: int, head: LogHead) -> None:
        self.registry_size = registry_size
        self.head = head
        self._connection = connection

    async def add_proposal(self, new: NewProposal) -> None:
        """Store a proposal before the log grows again; raises as Store.add_proposal.

        On this connection: another one would wait for whoever wants the registry's lock, who waits for this one.
        """
        await insert(self._connection, self.registry_size, new)

    async def take(self, claim_ids: Sequence[int]) -> set[int]:
        """Return which of the claims nobody has sealed yet; they are now this transaction's to seal."""
        return {claim_id for (claim_id,) in await self._connection.rows(_TAKE, (list(claim_ids),))}

    async def edge(self) -> Edge:
        """Return the right edge of the log at its head, read on this connection."""
        return await read_edge(self._connection, self.head.size)

    async def append(self, attestations: Sequence[NewAttestation], root: bytes, tiles: Sequence[NewTile]) -> None:
        """Append leaves at the head.

        attestations: at least one, of claims taken here, by leaf index from head.size on. root: of the log
        with them, 32 bytes. tiles: all that they fill. Raises IntegrityBroken when they do not continue the
        log.
        """
        size = self.head.size + len(attestations)
        leaves = (
            [leaf.leaf_index for leaf in attestations],
            [leaf.claim_id for leaf in attestations],
            [leaf.signature for leaf in attestations],
            [leaf.leaf_hash for leaf in attestations],
        )
        signed = Counter(bytes.fromhex(leaf.key_id) for leaf in attestations)
        await self._connection.rows(_INSERT_SEAL, (size, self.head.size, root))
        await self._connection.rows(_INSERT_ATTESTATIONS, leaves)
        await self._connection.rows(_COUNT, (list(signed), list(signed.values())))
        if tiles:
            columns = ("level", "tile_index", "root", "hashes")
            await self._connection.rows(
                _INSERT_TILES, [[getattr(tile, column) for tile in tiles] for column in columns]
            )


@asynccontextmanager
async def sealing(database: Database) -> AsyncIterator[SealTransaction]:
    """Open a seal transaction: it alone appends to the statement log, and nobody to the registry log."""
    async with database.transaction() as connection:
        _, _, ((registry_size,),), head = await connection.begin(
            locks.SHARE_REGISTRY, locks.LOCK_STATEMENT_LOG, SIZE, HEAD
        )
        yield SealTransaction(connection, registry_size, LogHead.of(head))
