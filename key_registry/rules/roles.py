"""Roles of keys: a key that ever had one role never gets another, and a place on a token holds one key.

Otherwise one theft would be two: a log key that is also a cosigner's vouches for itself, and a lead's key that the
service can use needs no lead.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from key_registry.errors import RecordError
from key_registry.policy import Policy
from key_registry.record import Genesis, KeyAdd, LeadsChange, PolicyChange, Record

if TYPE_CHECKING:
    from key_registry.replay import Registry


class Role(StrEnum):
    """What a key is there for."""

    LEAD = "lead"
    REGISTRY_LOG = "registry log"
    STATEMENT_LOG = "statement log"
    WITNESS = "witness"
    COSIGNER = "cosigner"


TokenPlace: TypeAlias = tuple[str, bytes]
"""Serial number of a token, and a CKA_ID on it."""


def roles_in(record: Record) -> Iterator[tuple[str, Role]]:
    """Iterate over the key ids that a record names in a role."""
    if isinstance(record, KeyAdd):
        yield record.key_id, Role.WITNESS
    if isinstance(record, Genesis | LeadsChange):
        for lead in record.leads:
            yield lead.public_key.key_id, Role.LEAD
    if isinstance(record, Genesis | PolicyChange):
        yield record.logs.registry.public_key.key_id, Role.REGISTRY_LOG
        yield record.logs.statements.public_key.key_id, Role.STATEMENT_LOG
        for cosigner in Policy.parse(record.policy).cosigners:
            yield cosigner.public_key.key_id, Role.COSIGNER


def token_places_in(record: Record) -> Iterator[tuple[TokenPlace, str]]:
    """Iterate over the places on tokens that a record names, each with the key id of the key there."""
    if isinstance(record, KeyAdd):
        yield (record.token_serial, record.cka_id), record.key_id
    if isinstance(record, Genesis | PolicyChange):
        for log in (record.logs.registry, record.logs.statements):
            yield (log.token_serial, log.cka_id), log.public_key.key_id


def check_roles(registry: Registry | None, record: Record) -> None:
    """Raise RecordError if the record gives a key a second role, or a place on a token a second key.

    Args:
        registry: before the record; None for the genesis, whose two places differ by its form.
    """
    roles: dict[str, Role] = {}
    for key_id, role in roles_in(record):
        known = None if registry is None else registry.role_of(key_id)
        known = known or roles.setdefault(key_id, role)
        if known is not role:
            raise RecordError(f"expected a key for the role of {role} that never had another, got a {known} key")
    for place, key_id in token_places_in(record):
        there = None if registry is None else registry.key_at(*place)
        if there not in (None, key_id):
            raise RecordError("expected a CKA_ID that is new on its token, got one that is in the registry")
