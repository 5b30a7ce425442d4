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
    _check_never_replaced(registry, record.logs)
    seal = read_seal(registry, record.checkpoint, record.logs.statements)
    require_quorum_alone(registry, envelope)
    return Change(seal=seal)


def _check_never_replaced(registry: Registry, logs: Logs) -> None:
    """A replaced log key may have been stolen, and what was signed with it since must not come to count again."""
    for named, present in ((logs.registry, registry.logs.registry), (logs.statements, registry.logs.statements)):
        if named.public_key != present.public_key and registry.role_of(named.public_key.key_id) is not None:
            raise RecordError("expected a log's present key or a new one, got one that was replaced before")


def _origins(logs: Logs) -> tuple[str, str]:
    return logs.registry.origin, logs.statements.origin
