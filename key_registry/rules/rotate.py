"""The rules of the rotate record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from key_registry.dsse import Envelope
from key_registry.errors import RecordError
from key_registry.key_version import KeyVersion
from key_registry.record import Rotate
from key_registry.rules.change import Change
from key_registry.rules.seal import read_seal, require_cosigned
from key_registry.rules.signers import lead_keys, require_quorum, verified_signers
from key_registry.rules.witness_key import key_of_witness

if TYPE_CHECKING:
    from key_registry.replay import Registry


def rotate_keys(registry: Registry, envelope: Envelope, record: Rotate) -> Change:
    """Check a rotate record: the checkpoint continues the statement log, and the keys may open and close.

    Signed by the opened key; and by the closed key, or when none closes by an open key of the same witness, or else
    by a quorum. A compromised key signs nothing, so closing one takes the quorum. What closes a key is cosigned.
    """
    seal = read_seal(registry, record.checkpoint, registry.logs.statements)
    opening = None if record.open is None else key_of_witness(registry, record.open, record.witness_id)
    closing = None if record.close is None else key_of_witness(registry, record.close, record.witness_id)
    changed = []
    if opening is not None:
        changed.append(_opened(opening, record, seal.head.size))
    if closing is not None:
        require_cosigned(registry, record.checkpoint)
        changed.append(_closed(closing, record, seal.head.size))
    _check_signers(registry, envelope, opening, closing, record.witness_id)
    return Change(keys=tuple(changed), seal=seal)


def _opened(key: KeyVersion, record: Rotate, size: int) -> KeyVersion:
    if key.opened is not None:
        raise RecordError(f"expected a key to open that never opened, got one opened at {key.opened}")
    if key.is_compromised or key.is_destroyed:
        raise RecordError("expected a key to open that is neither compromised nor destroyed, got one that is")
    return replace(key, opened=size, opened_at=record.created_at, opened_seq=record.seq)


def _closed(key: KeyVersion, record: Rotate, size: int) -> KeyVersion:
    if key.opened is None or not key.is_open:
        raise RecordError("expected an open key to close, got one that is not open")
    if record.count is None or record.count > size - key.opened:
        raise RecordError(f"expected a count of at most {size - key.opened}, the places it was open for, got more")
    return replace(key, closed=size, closed_at=record.created_at, count=record.count)


def _check_signers(
    registry: Registry, envelope: Envelope, opening: KeyVersion | None, closing: KeyVersion | None, witness_id: str
) -> None:
    candidates = [closing] if closing is not None else _keys_among(registry, envelope, witness_id)
    sponsors = [key for key in candidates if key.may_sign]
    own = [key.public_key for key in (opening, *sponsors) if key is not None]
    signers = verified_signers(envelope, [*lead_keys(registry.leads), *own])
    if opening is not None and opening.key_id not in signers:
        raise RecordError("expected the opened key's signature, got none")
    if signers.isdisjoint(key.key_id for key in sponsors):
        require_quorum(registry, signers)


def _keys_among(registry: Registry, envelope: Envelope, witness_id: str) -> list[KeyVersion]:
    keys = (registry.keys.get(signature.key_id) for signature in envelope.signatures)
    return [key for key in keys if key is not None and key.witness_id == witness_id]
