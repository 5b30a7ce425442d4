"""The rules of the key-add record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from key_registry.dsse import Envelope
from key_registry.errors import RecordError
from key_registry.key_version import KeyVersion
from key_registry.public_key import PublicKey
from key_registry.record import KeyAdd
from key_registry.rules.change import Change
from key_registry.rules.roles import check_roles
from key_registry.rules.signers import lead_keys, require_quorum, verified_signers

if TYPE_CHECKING:
    from key_registry.replay import Registry


def add_key(registry: Registry, envelope: Envelope, record: KeyAdd) -> Change:
    """Check a key-add record: a new key in a new place of its token, signed by a quorum and by the key."""
    known_as = registry.role_of(record.key_id)
    if known_as is not None:
        raise RecordError(f"expected a key that is new to the registry, got a {known_as} key that is in it")
    check_roles(registry, record)
    public_key = PublicKey.from_spki(record.public_key)
    if public_key.algorithm != record.algorithm:
        raise RecordError(f"expected algorithm {public_key.algorithm} as in the key, got another")
    signers = verified_signers(envelope, [*lead_keys(registry.leads), public_key])
    require_quorum(registry, signers)
    if record.key_id not in signers:
        raise RecordError("expected the new key's signature as proof of possession, got none")
    added = KeyVersion(
        key_id=record.key_id,
        public_key=public_key,
        witness_id=record.witness_id,
        streams=record.streams,
        token_serial=record.token_serial,
        cka_id=record.cka_id,
        attributes=record.attributes,
        reason=record.reason,
        added_at=record.created_at,
        added_seq=record.seq,
    )
    return Change(keys=(added,))
