"""The rules of the leads record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from key_registry.dsse import Envelope
from key_registry.errors import RecordError
from key_registry.record import LeadsChange
from key_registry.rules.change import Change
from key_registry.rules.roles import check_roles
from key_registry.rules.signers import lead_keys, require_quorum, verified_signers

if TYPE_CHECKING:
    from key_registry.replay import Registry


def change_leads(registry: Registry, envelope: Envelope, record: LeadsChange) -> Change:
    """Check a leads record: signed by a quorum of the leads in office and by every lead it names, by nobody else."""
    check_roles(registry, record)
    named = lead_keys(record.leads)
    signers = verified_signers(envelope, [*lead_keys(registry.leads), *named])
    require_quorum(registry, signers)
    missing = sum(key.key_id not in signers for key in named)
    if missing:
        raise RecordError(f"expected the signatures of all {len(named)} new leads, got {len(named) - missing}")
    return Change()
