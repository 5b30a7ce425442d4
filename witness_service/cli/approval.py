"""What a security lead checks on the own machine before signing a key change: the record, not the service's word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from key_registry.errors import FormatError
from key_registry.public_key import PublicKey
from key_registry.record import RECORD_TYPE, KeyAdd, decode
from key_registry.replay import KeyVersion, Registry

if TYPE_CHECKING:
    from witness_service.wire.answers import RotationProposal


class BadProposal(ValueError):
    """The record is not one the lead was asked to sign; the message says in what it differs."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A proposal whose record was checked, and the key it replaces."""

    proposal: RotationProposal
    record: KeyAdd
    old: KeyVersion

    def in_words(self) -> dict[str, str]:
        """Return what a signature under the record says, for people, by name."""
        attributes = ", ".join(f"{name}={value}" for name, value in sorted(self.record.attributes.items()))
        return {
            "you sign": "that this key, made in the token, joins the witness's keys and replaces the old one",
            "registry": self.record.registry_id,
            "record": f"{self.record.seq}, after {self.record.prev[:16]}, of {self.record.created_at}",
            "witness": self.record.witness_id,
            "new key": f"{self.record.key_id}, {self.record.algorithm}",
            "old key": f"{self.old.key_id}, {self.old.public_key.algorithm}",
            "streams": ", ".join(self.record.streams),
            "token": f"serial {self.record.token_serial}",
            "attributes": attributes,
            "quorum": f"{self.proposal.threshold}, signed so far by {len(self.proposal.approved_by)}",
            "until": self.proposal.expires_at,
        }


def check_proposal(
    proposal: RotationProposal, registry: Registry, *, witness_id: str, algorithm: str, lead: PublicKey
) -> Approval:
    """Return a proposal after checking its record against the registry.

    registry: replayed from the pinned id. algorithm: what was asked for, "" for that of the old key. lead:
    who is about to sign. Raises BadProposal. That the new key signed too (possession) the registry's rules
    check later.
    """
    if lead.key_id not in {known.public_key.key_id for known in registry.leads}:
        raise BadProposal(f"lead key: expected one of the registry's leads, got {lead.key_id}")
    if proposal.payload_type != RECORD_TYPE:
        raise BadProposal(f"payload type: expected {RECORD_TYPE}, got another")
    try:
        record = decode(proposal.record)
    except FormatError as error:
        raise BadProposal(f"record: {error}") from error
    if not isinstance(record, KeyAdd):
        raise BadProposal(f"record: expected key-add, got {record.TYPE}")
    old = registry.keys.get(proposal.old_key_id)
    if old is None or old.witness_id != witness_id:
        raise BadProposal("old key: expected a key of the witness, got another")
    _check_place(proposal, record, registry)
    for name, got, wanted in (
        ("registry id", record.registry_id, registry.registry_id),
        ("witness", record.witness_id, witness_id),
        ("key id", record.key_id, proposal.new_key_id),
        ("streams", record.streams, old.streams),
        ("algorithm", record.algorithm, algorithm or old.public_key.algorithm),
    ):
        if got != wanted:
            raise BadProposal(f"{name}: expected {wanted}, got {got}")
    return Approval(proposal, record, old)


def _check_place(proposal: RotationProposal, record: KeyAdd, registry: Registry) -> None:
    """Require the next record of the registry; or, when a rotation goes on, the one that stands in it already."""
    if record.seq < registry.size and registry.envelopes[record.seq].body == proposal.record:
        return
    if (record.seq, record.prev) != (registry.size, registry.last_hash):
        raise BadProposal(f"record: expected number {registry.size} after {registry.last_hash}, got another place")
