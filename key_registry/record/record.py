"""Reading a record's body by its type, and the hash that links records."""

import hashlib
from collections.abc import Mapping
from typing import TypeAlias

from key_registry import canonical_json
from key_registry.dsse import Envelope
from key_registry.errors import FormatError
from key_registry.record.compromise import Compromise
from key_registry.record.destroyed import Destroyed
from key_registry.record.genesis import Genesis
from key_registry.record.key_add import KeyAdd
from key_registry.record.leads_change import LeadsChange
from key_registry.record.link import Link, read_link
from key_registry.record.policy_change import PolicyChange
from key_registry.record.rotate import Rotate

RECORD_TYPE = "application/vnd.witness-service.key-registry.v1+json"

DRILL = "drill"
"""The reason in the records of a drill."""

Record: TypeAlias = Genesis | KeyAdd | Rotate | Compromise | LeadsChange | PolicyChange | Destroyed

_TYPES: Mapping[str, type[Record]] = {
    record.TYPE: record for record in (Genesis, KeyAdd, Rotate, Compromise, LeadsChange, PolicyChange, Destroyed)
}


def decode(body: bytes) -> Record:
    """Read the body of a record.

    Raises:
        FormatError: not canonical JSON, an unknown type, other members, or a field not of its form.
        UnsupportedAlgorithm: a lead, log or cosigner key this program cannot use.
    """
    value = canonical_json.decode(body)
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _TYPES:
        raise FormatError(f"record: expected one of the types {sorted(_TYPES)}, got another")
    return _TYPES[kind].from_object(value)


def decode_link(body: bytes) -> Link:
    """Read only the place of a record whose decoding stopped at a key of an unknown algorithm.

    Raises:
        FormatError: the place is not of its form, as that of a genesis.
    """
    value = canonical_json.decode(body)
    if not isinstance(value, dict):
        raise FormatError("record: expected an object, got something else")
    return Link(**read_link(value))


def previous_hash(envelope: Envelope) -> str:
    """Return hex SHA-256 of a record's PAE: the next record's `prev`, and for the genesis the registry id."""
    return hashlib.sha256(envelope.pae()).hexdigest()
