"""What the service answers, as values without protobuf: for commands and programs that read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from witness_service.event import Attested, Event
from witness_service.v1 import attestation_pb2, key_registry_pb2, witness_pb2

_KEY_STATES = {
    key_registry_pb2.KEY_STATE_ADDED: "added",
    key_registry_pb2.KEY_STATE_OPEN: "open",
    key_registry_pb2.KEY_STATE_CLOSED: "closed",
    key_registry_pb2.KEY_STATE_COMPROMISED: "compromised",
    key_registry_pb2.KEY_STATE_DESTROYED: "destroyed",
    key_registry_pb2.KEY_STATE_STOPPED: "stopped",
}


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """Evidence for one attestation: tlog_proof is the content of a .tlog-proof file (C2SP tlog-proof)."""

    stream: str
    sequence: int
    key_id: str
    tlog_proof: bytes


@dataclass(frozen=True, slots=True)
class CheckpointTimestamp:
    """A timestamp authority's token (RFC 3161 TimeStampResp in DER) over the text of a checkpoint of so many leaves."""

    size: int
    text: str
    token: bytes


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence files in their order, and the timestamp tokens over the checkpoints they are under."""

    files: tuple[EvidenceFile, ...]
    timestamps: tuple[CheckpointTimestamp, ...]


@dataclass(frozen=True, slots=True)
class CosignerStatus:
    """What is known of a cosigner and a log: size is None when it cosigned nothing; problem is empty when all is well.

    cosigned_at: by the cosigner's clock, RFC 3339 UTC, or empty.
    """

    cosigner: str
    log: str
    size: int | None
    cosigned_at: str
    problem: str


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint of a log (C2SP tlog-checkpoint). note: with cosignature lines. size: entries it is over.

    token: a timestamp authority's answer over its text (RFC 3161), or nothing.
    """

    note: bytes
    size: int
    token: bytes


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
    """What an instance is and where its logs stand; ids and roots are 64 hexadecimal digits, times RFC 3339 UTC.

    contradictions: what cosigners have seen that the database lacks; while there is any, nothing is signed.
    """

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
    cosigners: tuple[CosignerStatus, ...]
    contradictions: tuple[str, ...]
    timestamp_problem: str


@dataclass(frozen=True, slots=True)
class ListedKey:
    """One key version; valid for statement-log positions [opened, closed), and trusted there below trusted_size.

    state: "added", "open", "stopped", "closed", "compromised" or "destroyed". signed_count: attestations it signed,
    once it is closed. reason: why it was added. Times are those of its records, or empty; stopped_at and stop_reason
    are of a lead's order, which is no record, and order_count how many such orders there were.
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
    trusted_size: int | None = None
    compromised_at: str = ""
    suspected_since: str = ""
    compromise_reason: str = ""
    destroyed_at: str = ""
    reason: str = ""
    stopped_at: str = ""
    stop_reason: str = ""
    order_count: int = 0


@dataclass(frozen=True, slots=True)
class KeyList:
    """Every key version, in the order in which they were added, and how long the two logs are."""

    keys: tuple[ListedKey, ...]
    registry_size: int
    statement_size: int


@dataclass(frozen=True, slots=True)
class ListedRecord:
    """One entry of the registry log; envelope is the signed record, a DSSE envelope as JSON; reason: why, or empty."""

    seq: int
    type: str
    created_at: str
    summary: str
    envelope: bytes
    reason: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """Records up to a position or a time, and every key version in the state they lead to."""

    records: tuple[ListedRecord, ...]
    keys: tuple[ListedKey, ...]


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


def evidence(message: witness_pb2.GetProofResponse | witness_pb2.ListProofsResponse) -> Evidence:
    """Return evidence of the wire with its timestamp tokens, unverified."""
    stamps = (CheckpointTimestamp(item.size, item.checkpoint_text, item.token) for item in message.timestamps)
    return Evidence(tuple(evidence_files(message.evidence)), tuple(stamps))


def _cosigner_status(message: witness_pb2.CosignerStatus) -> CosignerStatus:
    size = message.size if message.HasField("size") else None
    return CosignerStatus(message.cosigner, message.log, size, message.cosigned_at, message.problem)


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
        tuple(map(_cosigner_status, message.cosigners)),
        tuple(message.contradictions),
        message.timestamp_problem,
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
        message.trusted_size if message.HasField("trusted_size") else None,
        message.compromised_at,
        message.suspected_since,
        message.compromise_reason,
        message.destroyed_at,
        message.reason,
        message.stopped_at,
        message.stop_reason,
        message.order_count,
    )


def listed_record(message: key_registry_pb2.Record) -> ListedRecord:
    """Return a registry record of the wire, unverified."""
    return ListedRecord(
        message.seq, message.type, message.created_at, message.summary, message.envelope, message.reason
    )
