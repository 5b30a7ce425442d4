"""What the security leads are asked to sign, and what each of them said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from key_registry.dsse import Envelope, Signature
from key_registry.store import locks
from key_registry.store.connection import Connection, Database, Row
from key_registry.store.errors import Conflict, RegistryMoved
from key_registry.store.registry_log import SIZE

UNFINISHED = ("open", "approved")
"""States from which a proposal can go on."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a lead signs: PAE(payload_type, body). possession: signature of the key the document is about, if any."""

    payload_type: str
    body: bytes
    possession: Signature | None = None


@dataclass(frozen=True, slots=True)
class NewProposal:
    """A change for the leads to decide on.

    kind: what is to happen. witness_id, key_id: whom and which key it is about, if any. replaces: the key that is to
    be closed afterwards. seq: the place of its first record, None when it makes none. request: what was asked for.
    proposer: the lead's signature under the request, None when an operator made it. facts: what the leads should
    know, canonical JSON. documents: 1 to 8, signed together. Key ids are 64 hex digits, times are aware.
    """

    proposal_id: UUID
    kind: str
    witness_id: str | None
    key_id: str | None
    replaces: str | None
    seq: int | None
    request: bytes
    proposer: Signature | None
    facts: bytes
    documents: tuple[Document, ...]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class StoredProposal(NewProposal):
    """A stored proposal.

    state: "open", "approved", "done", "expired", "aborted", "rejected" or "overtaken"; finished_at: set in all but
    the first two. note: why, where the state does not say it.
    """

    created_at: datetime
    state: str
    finished_at: datetime | None
    note: str

    @property
    def unfinished(self) -> bool:
        """Whether it waits for leads or is being carried out."""
        return self.state in UNFINISHED


_SELECT = """
SELECT proposal_id, kind, witness_id, encode(key_id, 'hex'), encode(replaces, 'hex'), seq, request,
encode(proposer, 'hex'), proposer_signature, facts, expires_at, created_at, state, finished_at, note
FROM witness.proposals
"""
_BY_ID = f"{_SELECT} WHERE proposal_id = %s"
_UNFINISHED = f"{_SELECT} WHERE state IN ('open', 'approved') ORDER BY created_at, proposal_id"
_LATEST = f"{_SELECT} ORDER BY created_at DESC, proposal_id LIMIT %s"
_DOCUMENTS = """
SELECT proposal_id, payload_type, body, encode(key_id, 'hex'), signature
FROM witness.proposal_documents WHERE proposal_id = ANY(%s::uuid[]) ORDER BY proposal_id, position
"""

_INSERT = """
INSERT INTO witness.proposals (proposal_id, kind, witness_id, key_id, replaces, seq, request, proposer,
proposer_signature, facts, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_INSERT_DOCUMENT = """
INSERT INTO witness.proposal_documents (proposal_id, position, payload_type, body, key_id, signature)
VALUES (%s, %s, %s, %s, %s, %s)
"""
_MOVE = """
UPDATE witness.proposals SET state = %(state)s, note = %(note)s,
finished_at = CASE WHEN %(state)s = 'approved' THEN NULL ELSE clock_timestamp() END
WHERE proposal_id = %(proposal_id)s AND state = ANY(%(expected)s::text[])
RETURNING proposal_id
"""
# The share lock lets no change of state come between the check and the commit.
_APPROVE = """
INSERT INTO witness.approvals (proposal_id, lead_key_id, position, signature)
SELECT proposal.proposal_id, %s, given.position - 1, given.signature
FROM (SELECT proposal_id FROM witness.proposals WHERE proposal_id = %s AND state = 'open' FOR SHARE) AS proposal
CROSS JOIN unnest(%s::bytea[]) WITH ORDINALITY AS given (signature, position)
RETURNING proposal_id
"""
_REJECT = """
INSERT INTO witness.rejections (proposal_id, lead_key_id, envelope)
SELECT proposal_id, %s, %s FROM witness.proposals WHERE proposal_id = %s AND state = 'open' FOR SHARE
RETURNING proposal_id
"""
_APPROVALS = """
SELECT encode(lead_key_id, 'hex'), signature FROM witness.approvals
WHERE proposal_id = %s ORDER BY lead_key_id, position
"""
_REJECTIONS = """
SELECT encode(lead_key_id, 'hex'), envelope FROM witness.rejections WHERE proposal_id = %s ORDER BY lead_key_id
"""


async def add_proposal(database: Database, new: NewProposal) -> None:
    """Store an open proposal; see Store.add_proposal."""
    async with database.transaction() as connection:
        _, ((size,),) = await connection.begin(locks.SHARE_REGISTRY, SIZE)
        await insert(connection, size, new)


async def insert(connection: Connection, registry_size: int, new: NewProposal) -> None:
    """Store an open proposal in a transaction during which the registry log has this size; see Store.add_proposal."""
    if new.seq is not None and registry_size != new.seq:
        raise RegistryMoved(registry_size)
    proposer = (_binary(new.proposer.key_id), new.proposer.signature) if new.proposer else (None, None)
    row = (
        new.proposal_id,
        new.kind,
        new.witness_id,
        _binary(new.key_id),
        _binary(new.replaces),
        new.seq,
        new.request,
        *proposer,
        new.facts,
        new.expires_at,
    )
    await connection.rows(_INSERT, row)
    for position, item in enumerate(new.documents):
        own = (_binary(item.possession.key_id), item.possession.signature) if item.possession else (None, None)
        await connection.rows(_INSERT_DOCUMENT, (new.proposal_id, position, item.payload_type, item.body, *own))


async def proposal(database: Database, proposal_id: UUID) -> StoredProposal | None:
    """Return a proposal by its id."""
    found = await _with_documents(database, await database.read(_BY_ID, (proposal_id,)))
    return found[0] if found else None


async def unfinished(database: Database) -> list[StoredProposal]:
    """Return the proposals that are open or approved, in the order in which they were made."""
    return await _with_documents(database, await database.read(_UNFINISHED))


async def latest(database: Database, limit: int) -> list[StoredProposal]:
    """Return the newest proposals in any state, the newest first."""
    return await _with_documents(database, await database.read(_LATEST, (limit,)))


async def _with_documents(database: Database, rows: Sequence[Row]) -> list[StoredProposal]:
    # Documents never change, so that two reads say no less than one.
    documents: dict[UUID, list[Document]] = {row[0]: [] for row in rows}
    if documents:
        for proposal_id, payload_type, body, key_id, signature in await database.read(_DOCUMENTS, (list(documents),)):
            own = Signature(key_id, signature) if key_id else None
            documents[proposal_id].append(Document(payload_type, body, own))
    return [_stored(row, documents[row[0]]) for row in rows]


def _stored(row: Row, documents: Sequence[Document]) -> StoredProposal:
    proposer, signature = row[7:9]
    return StoredProposal(
        proposal_id=row[0],
        kind=row[1],
        witness_id=row[2],
        key_id=row[3],
        replaces=row[4],
        seq=row[5],
        request=row[6],
        proposer=Signature(proposer, signature) if proposer else None,
        facts=row[9],
        documents=tuple(documents),
        expires_at=row[10],
        created_at=row[11],
        state=row[12],
        finished_at=row[13],
        note=row[14],
    )


async def add_approval(database: Database, proposal_id: UUID, lead_key_id: str, signatures: Sequence[bytes]) -> None:
    """Store a lead's signatures; see Store.add_approval."""
    (rows,) = await database.write((_APPROVE, (bytes.fromhex(lead_key_id), proposal_id, list(signatures))))
    if not rows:
        raise Conflict("expected an open proposal to approve, got none")


async def approvals(database: Database, proposal_id: UUID) -> Mapping[str, tuple[bytes, ...]]:
    """Return the leads' signatures, one for each document, by key id in ascending order."""
    found: dict[str, tuple[bytes, ...]] = {}
    for lead_key_id, signature in await database.read(_APPROVALS, (proposal_id,)):
        found[lead_key_id] = (*found.get(lead_key_id, ()), signature)
    return found


async def add_rejection(database: Database, proposal_id: UUID, lead_key_id: str, envelope: Envelope) -> None:
    """Store a lead's rejection; see Store.add_rejection."""
    (rows,) = await database.write((_REJECT, (bytes.fromhex(lead_key_id), envelope.to_json(), proposal_id)))
    if not rows:
        raise Conflict("expected an open proposal to reject, got none")


async def rejections(database: Database, proposal_id: UUID) -> Mapping[str, Envelope]:
    """Return the signed rejections by key id."""
    rows = await database.read(_REJECTIONS, (proposal_id,))
    return {lead_key_id: Envelope.from_json(envelope) for lead_key_id, envelope in rows}


async def set_proposal_state(database: Database, proposal_id: UUID, state: str, note: str) -> None:
    """Move a proposal on; see Store.set_proposal_state."""
    expected = list(UNFINISHED) if state in ("done", "overtaken") else ["open"]
    values = {"state": state, "note": note, "proposal_id": proposal_id, "expected": expected}
    (rows,) = await database.write((_MOVE, values))
    if not rows:
        raise Conflict(f"expected a proposal that is {' or '.join(expected)}, got none")


def _binary(key_id: str | None) -> bytes | None:
    return None if key_id is None else bytes.fromhex(key_id)
