"""The store: everything the registry and the statement log keep in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from uuid import UUID

from key_registry.dsse import Envelope
from key_registry.merkle import CompactRange, Node
from key_registry.store import (
    attestations,
    checkpoints,
    claims,
    cosignatures,
    key_orders,
    positions,
    proposals,
    registry_log,
    schema,
    seals,
)
from key_registry.store.checkpoints import Heads
from key_registry.store.claims import ClaimTransaction, StoredClaim
from key_registry.store.connection import Database
from key_registry.store.cosignatures import StoredCosignature
from key_registry.store.key_orders import KeyOrder
from key_registry.store.proofs import TileCache, leaf_hashes, read_edge
from key_registry.store.proposals import NewProposal, StoredProposal
from key_registry.store.registry_log import Quiet
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

    async def append_record(
        self,
        envelope: Envelope,
        *,
        seq: int,
        quiet: Quiet | None = None,
        proposal_id: UUID | None = None,
        emergency: bool = False,
    ) -> None:
        """Append a record that the caller has replayed, while nothing is claimed or sealed.

        seq: its number, which is the size of the log before it. quiet: a key that must have no unsealed claims, and
        the signatures it must have. proposal_id: the proposal it carries out, which is approved in the same
        transaction; open ones whose place the record takes are overtaken. emergency: whether it goes before an open
        compromise proposal. Raises RegistryMoved when the log has another size, ProposalEnded, KeyInUse,
        SignedSince, EmergencyFirst, IntegrityBroken when the record does not name the one before it.
        """
        await registry_log.append_record(
            self._database, envelope, seq=seq, quiet=quiet, proposal_id=proposal_id, emergency=emergency
        )

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

    async def checkpoint_at(self, log: str, size: int) -> bytes | None:
        """Return the note of the checkpoint over exactly so many leaves, None when there is none."""
        return await checkpoints.checkpoint_at(self._database, log, size)

    # -- what others said about the checkpoints
    # -------------------------------------------------------------------------------------------------

    async def add_cosignature(self, added: StoredCosignature) -> None:
        """Keep a verified cosignature; the checkpoint it is about must be stored. The first of a second stays."""
        await cosignatures.add_cosignature(self._database, added)

    async def latest_cosigned(self, log: str, cosigner_ids: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
        """Return for each cosigner the largest size it cosigned, and when it did so last, in POSIX seconds."""
        return await cosignatures.latest_cosigned(self._database, log, cosigner_ids)

    async def newest_cosignatures(self, log: str, size: int, cosigner_ids: Sequence[bytes]) -> list[StoredCosignature]:
        """Return for each cosigner its newest cosignature of a checkpoint, where it gave one."""
        return await cosignatures.newest_cosignatures(self._database, log, size, cosigner_ids)

    async def first_cosignatures(
        self, sizes: Sequence[int], cosigner_ids: Sequence[bytes]
    ) -> dict[int, list[StoredCosignature]]:
        """Return for each size the cosigners' first cosignatures of the statement log's checkpoint."""
        return await cosignatures.first_cosignatures(self._database, sizes, cosigner_ids)

    async def cosigned_sizes(self, *, at_least: int, newest_first: bool, limit: int) -> list[int]:
        """Return sizes of the statement log's checkpoints that somebody cosigned, ascending or descending."""
        return await cosignatures.cosigned_sizes(
            self._database, at_least=at_least, newest_first=newest_first, limit=limit
        )

    async def add_timestamp(self, size: int, token: bytes) -> None:
        """Keep a timestamp token over the text of a statement-log checkpoint; the first one for a size stays."""
        await cosignatures.add_timestamp(self._database, size, token)

    async def timestamp(self, size: int) -> bytes | None:
        """Return the timestamp token over the text of a statement-log checkpoint, None when there is none."""
        return await cosignatures.timestamp(self._database, size)

    async def first_timestamped(self, *, at_least: int) -> int | None:
        """Return the smallest size from at_least on whose checkpoint has a timestamp token."""
        return await cosignatures.first_timestamped(self._database, at_least=at_least)

    async def last_timestamped(self) -> int | None:
        """Return the largest size whose checkpoint has a timestamp token."""
        return await cosignatures.last_timestamped(self._database)

    # -- proposals
    # ----------------------------------------------------------------------------------------------

    async def add_proposal(self, new: NewProposal) -> None:
        """Store a proposal as open.

        Raises RegistryMoved when its first record would not be the next one, Conflict while another is unfinished
        that it would have to wait for, or when its id is taken.
        """
        await proposals.add_proposal(self._database, new)

    async def proposal(self, proposal_id: UUID) -> StoredProposal | None:
        """Return a proposal, None for an unknown id."""
        return await proposals.proposal(self._database, proposal_id)

    async def unfinished_proposals(self) -> list[StoredProposal]:
        """Return the proposals that are open or approved, in the order in which they were made."""
        return await proposals.unfinished(self._database)

    async def latest_proposals(self, limit: int) -> list[StoredProposal]:
        """Return the newest proposals in any state, the newest first."""
        return await proposals.latest(self._database, limit)

    async def add_approval(self, proposal_id: UUID, lead_key_id: str, signatures: Sequence[bytes]) -> None:
        """Store a lead's verified signatures, one for each document.

        Raises Conflict unless the proposal is open and the lead has not signed it.
        """
        await proposals.add_approval(self._database, proposal_id, lead_key_id, signatures)

    async def approvals(self, proposal_id: UUID) -> Mapping[str, tuple[bytes, ...]]:
        """Return the leads' signatures over a proposal, one for each document, by key id."""
        return await proposals.approvals(self._database, proposal_id)

    async def add_rejection(self, proposal_id: UUID, lead_key_id: str, envelope: Envelope) -> None:
        """Store a lead's verified rejection; Conflict unless it is open and the lead has not rejected it."""
        await proposals.add_rejection(self._database, proposal_id, lead_key_id, envelope)

    async def rejections(self, proposal_id: UUID) -> Mapping[str, Envelope]:
        """Return the leads' signed rejections of a proposal, by key id."""
        return await proposals.rejections(self._database, proposal_id)

    async def set_proposal_state(self, proposal_id: UUID, state: str, note: str = "") -> None:
        """Move a proposal from "open" to any other state, or from "approved" to "done" or "overtaken".

        note: why, one sentence. Raises Conflict when it is not where it could go there from.
        """
        await proposals.set_proposal_state(self._database, proposal_id, state, note)

    # -- orders about keys
    # --------------------------------------------------------------------------------------

    async def add_key_order(
        self, key_id: str, number: int, envelope: Envelope, *, proposal_id: UUID | None = None
    ) -> None:
        """Store a verified order about a key, while nothing is claimed: from its commit on no claim passes it by.

        number: the key's last one plus 1; odd ones stop the key, even ones resume it. proposal_id: the proposal it
        carries out. Raises Conflict for another number, ProposalEnded.
        """
        await key_orders.add_key_order(self._database, key_id, number, envelope, proposal_id)

    async def latest_key_orders(self) -> list[KeyOrder]:
        """Return the last order of every key that has one."""
        return await key_orders.latest_key_orders(self._database)

    async def key_orders(self, key_id: str) -> list[KeyOrder]:
        """Return every order about a key, by number."""
        return await key_orders.key_orders(self._database, key_id)

    async def stopped_keys(self) -> frozenset[str]:
        """Return the keys that are stopped."""
        return await key_orders.stopped_keys(self._database)

    # -- where a key signed
    # -------------------------------------------------------------------------------------

    async def sealed_before(self, time: datetime) -> int:
        """Return the largest size of the statement log up to which everything was sealed before a time.

        By the database's clock; where that went back, the smallest size that is in question. time: aware.
        """
        return await positions.sealed_before(self._database, time)

    async def signed_between(self, key_id: str, first: int, end: int) -> int:
        """Return how many of the leaves first to end - 1 a key has signed; reads them all, in pages."""
        return await positions.signed_between(self._database, key_id, first, end)

    async def unsealed_keys(self) -> frozenset[str]:
        """Return the keys that have claims without an attestation."""
        return await positions.unsealed_keys(self._database)
