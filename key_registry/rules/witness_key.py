"""The key version that a record is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from key_registry.errors import RecordError
from key_registry.key_version import KeyVersion

if TYPE_CHECKING:
    from key_registry.replay import Registry


def key_of_witness(registry: Registry, key_id: str, witness_id: str) -> KeyVersion:
    """Return the key version; raises RecordError unless the registry has it and it is this witness's."""
    key = registry.keys.get(key_id)
    if key is None or key.witness_id != witness_id:
        raise RecordError("expected a key of this witness, got one that the registry does not have for it")
    return key
