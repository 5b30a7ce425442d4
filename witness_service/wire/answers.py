"""What the service answers, as values without protobuf: for commands and programs that read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from witness_service.event import Attested, Event
from witness_service.v1 import attestation_pb2, key_admin_pb2, key_registry_pb2, witness_pb2

_KEY_STATES = {
    key_registry_pb2.KEY_STATE_ADDED: "added",
    key_registry_pb2.KEY_STATE_OPEN: "open",
    key_registry_pb2.KEY_STATE_CLOSED: "closed",
}
_PROPOSAL_STATES = {
    key_admin_pb2.PROPOSAL_STATE_OPEN: "open",
    key_admin_pb2.PROPOSAL_STATE_APPROVED: "approved",
    key_admin_pb2.PROPOSAL_STATE_DONE: "done",
    key_admin_pb2.PROPOSAL_STATE_EXPIRED: "expired",
    key_admin_pb2.PROPOSAL_STATE_ABORTED: "aborted",
}


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """Evidence for one attestation: tlog_proof is the content of a .tlog-proof file (C2SP tlog-proof)."""

    stream: str
    sequence: int
    key_id: str
    tlog_proof: bytes


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """One PKCS#11 token. state: "ready", "degraded", "down" or "latched"; reason: why, when it is not
    ready.
    """

    label: str
    serial: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What an instance is and where its logs stand; ids and roots are 64 hexadecimal digits, times RFC 3339 UTC."""

    environment: str
    registry_id: str
    registry_size: int
    registry_root: str
    statement_size: int
    statement_root: str
    version: str
    serving_since: str
    tokens: tuple[TokenStatus, ...]
    events_in_flight: int


@dataclass(frozen=True, slots=True)
class ListedKey:
    """One key version. state: "added", "open" or "closed"; valid for statement-log positions [opened,
    closed).

    signed_count: attestations it signed, once it is closed. Times are those of its records, or empty.
    """

    key_id: str
    witness_id: str
    algorithm: str
    public_key: bytes
    streams: tuple[str, ...]
    state: str
    opened: int | None
    closed: int | None
    signed_count: int | None
    added_at: str
    opened_at: str
    closed_at: str
    token_serial: str


@dataclass(frozen=True, slots=True)
class KeyList:
    """Every key version, in the order in which they were added, and how long the two logs are."""

    keys: tuple[ListedKey, ...]
    registry_size: int
    statement_size: int


@dataclass(frozen=True, slots=True)
class ListedRecord:
    """One entry of the registry log; envelope is the signed record, a DSSE envelope as JSON."""

    seq: int
    type: str
    created_at: str
    summary: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class History:
    """Records up to a position or a time, and every key version in the state they lead to."""

    records: tuple[ListedRecord, ...]
    keys: tuple[ListedKey, ...]


@dataclass(frozen=True, slots=True)
class RotationProposal:
    """A key change. state: "open", "approved", "done", "expired" or "aborted".

    record: exact bytes a lead signs as PAE(payload_type, record). old_key_id: empty when there is none.
    """

    proposal_id: str
    witness_id: str
    state: str
    record: bytes
    payload_type: str
    new_key_id: str
    old_key_id: str
    expires_at: str
    approved_by: tuple[str, ...]
    threshold: int


def event_message(event: Event) -> attestation_pb2.Event:
    """Return an event as it goes over the wire."""
    return attestation_pb2.Event(
        stream=event.stream,
        sequence=event.sequence,
        event_hash=event.event_hash,
        previous_event_hash=event.previous_event_hash,
        event_id=event.event_id,
        event_type=event.event_type,
    )


def attested(message: attestation_pb2.Attestation) -> Attested:
    """Return an attestation of the wire, unverified."""
    return Attested(
        message.stream,
        message.sequence,
        message.statement,
        message.payload_type,
        message.key_id,
        message.signature,
        message.leaf_index,
    )


def evidence_files(messages: Iterable[witness_pb2.Evidence]) -> list[EvidenceFile]:
    """Return evidence of the wire, unverified."""
    return [EvidenceFile(item.stream, item.sequence, item.key_id, item.tlog_proof) for item in messages]


def service_status(message: witness_pb2.GetStatusResponse) -> ServiceStatus:
    """Return a status of the wire."""
    return ServiceStatus(
        message.environment,
        message.registry_id,
        message.registry_size,
        message.registry_root,
        message.statement_size,
        message.statement_root,
        message.version,
        message.serving_since,
        tuple(TokenStatus(token.label, token.serial, token.state, token.reason) for token in message.tokens),
        message.events_in_flight,
    )


def listed_key(message: key_registry_pb2.KeyVersion) -> ListedKey:
    """Return a key version of the wire."""
    return ListedKey(
        message.key_id,
        message.witness_id,
        message.algorithm,
        message.public_key,
        tuple(message.streams),
        _KEY_STATES.get(message.state, "unknown"),
        message.opened if message.HasField("opened") else None,
        message.closed if message.HasField("closed") else None,
        message.signed_count if message.HasField("signed_count") else None,
        message.added_at,
        message.opened_at,
        message.closed_at,
        message.token_serial,
    )


def listed_record(message: key_registry_pb2.Record) -> ListedRecord:
    """Return a registry record of the wire, unverified."""
    return ListedRecord(message.seq, message.type, message.created_at, message.summary, message.envelope)


def rotation_proposal(message: key_admin_pb2.Proposal) -> RotationProposal:
    """Return a proposal of the wire."""
    return RotationProposal(
        message.proposal_id,
        message.witness_id,
        _PROPOSAL_STATES.get(message.state, "unknown"),
        message.record,
        message.payload_type,
        message.new_key_id,
        message.old_key_id,
        message.expires_at,
        tuple(message.approved_by),
        message.threshold,
    )
