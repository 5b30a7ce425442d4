"""The rules of the compromise record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from key_registry.dsse import Envelope
from key_registry.errors import RecordError
from key_registry.record import Compromise
from key_registry.rules.change import Change
from key_registry.rules.signers import require_quorum_alone
from key_registry.rules.witness_key import key_of_witness

if TYPE_CHECKING:
    from key_registry.replay import Registry


def compromise_key(registry: Registry, envelope: Envelope, record: Compromise) -> Change:
    """Check a compromise record: signed by a quorum alone, and the cut is below any earlier one."""
    key = key_of_witness(registry, record.key_id, record.witness_id)
    if not key.trusts(record.trusted_size):
        raise RecordError(f"expected a cut below the earlier one at {key.trusted_size}, got {record.trusted_size}")
    require_quorum_alone(registry, envelope)
    distrusted = replace(
        key,
        trusted_size=record.trusted_size,
        compromised_at=record.created_at,
        suspected_since=record.suspected_since,
        compromise_reason=record.reason,
    )
    return Change(keys=(distrusted,))
