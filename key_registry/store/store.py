"""The store: everything the registry and the statement log keep in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from uuid import UUID

from key_registry.dsse import Envelope, Signature
from key_registry.merkle import CompactRange, Node
from key_registry.store import attestations, checkpoints, claims, proposals, registry_log, schema, seals
from key_registry.store.checkpoints import Heads
from key_registry.store.claims import ClaimTransaction, StoredClaim
from key_registry.store.connection import Database
from key_registry.store.proofs import TileCache, leaf_hashes, read_edge
from key_registry.store.proposals import StoredProposal
from key_registry.store.seals import LogHead, SealTransaction


class Store:
    """One database. Any number of tasks may use it at the same time; so may any number of processes.

    Every method raises StoreUnavailable when the database does not answer. After one in a write the outcome
    is unknown: call `settle`, then read again. Key ids are 64 hex digits, hashes 32 bytes, logs "registry" or
    "statements".
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tiles = TileCache(database)

    @classmethod
    async def open(cls, dsn: str, *, max_connections: int = 8, timeout: float = 5.0) -> Store:
        """Connect to a database.

        dsn: libpq connection string. timeout: seconds that waiting for a connection, and then any one use of
        it, may take. Raises StoreUnavailable with the server's reason, StoreError when dsn is no connection string.
        """
        return cls(await Database.open(dsn, max_connections=max_connections, timeout=timeout))

    async def close(self) -> None:
        """Close every connection; those in use when they come back."""
        await self._database.close()

    async def check_schema(self) -> None:
        """Raise SchemaMismatch unless the database is safe to work with.

        That is: PostgreSQL 14 or newer with encoding UTF8, writable, the schema at the version of this
        release, every guard trigger present and always firing, and this role unable to change tables of
        record.
        """
        await schema.check_schema(self._database)

    async def settle(self) -> None:
        """Return once everything committed before is as durable as a commit of this database is.

        A commit that was cut off or cancelled while it waited for a synchronous standby can be read before
        the standby has it. This commits something of its own, later in the log, and waits for that.
        """
        await self._database.write(("SELECT pg_logical_emit_message(true, 'witness', '')", ()))

    # -- the registry log
    # ---------------------------------------------------------------------------------------

    async def records(self) -> list[Envelope]:
        """Return every record in order. Raises IntegrityBroken when one cannot be read."""
        return await registry_log.records(self._database)

    async def registry_size(self) -> int:
        """Return the number of records."""
        ((size,),) = await self._database.read(registry_log.SIZE)
        return int(size)

    async def append_record(self, envelope: Envelope, *, seq: int, unless_unsealed: str | None = None) -> None:
        """Append a record that the caller has replayed, while nothing is claimed or sealed.

        seq: its number, which is the size of the log before it. unless_unsealed: a key that must have no
        unsealed claims. Raises RegistryMoved when the log has another size, KeyInUse, IntegrityBroken when
        the record does not name the one before it.
        """
        await registry_log.append_record(self._database, envelope, seq=seq, unless_unsealed=unless_unsealed)

    # -- claims and seals
    # ---------------------------------------------------------------------------------------

    def claiming(self) -> AbstractAsyncContextManager[ClaimTransaction]:
        """Open a transaction that claims places; commits on exit, rolls back when it raises."""
        return claims.claiming(self._database)

    def sealing(self) -> AbstractAsyncContextManager[SealTransaction]:
        """Open a transaction that seals claims, one at a time; commits on exit, rolls back when it raises."""
        return seals.sealing(self._database)

    async def unsealed(self) -> list[StoredClaim]:
        """Return every claim that is not sealed, by claim id."""
        return await attestations.unsealed(self._database)

    async def unsealed_count(self, key_id: str) -> int:
        """Return how many claims of a key are not sealed."""
        ((count,),) = await self._database.read(registry_log.COUNT_UNSEALED, (bytes.fromhex(key_id),))
        return int(count)

    async def signed_count(self, key_id: str) -> int:
        """Return how many attestations a key has signed."""
        return await attestations.signed_count(self._database, key_id)

    # -- reading
    # ------------------------------------------------------------------------------------------------

    async def statement_head(self) -> LogHead:
        """Return the head of the statement log."""
        return await checkpoints.statement_head(self._database)

    async def heads(self) -> Heads:
        """Return the heads of both logs out of one snapshot."""
        return await checkpoints.heads(self._database)

    async def attestations_at(self, stream: str, sequence: int) -> list[StoredClaim]:
        """Return what is sealed at a place, by leaf index."""
        return await self.attestations_between(stream, sequence, sequence, 1)

    async def attestations_between(self, stream: str, first: int, last: int, limit: int) -> list[StoredClaim]:
        """Return what is sealed at the sequences first to last, by sequence and leaf index.

        limit: how many at most; a page holds all attestations of its last place, though, so that the next
        page starts at the sequence after it.
        """
        return await attestations.attestations_between(self._database, stream, first, last, limit)

    async def attestations_from(self, leaf_index: int, limit: int) -> list[StoredClaim]:
        """Return what is sealed at `limit` leaves from leaf_index on, by leaf index."""
        return await attestations.attestations_from(self._database, leaf_index, limit)

    async def leaf_hashes(self, first: int, last: int) -> list[bytes]:
        """Return the hashes of leaves first to last - 1, fewer at the end of the log."""
        return await leaf_hashes(self._database, first, last)

    async def compact_range(self) -> CompactRange:
        """Return the compact range of the statement log, in a number of reads that does not grow with it."""
        async with self._database.connection() as connection:
            head = LogHead.of(await connection.rows(seals.HEAD))
            return (await read_edge(connection, head.size)).range

    async def nodes(self, coordinates: Iterable[tuple[int, int]]) -> Node:
        """Return a Node that knows the complete subtrees of the statement log that are asked for.

        coordinates: (level, index) as key_registry.merkle.Coordinates records them. Raises IntegrityBroken,
        when the Node is used, for a subtree that is not complete.
        """
        return await self._tiles.nodes(coordinates)

    # -- checkpoints
    # --------------------------------------------------------------------------------------------

    async def add_checkpoint(self, log: str, size: int, note: bytes) -> None:
        """Keep a signed checkpoint; the first one for a size stays."""
        await checkpoints.add_checkpoint(self._database, log, size, note)

    async def checkpoint(self, log: str, *, at_least: int) -> tuple[int, bytes] | None:
        """Return size and note of the newest checkpoint if it is over at_least leaves or more, else None."""
        return await checkpoints.checkpoint(self._database, log, at_least=at_least)

    # -- proposals
    # ----------------------------------------------------------------------------------------------

    async def add_proposal(
        self,
        *,
        proposal_id: UUID,
        kind: str,
        witness_id: str,
        replaces: str | None,
        body: bytes,
        possession: bytes,
        expires_at: datetime,
    ) -> None:
        """Store a proposal as open; arguments as in StoredProposal. Conflict while another is unfinished."""
        await proposals.add_proposal(
            self._database,
            proposal_id=proposal_id,
            kind=kind,
            witness_id=witness_id,
            replaces=replaces,
            body=body,
            possession=possession,
            expires_at=expires_at,
        )

    async def proposal(self, proposal_id: UUID) -> StoredProposal | None:
        """Return a proposal, None for an unknown id."""
        return await proposals.proposal(self._database, proposal_id)

    async def open_proposal(self) -> StoredProposal | None:
        """Return the proposal that is open or approved, if there is one."""
        return await proposals.open_proposal(self._database)

    async def add_approval(self, proposal_id: UUID, lead_key_id: str, signature: bytes) -> None:
        """Store a lead's verified signature; Conflict unless it is open and the lead has not signed it."""
        await proposals.add_approval(self._database, proposal_id, lead_key_id, signature)

    async def approvals(self, proposal_id: UUID) -> list[Signature]:
        """Return the leads' signatures over a proposal, by key id."""
        return await proposals.approvals(self._database, proposal_id)

    async def set_proposal_state(self, proposal_id: UUID, state: str) -> None:
        """Move a proposal from "open" to "approved", or from either to "done", "expired" or "aborted".

        Raises Conflict when it is not where it could go there from.
        """
        await proposals.set_proposal_state(self._database, proposal_id, state)
