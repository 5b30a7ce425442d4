"""The rules of succession: for each type of record who must sign it, what must hold, and what it changes.

What counts (leads, open keys, log keys, policy) is the registry before the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from key_registry.dsse import Envelope
from key_registry.record import Compromise, Destroyed, KeyAdd, LeadsChange, Link, PolicyChange, Rotate
from key_registry.rules.change import Change, Seal
from key_registry.rules.compromise import compromise_key
from key_registry.rules.destroyed import destroy_key
from key_registry.rules.genesis import begin
from key_registry.rules.key_add import add_key
from key_registry.rules.leads import change_leads
from key_registry.rules.policy import change_policy
from key_registry.rules.roles import Role, TokenPlace, roles_in, token_places_in
from key_registry.rules.rotate import rotate_keys
from key_registry.rules.signers import require_quorum_among

if TYPE_CHECKING:
    from key_registry.replay import Registry

__all__ = [
    "RULES",
    "Change",
    "Role",
    "Seal",
    "TokenPlace",
    "begin",
    "require_quorum_among",
    "roles_in",
    "token_places_in",
]

Rule: TypeAlias = "Callable[[Registry, Envelope, Any], Change]"
"""Checks that a record may follow; raises RecordError, SignatureError or FormatError when it may not."""

RULES: Mapping[type[Link], Rule] = {
    KeyAdd: add_key,
    Rotate: rotate_keys,
    Compromise: compromise_key,
    LeadsChange: change_leads,
    PolicyChange: change_policy,
    Destroyed: destroy_key,
}
