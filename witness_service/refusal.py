"""Why an event is not signed: one exception with a stable reason and the facts a program needs."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from witness_service.event import Attested

REASON_DOMAIN = "witness-service"
"""Domain of every `google.rpc.ErrorInfo` this service sends."""


class Code(enum.IntEnum):
    """Status codes this service answers with, numbered as `google.rpc.Code`."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    INTERNAL = 13
    UNAVAILABLE = 14


class Reason(enum.StrEnum):
    """Stable reasons; docs/errors.md says for each what it means and what to do."""

    FIELD_INVALID = "FIELD_INVALID"
    BATCH_SIZE = "BATCH_SIZE"
    DEADLINE_TOO_NEAR = "DEADLINE_TOO_NEAR"
    NOT_ATTESTED = "NOT_ATTESTED"
    UNKNOWN_WITNESS = "UNKNOWN_WITNESS"
    UNKNOWN_PROPOSAL = "UNKNOWN_PROPOSAL"
    EQUIVOCATION = "EQUIVOCATION"
    OVERLOADED = "OVERLOADED"
    NO_WITNESS_AVAILABLE = "NO_WITNESS_AVAILABLE"
    KEY_QUARANTINED = "KEY_QUARANTINED"
    HSM_LATCHED = "HSM_LATCHED"
    ROLLBACK_DETECTED = "ROLLBACK_DETECTED"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    KEY_STATE = "KEY_STATE"
    KEY_IN_USE = "KEY_IN_USE"
    KEY_STILL_THERE = "KEY_STILL_THERE"
    CUT_NOT_LOWER = "CUT_NOT_LOWER"
    NOT_A_LEAD = "NOT_A_LEAD"
    TOO_FEW_LEADS = "TOO_FEW_LEADS"
    PROPOSER_APPROVES = "PROPOSER_APPROVES"
    ALREADY_SIGNED = "ALREADY_SIGNED"
    ALREADY_REJECTED = "ALREADY_REJECTED"
    PROPOSAL_EXISTS = "PROPOSAL_EXISTS"
    EMERGENCY_FIRST = "EMERGENCY_FIRST"
    ORDER_MOVED = "ORDER_MOVED"
    BAD_APPROVAL = "BAD_APPROVAL"
    PROPOSAL_NOT_OPEN = "PROPOSAL_NOT_OPEN"
    ROTATION_RUNS = "ROTATION_RUNS"
    REGISTRY_MOVED = "REGISTRY_MOVED"
    SEQUENCE_GAP = "SEQUENCE_GAP"
    BELOW_HEAD = "BELOW_HEAD"
    BROKEN_LINK = "BROKEN_LINK"
    INVARIANT_BROKEN = "INVARIANT_BROKEN"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    HSM_UNAVAILABLE = "HSM_UNAVAILABLE"
    SEAL_NOT_COSIGNED = "SEAL_NOT_COSIGNED"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    STOPPING = "STOPPING"
    UNREACHABLE = "UNREACHABLE"


@dataclass(eq=False)
class Refused(Exception):
    """An answer that is not what was asked for; DESIGN section "Errors over the wire".

    code: what kind of refusal. reason: stable, upper case. message: one sentence for people, without any
    secret. metadata: facts by name. existing: the attestations that stand at the place, for EQUIVOCATION.
    """

    code: Code
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    existing: tuple[Attested, ...] = ()

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def invalid(field_name: str, message: str) -> Refused:
    """Return the refusal of a field that is not of its form."""
    return Refused(Code.INVALID_ARGUMENT, Reason.FIELD_INVALID, message, {"field": field_name})
