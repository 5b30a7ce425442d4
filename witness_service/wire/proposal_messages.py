"""Proposals as protobuf."""

from __future__ import annotations

from collections.abc import Iterable

from key_registry import canonical_json
from key_registry.errors import FormatError
from key_registry.store import Document
from witness_service.clock import utc_text
from witness_service.orders import ProposalRequest
from witness_service.proposal_kinds import Draft
from witness_service.proposals import Progress
from witness_service.v1 import key_admin_pb2

STATES = {
    "open": key_admin_pb2.PROPOSAL_STATE_OPEN,
    "approved": key_admin_pb2.PROPOSAL_STATE_APPROVED,
    "done": key_admin_pb2.PROPOSAL_STATE_DONE,
    "expired": key_admin_pb2.PROPOSAL_STATE_EXPIRED,
    "aborted": key_admin_pb2.PROPOSAL_STATE_ABORTED,
    "rejected": key_admin_pb2.PROPOSAL_STATE_REJECTED,
    "overtaken": key_admin_pb2.PROPOSAL_STATE_OVERTAKEN,
}


def proposal(progress: Progress) -> key_admin_pb2.Proposal:
    """Return a proposal as a message."""
    stored = progress.proposal
    return key_admin_pb2.Proposal(
        proposal_id=str(stored.proposal_id),
        kind=stored.kind,
        witness_id=stored.witness_id or "",
        key_id=stored.key_id or "",
        replaces=stored.replaces or "",
        state=STATES[stored.state],
        documents=_documents(stored.documents),
        request=stored.request,
        proposer=stored.proposer.key_id if stored.proposer else "",
        approved_by=progress.approved_by,
        rejected_by=[
            key_admin_pb2.LeadRejection(lead_key_id=lead, reason=reason) for lead, reason in progress.rejected_by
        ],
        threshold=progress.quorum.threshold,
        missing=progress.missing,
        created_at=utc_text(stored.created_at),
        expires_at=utc_text(stored.expires_at),
        facts=_facts(stored.facts),
        note=stored.note,
    )


def draft(request: bytes, drafted: Draft) -> key_admin_pb2.Proposal:
    """Return what would be proposed as a message without an id and a state."""
    return key_admin_pb2.Proposal(
        kind=ProposalRequest.decode(request).kind,
        witness_id=drafted.witness_id or "",
        key_id=drafted.key_id or "",
        replaces=drafted.replaces or "",
        documents=_documents(drafted.documents),
        request=request,
        facts=drafted.facts,
    )


def _documents(documents: Iterable[Document]) -> list[key_admin_pb2.Document]:
    return [key_admin_pb2.Document(payload_type=it.payload_type, body=it.body) for it in documents]


def _facts(stored: bytes) -> dict[str, str]:
    try:
        facts = canonical_json.decode(stored)
    except FormatError:
        return {}
    return {name: value for name, value in facts.items() if isinstance(value, str)} if isinstance(facts, dict) else {}
