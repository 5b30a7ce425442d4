"""The statement-log checkpoint inside a rotate or policy record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from key_registry import note
from key_registry.checkpoint import open_checkpoint
from key_registry.errors import RecordError
from key_registry.record import LogKey
from key_registry.rules.change import Seal

if TYPE_CHECKING:
    from key_registry.replay import Registry


def read_seal(registry: Registry, checkpoint: bytes, log: LogKey) -> Seal:
    """Return the checkpoint, which must continue the statement log, and when it was cosigned.

    A cosignature that is there is good, or the record is not; whether there must be any is for the record's own rules.

    Args:
        registry: before the record.
        checkpoint: the signed note.
        log: the statement log, with the key that must have signed.

    Raises:
        RecordError: the log was larger, or had another root at this size.
        FormatError: no checkpoint of this log.
        SignatureError: not by its key, or a bad cosignature by a cosigner of the policy for this size.
    """
    head, last = open_checkpoint(checkpoint, log.origin, log.public_key), registry.head
    if last is not None and head.size < last.size:
        raise RecordError(f"expected a checkpoint of at least {last.size} statements, got {head.size}")
    if last is not None and head.size == last.size and head.root != last.root:
        raise RecordError(f"expected the root of the earlier checkpoint of {last.size} statements, got another root")
    policy = registry.policy_at(head.size)
    return Seal(head, policy.met_since(policy.times(note.parse(checkpoint))))


def require_cosigned(registry: Registry, checkpoint: bytes) -> None:
    """Raise RecordError unless the cosigners that the present policy asks for have cosigned the checkpoint.

    Cosigners do not relate the two logs. Only a seal that they have seen keeps whoever holds the log's key from
    exchanging what it covers after they have seen the record.

    Args:
        registry: before the record.
        checkpoint: the signed note.
    """
    policy = registry.policy
    cosigned = policy.times(note.parse(checkpoint))
    if not policy.is_met(cosigned.keys()):
        found = ", ".join(sorted(cosigned)) or "nobody"
        raise RecordError(f"expected the seal to be cosigned by a quorum of the policy, got {found!a}")
