"""The registry log: every key record, in order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

from key_registry import canonical_json
from key_registry.dsse import Envelope
from key_registry.errors import FormatError
from key_registry.merkle import leaf_hash
from key_registry.store import locks
from key_registry.store.connection import Connection, Database
from key_registry.store.errors import (
    EmergencyFirst,
    IntegrityBroken,
    KeyInUse,
    ProposalEnded,
    RegistryMoved,
    SignedSince,
)

SIZE = "SELECT coalesce(max(seq) + 1, 0) FROM witness.registry_records"
COUNT_UNSEALED = "SELECT count(*) FROM witness.unsealed WHERE key_id = %s"

_INSERT = """
INSERT INTO witness.registry_records (seq, envelope, record_hash, previous_hash, leaf_hash) VALUES (%s, %s,
%s, %s, %s)
"""


COUNT_SIGNED = "SELECT coalesce(sum(signed), 0)::bigint FROM witness.key_counts WHERE key_id = %s"
_EMERGENCY = """
SELECT count(*) FROM witness.proposals
WHERE state IN ('open', 'approved') AND kind = 'compromise' AND proposal_id IS DISTINCT FROM %s
"""
# Locked, so that it neither ends nor expires before what it says is stored.
_UNFINISHED = """
SELECT proposal_id FROM witness.proposals WHERE proposal_id = %s AND state IN ('open', 'approved') FOR UPDATE
"""
_APPROVED = "UPDATE witness.proposals SET state = 'approved' WHERE proposal_id = %s AND state = 'open'"
_OVERTAKEN = """
UPDATE witness.proposals
SET state = 'overtaken', finished_at = clock_timestamp(), note = 'another record has taken its place in the registry'
WHERE state = 'open' AND seq <= %s AND proposal_id IS DISTINCT FROM %s
"""


@dataclass(frozen=True, slots=True)
class Quiet:
    """A key (64 hex digits) that has no unsealed claims; count: signatures it must have, None for any number."""

    key_id: str
    count: int | None = None


async def records(database: Database) -> list[Envelope]:
    """Return every record in order. Raises IntegrityBroken when one cannot be read."""
    rows = await database.read("SELECT seq, envelope FROM witness.registry_records ORDER BY seq")
    try:
        return [Envelope.from_json(envelope) for _, envelope in rows]
    except FormatError as error:
        raise IntegrityBroken(f"expected envelopes in the registry log, got other bytes: {error}") from error


async def append_record(
    database: Database, envelope: Envelope, *, seq: int, quiet: Quiet | None, proposal_id: UUID | None, emergency: bool
) -> None:
    """Append a record while nothing is claimed or sealed; see Store.append_record."""
    row = (
        seq,
        envelope.to_json(),
        hashlib.sha256(envelope.pae()).digest(),
        _previous_hash(envelope),
        leaf_hash(envelope.entry()),
    )
    async with database.transaction() as connection:
        _, ((size,),) = await connection.begin(locks.LOCK_REGISTRY, SIZE)
        if size != seq:
            raise RegistryMoved(size)
        if proposal_id is not None:
            await require_unfinished(connection, proposal_id)
        if quiet is not None:
            await _check_quiet(connection, quiet)
        if not emergency:
            ((waiting,),) = await connection.rows(_EMERGENCY, (proposal_id,))
            if waiting:
                raise EmergencyFirst
        await connection.rows(_INSERT, row)
        if proposal_id is not None:
            await connection.rows(_APPROVED, (proposal_id,))
        await connection.rows(_OVERTAKEN, (seq, proposal_id))


async def require_unfinished(connection: Connection, proposal_id: UUID) -> None:
    """Raise ProposalEnded unless a proposal is open or approved, and keep it so until the transaction ends."""
    if not await connection.rows(_UNFINISHED, (proposal_id,)):
        raise ProposalEnded


async def _check_quiet(connection: Connection, quiet: Quiet) -> None:
    key = bytes.fromhex(quiet.key_id)
    ((unsealed,),) = await connection.rows(COUNT_UNSEALED, (key,))
    if unsealed:
        raise KeyInUse(unsealed)
    ((signed,),) = await connection.rows(COUNT_SIGNED, (key,))
    if quiet.count is not None and signed != quiet.count:
        raise SignedSince(signed)


def _previous_hash(envelope: Envelope) -> bytes | None:
    body = canonical_json.decode(envelope.body)
    previous = body.get("prev") if isinstance(body, dict) else None
    return bytes.fromhex(previous) if isinstance(previous, str) else None
