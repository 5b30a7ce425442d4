"""The rules of succession: for each type of record who must sign it, what must hold, and what it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from key_registry.checkpoint import Checkpoint, open_checkpoint
from key_registry.dsse import Envelope
from key_registry.errors import RecordError, UnsupportedAlgorithm
from key_registry.key_version import KeyVersion
from key_registry.public_key import PublicKey
from key_registry.record import Genesis, KeyAdd, Link, Rotate

if TYPE_CHECKING:
    from key_registry.replay import Registry


@dataclass(frozen=True)
class Change:
    """What a record changes: key versions as they are from then on, and the statement-log head it embeds."""

    keys: tuple[KeyVersion, ...] = ()
    head: Checkpoint | None = None


def begin(envelope: Envelope, record: Genesis) -> Change:
    """Check the genesis record: signed by every lead and nobody else."""
    signers = _signers(envelope, (lead.public_key for lead in record.leads))
    if len(signers) != len(record.leads):
        raise RecordError(f"expected the signatures of all {len(record.leads)} leads, got {len(signers)}")
    return Change()


def add_key(registry: Registry, envelope: Envelope, record: KeyAdd) -> Change:
    """Check a key-add record: a new key in a new place of its token, signed by quorum and key."""
    taken = {log.public_key.key_id for log in (registry.logs.registry, registry.logs.statements)}
    taken.update(lead.public_key.key_id for lead in registry.leads)
    if record.key_id in taken or record.key_id in registry.keys:
        raise RecordError("expected a key that is new to the registry, got one that is in it")
    if registry.has_token_place(record.token_serial, record.cka_id):
        raise RecordError("expected a CKA_ID that is new on its token, got one that is in the registry")
    public_key = _key_to_add(registry, envelope, record)
    if public_key.algorithm != record.algorithm:
        raise RecordError(f"expected algorithm {public_key.algorithm} as in the key, got another")
    signers = _signers(envelope, [*_lead_keys(registry), public_key])
    _require_quorum(registry, signers)
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
        added_at=record.created_at,
        added_seq=record.seq,
    )
    return Change(keys=(added,))


def _key_to_add(registry: Registry, envelope: Envelope, record: KeyAdd) -> PublicKey:
    try:
        return PublicKey.from_spki(record.public_key)
    except UnsupportedAlgorithm:
        # Only the quorum may make this program call itself too old; by anybody else the record is a bad one.
        others = tuple(signature for signature in envelope.signatures if signature.key_id != record.key_id)
        _require_quorum(registry, _signers(replace(envelope, signatures=others), _lead_keys(registry)))
        raise


def rotate(registry: Registry, envelope: Envelope, record: Rotate) -> Change:
    """Check a rotate record: the checkpoint continues the statement log, and the keys may open and close.

    Signed by the opened key; and by the closed key, or when none closes by an open key of the same
    witness, or else by the quorum.
    """
    head = _read_head(registry, record)
    opening = _key_of_witness(registry, record.open, record.witness_id)
    closing = _key_of_witness(registry, record.close, record.witness_id)
    sponsors = [closing] if closing else _open_keys_among(registry, envelope, record.witness_id)
    changed = []
    if opening is not None:
        changed.append(_open(opening, record, head.size))
    if closing is not None:
        changed.append(_close(closing, record, head.size))
    own_keys = [key.public_key for key in (opening, *sponsors) if key is not None]
    signers = _signers(envelope, [*_lead_keys(registry), *own_keys])
    if opening is not None and opening.key_id not in signers:
        raise RecordError("expected the opened key's signature, got none")
    if signers.isdisjoint(key.key_id for key in sponsors):
        _require_quorum(registry, signers)
    return Change(keys=tuple(changed), head=head)


def _read_head(registry: Registry, record: Rotate) -> Checkpoint:
    log = registry.logs.statements
    head, last = open_checkpoint(record.checkpoint, log.origin, log.public_key), registry.head
    if last is not None and head.size < last.size:
        raise RecordError(f"expected a checkpoint of at least {last.size} statements, got {head.size}")
    if last is not None and head.size == last.size and head.root != last.root:
        raise RecordError(f"expected the root of the earlier checkpoint of {last.size} statements, got another root")
    return head


def _open(key: KeyVersion, record: Rotate, size: int) -> KeyVersion:
    if key.opened is not None:
        raise RecordError(f"expected a key to open that never opened, got one opened at {key.opened}")
    return replace(key, opened=size, opened_at=record.created_at, opened_seq=record.seq)


def _close(key: KeyVersion, record: Rotate, size: int) -> KeyVersion:
    if key.opened is None or not key.is_open:
        raise RecordError("expected an open key to close, got one that is not open")
    if record.count is None or record.count > size - key.opened:
        raise RecordError(f"expected a count of at most {size - key.opened}, the places it was open for, got more")
    return replace(key, closed=size, closed_at=record.created_at, count=record.count)


def _key_of_witness(registry: Registry, key_id: str | None, witness_id: str) -> KeyVersion | None:
    if key_id is None:
        return None
    key = registry.keys.get(key_id)
    if key is None or key.witness_id != witness_id:
        raise RecordError("expected a key of this witness, got one that the registry does not have for it")
    return key


def _open_keys_among(registry: Registry, envelope: Envelope, witness_id: str) -> list[KeyVersion]:
    keys = (registry.keys.get(signature.key_id) for signature in envelope.signatures)
    return [key for key in keys if key is not None and key.witness_id == witness_id and key.is_open]


def _lead_keys(registry: Registry) -> list[PublicKey]:
    return [lead.public_key for lead in registry.leads]


def _signers(envelope: Envelope, entitled: Iterable[PublicKey]) -> frozenset[str]:
    """Return the key ids of the signers; every signature must be good and by an entitled key."""
    keys = {key.key_id: key for key in entitled}
    if any(signature.key_id not in keys for signature in envelope.signatures):
        raise RecordError("expected signatures by entitled keys only, got one by another key")
    signed = envelope.pae()
    for signature in envelope.signatures:
        keys[signature.key_id].verify(signature.signature, signed)
    return frozenset(signature.key_id for signature in envelope.signatures)


def _require_quorum(registry: Registry, signers: frozenset[str]) -> None:
    leads = sum(lead.public_key.key_id in signers for lead in registry.leads)
    if leads < registry.threshold:
        raise RecordError(f"expected the signatures of {registry.threshold} leads, got {leads}")


Rule = Callable[["Registry", Envelope, Any], Change]
"""Checks that a record may follow; raises RecordError, SignatureError or FormatError when it may not."""

RULES: Mapping[type[Link], Rule] = {KeyAdd: add_key, Rotate: rotate}
