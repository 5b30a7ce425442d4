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

    Cosignatures are not asked for, because keys must rotate while cosigners are down; but one that is there is good,
    or the record is not.

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
