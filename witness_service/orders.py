"""What leads sign that is no record of the registry: to stop a key, to resume it, to say no, to ask for a change.

Each is canonical JSON with a payload type of its own, so that none can be read as another or as a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self
from uuid import UUID

from key_registry import canonical_json, dsse
from key_registry.canonical_json import JSONValue
from key_registry.errors import FormatError
from key_registry.statement import check_hex, check_name, check_number, check_time, read_number, read_object, read_text

STOP_TYPE = "application/vnd.witness-service.key-stop.v1+json"
RESUME_TYPE = "application/vnd.witness-service.key-resume.v1+json"
REJECTION_TYPE = "application/vnd.witness-service.rejection.v1+json"
REQUEST_TYPE = "application/vnd.witness-service.proposal-request.v1+json"


@dataclass(frozen=True)
class _KeyOrder:
    """An order about a key.

    registry_id, key_id: 64 hex digits. number: the key's orders are counted from 1; odd ones stop, even ones resume,
    so that an old order never has an effect again. reason: a name. created_at: YYYY-MM-DDTHH:MM:SS.ffffffZ.
    """

    PAYLOAD_TYPE: ClassVar[str]
    PARITY: ClassVar[int]

    registry_id: str
    key_id: str
    number: int
    reason: str
    created_at: str

    def __post_init__(self) -> None:
        check_hex("registry_id", self.registry_id)
        check_hex("key_id", self.key_id)
        check_name("reason", self.reason)
        check_time("created_at", self.created_at)
        if check_number("number", self.number) % 2 != self.PARITY or not self.number:
            raise FormatError("number: expected an odd one to stop a key, an even one to resume it, got the opposite")

    def encode(self) -> bytes:
        """Return the bytes a lead signs as PAE(PAYLOAD_TYPE, bytes)."""
        return canonical_json.encode(
            {
                "created_at": self.created_at,
                "key_id": self.key_id,
                "number": str(self.number),
                "reason": self.reason,
                "registry_id": self.registry_id,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read what encode writes; raises FormatError."""
        names = ("created_at", "key_id", "number", "reason", "registry_id")
        value = read_object("order", canonical_json.decode(body), names)
        texts = {name: read_text(name, value[name]) for name in names if name != "number"}
        return cls(number=read_number("number", value["number"]), **texts)


@dataclass(frozen=True)
class StopOrder(_KeyOrder):
    """From here on nothing is claimed with the key. Signed by any one lead."""

    PAYLOAD_TYPE = STOP_TYPE
    PARITY = 1


@dataclass(frozen=True)
class ResumeOrder(_KeyOrder):
    """The key may be used again. Signed by a quorum of leads."""

    PAYLOAD_TYPE = RESUME_TYPE
    PARITY = 0


@dataclass(frozen=True)
class Rejection:
    """A lead says no to a proposal.

    registry_id: 64 hex digits. proposal_id: UUID. reason: a name. created_at: YYYY-MM-DDTHH:MM:SS.ffffffZ.
    """

    registry_id: str
    proposal_id: str
    reason: str
    created_at: str

    def __post_init__(self) -> None:
        check_hex("registry_id", self.registry_id)
        check_uuid("proposal_id", self.proposal_id)
        check_name("reason", self.reason)
        check_time("created_at", self.created_at)

    def encode(self) -> bytes:
        """Return the bytes the lead signs as PAE(REJECTION_TYPE, bytes)."""
        return canonical_json.encode(
            {
                "created_at": self.created_at,
                "proposal_id": self.proposal_id,
                "reason": self.reason,
                "registry_id": self.registry_id,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> Rejection:
        """Read what encode writes; raises FormatError."""
        names = ("created_at", "proposal_id", "reason", "registry_id")
        value = read_object("rejection", canonical_json.decode(body), names)
        return cls(**{name: read_text(name, value[name]) for name in names})


@dataclass(frozen=True)
class ProposalRequest:
    """What somebody wants the leads to decide on.

    registry_id: 64 hex digits. proposal_id: UUID, chosen by who asks, so that asking again makes no second proposal.
    kind: of proposal_kinds. arguments: what the kind needs. created_at: YYYY-MM-DDTHH:MM:SS.ffffffZ.
    """

    registry_id: str
    proposal_id: str
    kind: str
    arguments: Mapping[str, JSONValue]
    created_at: str

    def __post_init__(self) -> None:
        check_hex("registry_id", self.registry_id)
        check_uuid("proposal_id", self.proposal_id)
        check_name("kind", self.kind)
        check_time("created_at", self.created_at)

    def encode(self) -> bytes:
        """Return the bytes a lead who proposes signs as PAE(REQUEST_TYPE, bytes)."""
        return canonical_json.encode(
            {
                "arguments": dict(self.arguments),
                "created_at": self.created_at,
                "kind": self.kind,
                "proposal_id": self.proposal_id,
                "registry_id": self.registry_id,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> ProposalRequest:
        """Read what encode writes; raises FormatError."""
        texts = ("created_at", "kind", "proposal_id", "registry_id")
        value = read_object("request", canonical_json.decode(body), (*texts, "arguments"))
        arguments = value["arguments"]
        if not isinstance(arguments, dict):
            raise FormatError("arguments: expected an object, got something else")
        return cls(arguments=arguments, **{name: read_text(name, value[name]) for name in texts})


def check_uuid(field: str, value: str) -> str:
    """Return `value` if it is a UUID in its usual spelling; raises FormatError otherwise."""
    try:
        if str(UUID(value)) == value:
            return value
    except ValueError:
        pass
    raise FormatError(f"{field}: expected a UUID in lower case, got something else")


def signed_by(envelope: dsse.Envelope) -> dsse.Signature:
    """Return the one signature of an order's envelope; raises FormatError for none or several."""
    if len(envelope.signatures) != 1:
        raise FormatError(f"order: expected one signature, got {len(envelope.signatures)}")
    return envelope.signatures[0]
