"""Who signed a record: every signature must be good, and by a key that may sign it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from key_registry.dsse import Envelope
from key_registry.errors import RecordError
from key_registry.public_key import PublicKey
from key_registry.record import Lead

if TYPE_CHECKING:
    from key_registry.replay import Registry


def verified_signers(envelope: Envelope, entitled: Iterable[PublicKey]) -> frozenset[str]:
    """Return the key ids of the signers.

    Raises:
        RecordError: a signature by a key that is not entitled.
        SignatureError: a bad signature.
    """
    keys = {key.key_id: key for key in entitled}
    if any(signature.key_id not in keys for signature in envelope.signatures):
        raise RecordError("expected signatures by entitled keys only, got one by another key")
    signed = envelope.pae()
    for signature in envelope.signatures:
        keys[signature.key_id].verify(signature.signature, signed)
    return frozenset(signature.key_id for signature in envelope.signatures)


def lead_keys(leads: Iterable[Lead]) -> list[PublicKey]:
    """Return the leads' public keys."""
    return [lead.public_key for lead in leads]


def require_quorum(registry: Registry, signers: Collection[str]) -> None:
    """Raise RecordError unless a quorum of the leads in office is among the signers."""
    leads = sum(key.key_id in signers for key in lead_keys(registry.leads))
    if leads < registry.threshold:
        raise RecordError(f"expected the signatures of {registry.threshold} leads, got {leads}")


def require_quorum_alone(registry: Registry, envelope: Envelope) -> None:
    """Raise RecordError or SignatureError unless a quorum of leads signed, and nobody else."""
    require_quorum(registry, verified_signers(envelope, lead_keys(registry.leads)))


def require_quorum_among(registry: Registry, envelope: Envelope) -> None:
    """Raise RecordError or SignatureError unless a quorum of leads signed, whoever else did.

    For a record that names keys this program cannot use: only a quorum may make it call itself too old. What keys
    other than the leads' have signed is for the newer program to judge.
    """
    keys = {key.key_id: key for key in lead_keys(registry.leads)}
    by_leads = [signature for signature in envelope.signatures if signature.key_id in keys]
    for signature in by_leads:
        keys[signature.key_id].verify(signature.signature, envelope.pae())
    require_quorum(registry, [signature.key_id for signature in by_leads])
