"""An event as a writer hands it in, and the attestation it gets back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from key_registry.errors import FormatError
from key_registry.statement import check_hash, check_name
from witness_service.refusal import invalid

MAX_SEQUENCE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Event:
    """One place in an event log and the hash that stands there.

    stream, event_id, event_type: 1 to 255 bytes of UTF-8 without control characters, kept verbatim.
    sequence: 0 to 2**63-1. event_hash, previous_event_hash: "sha256:" or "blake3:" and 64 lower-case
    hexadecimal digits; previous_event_hash is None for a first event or a stream without links.
    """

    stream: str
    sequence: int
    event_hash: str
    previous_event_hash: str | None
    event_id: str
    event_type: str

    def check(self) -> None:
        """Raise Refused INVALID_ARGUMENT, naming the field, unless every field is of its form."""
        check_place(self.stream, self.sequence)
        _check(check_name, "event_id", self.event_id)
        _check(check_name, "event_type", self.event_type)
        _check(check_hash, "event_hash", self.event_hash)
        if self.previous_event_hash is not None:
            _check(check_hash, "previous_event_hash", self.previous_event_hash)


def check_place(stream: str, sequence: int, *, field: str = "sequence") -> None:
    """Raise Refused INVALID_ARGUMENT unless a stream name and a sequence are of their form; field names the latter."""
    _check(check_name, "stream", stream)
    if not 0 <= sequence <= MAX_SEQUENCE:
        raise invalid(field, f"{field}: expected 0 to {MAX_SEQUENCE}, got another number")


def _check(rule: Callable[[str, object], str], field: str, value: str) -> None:
    try:
        rule(field, value)
    except FormatError as error:
        raise invalid(field, str(error)) from error


@dataclass(frozen=True, slots=True)
class Attested:
    """A sealed attestation as it is given out: durable, verified and in the statement log.

    statement: the exact bytes the witness signed. signature: 64 raw bytes over PAE(payload_type, statement).
    key_id: 64 hexadecimal digits. leaf_index: place in the statement log, from 0.
    """

    stream: str
    sequence: int
    statement: bytes
    payload_type: str
    key_id: str
    signature: bytes
    leaf_index: int
