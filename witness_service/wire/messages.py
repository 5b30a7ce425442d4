"""What the service says, as protobuf: the counterpart of the client's `answers`."""

from __future__ import annotations

from collections.abc import Sequence

from key_registry.record import RECORD_TYPE, Genesis, KeyAdd, Record, Rotate
from key_registry.replay import KeyVersion, Registry
from witness_service.claimed import Outcome
from witness_service.clock import utc_text
from witness_service.event import Attested, Event
from witness_service.proofs import EvidenceFile
from witness_service.refusal import Refused
from witness_service.rotation import Progress
from witness_service.v1 import attestation_pb2, key_admin_pb2, key_registry_pb2, witness_pb2

PROPOSAL_STATES = {
    "open": key_admin_pb2.PROPOSAL_STATE_OPEN,
    "approved": key_admin_pb2.PROPOSAL_STATE_APPROVED,
    "done": key_admin_pb2.PROPOSAL_STATE_DONE,
    "expired": key_admin_pb2.PROPOSAL_STATE_EXPIRED,
    "aborted": key_admin_pb2.PROPOSAL_STATE_ABORTED,
}


def event_of(message: attestation_pb2.Event) -> Event:
    """Return the event of a message, unchecked."""
    return Event(
        message.stream,
        message.sequence,
        message.event_hash,
        message.previous_event_hash if message.HasField("previous_event_hash") else None,
        message.event_id,
        message.event_type,
    )


def attestation(item: Attested) -> attestation_pb2.Attestation:
    """Return an attestation as a message."""
    return attestation_pb2.Attestation(
        stream=item.stream,
        sequence=item.sequence,
        statement=item.statement,
        payload_type=item.payload_type,
        key_id=item.key_id,
        signature=item.signature,
        leaf_index=item.leaf_index,
    )


def refusal(refused: Refused) -> attestation_pb2.Refusal:
    """Return a refusal as a message."""
    return attestation_pb2.Refusal(
        code=refused.code.value,
        reason=refused.reason,
        message=refused.message,
        metadata=refused.metadata,
        existing=[attestation(item) for item in refused.existing],
    )


def sign_result(outcome: Outcome) -> witness_pb2.SignResult:
    """Return what became of one event as a message."""
    if isinstance(outcome, Refused):
        return witness_pb2.SignResult(refusal=refusal(outcome))
    return witness_pb2.SignResult(attestations=[attestation(item) for item in outcome])


def evidence(files: Sequence[EvidenceFile]) -> list[witness_pb2.Evidence]:
    """Return evidence files as messages."""
    return [
        witness_pb2.Evidence(
            stream=file.attested.stream,
            sequence=file.attested.sequence,
            key_id=file.attested.key_id,
            tlog_proof=file.content,
        )
        for file in files
    ]


def key_version(key: KeyVersion) -> key_registry_pb2.KeyVersion:
    """Return a key version as a message."""
    return key_registry_pb2.KeyVersion(
        key_id=key.key_id,
        witness_id=key.witness_id,
        algorithm=key.public_key.algorithm,
        public_key=key.public_key.spki,
        streams=key.streams,
        state=_key_state(key),
        opened=key.opened,
        closed=key.closed,
        signed_count=key.count,
        added_at=key.added_at,
        opened_at=key.opened_at or "",
        closed_at=key.closed_at or "",
        token_serial=key.token_serial,
    )


def _key_state(key: KeyVersion) -> key_registry_pb2.KeyState.ValueType:
    if key.opened is None:
        return key_registry_pb2.KEY_STATE_ADDED
    return key_registry_pb2.KEY_STATE_OPEN if key.closed is None else key_registry_pb2.KEY_STATE_CLOSED


def records(registry: Registry) -> list[key_registry_pb2.Record]:
    """Return the records of a registry as messages."""
    return [
        key_registry_pb2.Record(
            seq=seq,
            type=record.TYPE,
            created_at=record.created_at,
            summary=summary(record),
            envelope=envelope.to_json(),
        )
        for seq, (record, envelope) in enumerate(zip(registry.records, registry.envelopes, strict=True))
    ]


def summary(record: Record) -> str:
    """Say in one sentence what a record does."""
    match record:
        case Genesis():
            return f"registry founded for {record.environment}: {record.threshold} of {len(record.leads)} leads decide"
        case KeyAdd():
            return f"{record.algorithm} key {record.key_id} added to {record.witness_id}"
        case Rotate():
            parts = [f"key {record.open} opened"] if record.open else []
            parts += [f"key {record.close} closed after {record.count} attestations"] if record.close else []
            return f"{' and '.join(parts)} for {record.witness_id}"


def proposal(progress: Progress) -> key_admin_pb2.Proposal:
    """Return a proposal as a message."""
    stored = progress.proposal
    return key_admin_pb2.Proposal(
        proposal_id=str(stored.proposal_id),
        witness_id=stored.witness_id,
        state=PROPOSAL_STATES[stored.state],
        record=stored.body,
        payload_type=RECORD_TYPE,
        new_key_id=progress.new_key_id,
        old_key_id=stored.replaces or "",
        expires_at=utc_text(stored.expires_at),
        approved_by=progress.approved_by,
        threshold=progress.threshold,
    )
