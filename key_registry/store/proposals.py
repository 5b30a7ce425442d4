"""Key records that wait for the security leads: at most one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from key_registry.dsse import Signature
from key_registry.store.connection import Database, Row
from key_registry.store.errors import Conflict


@dataclass(frozen=True, slots=True)
class StoredProposal:
    """A record body that leads are asked to sign.

    kind: what is to happen. replaces: key id (64 hex digits) of the key to close, or None. body: the record
    body. possession: the new key's signature. Times are aware. state: "open", "approved", "done", "expired"
    or "aborted"; finished_at: set in the last three.
    """

    proposal_id: UUID
    kind: str
    witness_id: str
    replaces: str | None
    body: bytes
    possession: bytes
    created_at: datetime
    expires_at: datetime
    state: str
    finished_at: datetime | None

    @classmethod
    def of(cls, row: Row) -> StoredProposal:
        """Return the proposal of a row of _SELECT."""
        return cls(*row)


_SELECT = """
SELECT proposal_id, kind, witness_id, encode(replaces, 'hex'), body, possession, created_at, expires_at,
state, finished_at FROM witness.proposals
"""
_BY_ID = f"{_SELECT} WHERE proposal_id = %s"
_UNFINISHED = f"{_SELECT} WHERE state IN ('open', 'approved')"

_INSERT = """
INSERT INTO witness.proposals (proposal_id, kind, witness_id, replaces, body, possession, expires_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
_MOVE = """
UPDATE witness.proposals
SET state = %(state)s, finished_at = CASE WHEN %(state)s = 'approved' THEN NULL ELSE clock_timestamp() END
WHERE proposal_id = %(proposal_id)s AND state = ANY(%(expected)s::text[])
RETURNING proposal_id
"""
# The share lock lets no change of state come between the check and the commit.
_APPROVE = """
INSERT INTO witness.approvals (proposal_id, lead_key_id, signature)
SELECT proposal_id, %s, %s FROM witness.proposals WHERE proposal_id = %s AND state = 'open' FOR SHARE
RETURNING proposal_id
"""
_APPROVALS = "SELECT lead_key_id, signature FROM witness.approvals WHERE proposal_id = %s ORDER BY lead_key_id"


async def add_proposal(
    database: Database,
    *,
    proposal_id: UUID,
    kind: str,
    witness_id: str,
    replaces: str | None,
    body: bytes,
    possession: bytes,
    expires_at: datetime,
) -> None:
    """Store an open proposal; see Store.add_proposal."""
    replaced = bytes.fromhex(replaces) if replaces is not None else None
    await database.write((_INSERT, (proposal_id, kind, witness_id, replaced, body, possession, expires_at)))


async def proposal(database: Database, proposal_id: UUID) -> StoredProposal | None:
    """Return a proposal by its id."""
    rows = await database.read(_BY_ID, (proposal_id,))
    return StoredProposal.of(rows[0]) if rows else None


async def open_proposal(database: Database) -> StoredProposal | None:
    """Return the proposal that is open or approved."""
    rows = await database.read(_UNFINISHED)
    return StoredProposal.of(rows[0]) if rows else None


async def add_approval(database: Database, proposal_id: UUID, lead_key_id: str, signature: bytes) -> None:
    """Store a lead's signature; see Store.add_approval."""
    (rows,) = await database.write((_APPROVE, (bytes.fromhex(lead_key_id), signature, proposal_id)))
    if not rows:
        raise Conflict("expected an open proposal to approve, got none")


async def approvals(database: Database, proposal_id: UUID) -> list[Signature]:
    """Return the leads' signatures by key id."""
    rows = await database.read(_APPROVALS, (proposal_id,))
    return [Signature(lead_key_id.hex(), signature) for lead_key_id, signature in rows]


async def set_proposal_state(database: Database, proposal_id: UUID, state: str) -> None:
    """Move a proposal on; see Store.set_proposal_state."""
    expected = ["open"] if state == "approved" else ["open", "approved"]
    (rows,) = await database.write((_MOVE, {"state": state, "proposal_id": proposal_id, "expected": expected}))
    if not rows:
        raise Conflict(f"expected a proposal that is {' or '.join(expected)}, got none")
