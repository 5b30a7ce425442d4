"""What callers are told when a step of the sign path fails."""

from __future__ import annotations

import structlog

from key_registry.store import Conflict, StoreUnavailable
from witness_service.refusal import Code, Reason, Refused

log = structlog.get_logger(__name__)

RETRYABLE = (StoreUnavailable, Conflict)
"""Store errors after which the same work may be done again: it finds what it had done."""


def refusal(step: str, error: Exception, events: int) -> Refused:
    """Return the refusal of the events of a step that failed; the log has what callers are not told."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, RETRYABLE):
        log.error("step failed", step=step, error=str(error), events=events)
        return Refused(
            Code.UNAVAILABLE,
            Reason.STORE_UNAVAILABLE,
            f"the database did not answer: {error}; ask again, it is safe",
        )
    log.error("step failed", step=step, events=events, exc_info=error)
    return Refused(Code.INTERNAL, Reason.INTERNAL_ERROR, f"the {step} step failed; the log of the service says why")


def store_silent() -> Refused:
    """Return the refusal of events while the database is known not to answer: nothing was done."""
    return Refused(Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE, "the database does not answer; ask again, it is safe")


def registry_moved() -> Refused:
    """Return the refusal of events during which the registry would not stand still."""
    return Refused(Code.ABORTED, Reason.REGISTRY_MOVED, "the key registry changed while the events waited; ask again")


def closed_too_early(key_id: str) -> Refused:
    """Return the refusal of a claim that can no longer be sealed, which must never be."""
    return Refused(
        Code.INTERNAL,
        Reason.INVARIANT_BROKEN,
        f"key {key_id} was closed while a statement of it was claimed; stop and compare the registry with the claims",
        {"key_id": key_id},
    )


def interrupted() -> Refused:
    """Return the refusal of those who wait for a claim whose completion broke off; it is taken up again."""
    return Refused(
        Code.UNAVAILABLE,
        Reason.HSM_UNAVAILABLE,
        "the token did not sign yet; the claim is completed: ask again, it is safe",
    )
