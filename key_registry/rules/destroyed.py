"""The rules of the destroyed record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from key_registry.dsse import Envelope
from key_registry.errors import RecordError
from key_registry.record import Destroyed
from key_registry.rules.change import Change
from key_registry.rules.signers import require_quorum_alone
from key_registry.rules.witness_key import key_of_witness

if TYPE_CHECKING:
    from key_registry.replay import Registry


def destroy_key(registry: Registry, envelope: Envelope, record: Destroyed) -> Change:
    """Check a destroyed record: signed by a quorum alone, about a key that is not open, once."""
    key = key_of_witness(registry, record.key_id, record.witness_id)
    if key.is_open:
        raise RecordError("expected a key that is closed or never opened, got an open one; close it first")
    if key.is_destroyed:
        raise RecordError("expected a key that is not destroyed yet, got one that is")
    require_quorum_alone(registry, envelope)
    return Change(keys=(replace(key, destroyed_at=record.created_at),))
