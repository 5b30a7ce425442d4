"""What the service says, as protobuf: the counterpart of the client's `answers`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from key_registry.record import (
    Compromise,
    Destroyed,
    Genesis,
    KeyAdd,
    LeadsChange,
    PolicyChange,
    Record,
    Rotate,
)
from key_registry.replay import KeyVersion, Registry
from key_registry.store import KeyOrder
from witness_service.claimed import Outcome
from witness_service.clock import utc_text
from witness_service.cosigning.asked import CosignerState
from witness_service.event import Attested, Event
from witness_service.orders import StopOrder
from witness_service.proofs import EvidenceFile
from witness_service.refusal import Refused
from witness_service.v1 import attestation_pb2, key_registry_pb2, witness_pb2


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


def timestamps(files: Sequence[EvidenceFile], seen: set[int]) -> list[witness_pb2.CheckpointTimestamp]:
    """Return the timestamp tokens over the files' checkpoints as messages; seen: sizes that were sent, kept up."""
    found = []
    for checkpoint in (file.checkpoint for file in files):
        if checkpoint.token is not None and checkpoint.size not in seen:
            seen.add(checkpoint.size)
            found.append(
                witness_pb2.CheckpointTimestamp(
                    size=checkpoint.size, checkpoint_text=checkpoint.text, token=checkpoint.token
                )
            )
    return found


def cosigner_status(state: CosignerState) -> witness_pb2.CosignerStatus:
    """Return what is known of a cosigner and a log as a message."""
    time = None if state.cosigned_at is None else datetime.fromtimestamp(state.cosigned_at, UTC)
    return witness_pb2.CosignerStatus(
        cosigner=state.cosigner,
        log=state.log,
        size=state.size,
        cosigned_at="" if time is None else utc_text(time),
        problem=state.problem,
    )


def key_version(key: KeyVersion, order: KeyOrder | None = None) -> key_registry_pb2.KeyVersion:
    """Return a key version as a message; order: the last one of a lead about it."""
    stop = StopOrder.decode(order.envelope.body) if order is not None and order.stops else None
    return key_registry_pb2.KeyVersion(
        key_id=key.key_id,
        witness_id=key.witness_id,
        algorithm=key.public_key.algorithm,
        public_key=key.public_key.spki,
        streams=key.streams,
        state=_key_state(key, stop is not None),
        opened=key.opened,
        closed=key.closed,
        signed_count=key.count,
        added_at=key.added_at,
        opened_at=key.opened_at or "",
        closed_at=key.closed_at or "",
        token_serial=key.token_serial,
        trusted_size=key.trusted_size,
        compromised_at=key.compromised_at or "",
        suspected_since=key.suspected_since or "",
        compromise_reason=key.compromise_reason or "",
        destroyed_at=key.destroyed_at or "",
        reason=key.reason,
        stopped_at=utc_text(order.created_at) if stop is not None and order is not None else "",
        stop_reason=stop.reason if stop is not None else "",
        order_count=order.number if order is not None else 0,
    )


def _key_state(key: KeyVersion, is_stopped: bool) -> key_registry_pb2.KeyState.ValueType:
    """Return the one state that says most about whether the key's signatures may be trusted."""
    if key.is_compromised:
        return key_registry_pb2.KEY_STATE_COMPROMISED
    if key.is_destroyed:
        return key_registry_pb2.KEY_STATE_DESTROYED
    if key.closed is not None:
        return key_registry_pb2.KEY_STATE_CLOSED
    if is_stopped:
        return key_registry_pb2.KEY_STATE_STOPPED
    return key_registry_pb2.KEY_STATE_ADDED if key.opened is None else key_registry_pb2.KEY_STATE_OPEN


def records(registry: Registry) -> list[key_registry_pb2.Record]:
    """Return the records of a registry as messages."""
    return [
        key_registry_pb2.Record(
            seq=seq,
            type=record.TYPE,
            created_at=record.created_at,
            summary=summary(record),
            envelope=envelope.to_json(),
            reason=getattr(record, "reason", ""),
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
        case Compromise():
            return f"key {record.key_id} of {record.witness_id} distrusted from index {record.trusted_size} on"
        case LeadsChange():
            return f"leads exchanged: {record.threshold} of {len(record.leads)} leads decide"
        case PolicyChange():
            return "cosigner policy and log keys set anew"
        case Destroyed():
            return f"private key {record.key_id} of {record.witness_id} destroyed"
