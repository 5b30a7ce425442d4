"""What the service answers about proposals, as values without protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from witness_service.v1 import key_admin_pb2

_STATES = {
    key_admin_pb2.PROPOSAL_STATE_UNSPECIFIED: "drafted",
    key_admin_pb2.PROPOSAL_STATE_OPEN: "open",
    key_admin_pb2.PROPOSAL_STATE_APPROVED: "approved",
    key_admin_pb2.PROPOSAL_STATE_DONE: "done",
    key_admin_pb2.PROPOSAL_STATE_EXPIRED: "expired",
    key_admin_pb2.PROPOSAL_STATE_ABORTED: "aborted",
    key_admin_pb2.PROPOSAL_STATE_REJECTED: "rejected",
    key_admin_pb2.PROPOSAL_STATE_OVERTAKEN: "overtaken",
}


@dataclass(frozen=True, slots=True)
class ListedDocument:
    """What a lead signs: PAE(payload_type, body)."""

    payload_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class ListedProposal:
    """A change.

    state: "open", "approved", "done", "expired", "aborted", "rejected", "overtaken", or "drafted" in a dry run. Ids of
    what there is not are empty. request: what was asked for. approved_by: key ids of leads. rejected_by: reasons by
    key id. missing: leads still needed. facts: what the service found out for the leads; note: why it is as it is.
    """

    proposal_id: str
    kind: str
    witness_id: str
    key_id: str
    replaces: str
    state: str
    documents: tuple[ListedDocument, ...]
    request: bytes
    proposer: str
    approved_by: tuple[str, ...]
    rejected_by: Mapping[str, str]
    threshold: int
    missing: int
    created_at: str
    expires_at: str
    facts: Mapping[str, str]
    note: str


@dataclass(frozen=True, slots=True)
class StoppedKey:
    """A key that is stopped. order: the signed order, a DSSE envelope as JSON. was_stopped: whether it was before."""

    order: bytes
    stopped_at: str
    was_stopped: bool


def listed_proposal(message: key_admin_pb2.Proposal) -> ListedProposal:
    """Return a proposal of the wire, unverified."""
    return ListedProposal(
        proposal_id=message.proposal_id,
        kind=message.kind,
        witness_id=message.witness_id,
        key_id=message.key_id,
        replaces=message.replaces,
        state=_STATES.get(message.state, "unknown"),
        documents=tuple(ListedDocument(it.payload_type, it.body) for it in message.documents),
        request=message.request,
        proposer=message.proposer,
        approved_by=tuple(message.approved_by),
        rejected_by={it.lead_key_id: it.reason for it in message.rejected_by},
        threshold=message.threshold,
        missing=message.missing,
        created_at=message.created_at,
        expires_at=message.expires_at,
        facts=dict(message.facts),
        note=message.note,
    )
