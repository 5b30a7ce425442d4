"""The rules of the policy record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from key_registry.dsse import Envelope
from key_registry.errors import RecordError
from key_registry.record import Logs, PolicyChange
from key_registry.rules.change import Change
from key_registry.rules.roles import check_roles
from key_registry.rules.seal import read_seal
from key_registry.rules.signers import require_quorum_alone

if TYPE_CHECKING:
    from key_registry.replay import Registry


def change_policy(registry: Registry, envelope: Envelope, record: PolicyChange) -> Change:
    """Check a policy record: signed by a quorum alone, the same two logs, a checkpoint by the key it names."""
    if _origins(record.logs) != _origins(registry.logs):
        raise RecordError("expected the two logs under their origins of old, got another origin")
    check_roles(registry, record)
    seal = read_seal(registry, record.checkpoint, record.logs.statements)
    require_quorum_alone(registry, envelope)
    return Change(seal=seal)


def _origins(logs: Logs) -> tuple[str, str]:
    return logs.registry.origin, logs.statements.origin
