"""Checking an attestation where it arrives: against the event that was asked for and a pinned registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from key_registry.bundle import Bundle
from key_registry.dsse import pae
from key_registry.errors import FormatError, RecordError, SignatureError
from key_registry.replay import KeyVersion, Registry
from key_registry.statement import STATEMENT_TYPE, Statement
from witness_service.event import Attested, Event


class NotAttested(ValueError):
    """What came back is not the attestation that was asked for; the message says in what it differs."""


class UnknownKey(NotAttested):
    """The key is not in the registry at hand; a newer bundle may hold it."""


def check_attested(attested: Attested, event: Event | None, keys: Mapping[str, KeyVersion]) -> Statement:
    """Return the statement of an attestation after checking it.

    event: what was asked for; None checks only that statement and attestation name the same place. keys: the
    registry's key versions by key id. Proves the signature, not the place in the log: that is what evidence
    is for. Raises UnknownKey, and NotAttested when the statement, the key's scope and time or the signature
    is wrong.
    """
    if attested.payload_type != STATEMENT_TYPE:
        raise NotAttested(f"payload type: expected {STATEMENT_TYPE}, got another")
    try:
        statement = Statement.decode(attested.statement)
    except FormatError as error:
        raise NotAttested(f"statement: {error}") from error
    _check_says(statement, attested, event)
    key = keys.get(attested.key_id)
    if key is None:
        raise UnknownKey(f"key: expected one of the registry, got {attested.key_id}")
    if key.witness_id != statement.witness_id or not key.covers(attested.stream):
        raise NotAttested(f"key: expected one of {statement.witness_id} for this stream, got {attested.key_id}")
    if not key.active(attested.leaf_index):
        raise NotAttested(f"key: expected one that is valid at position {attested.leaf_index}, got {attested.key_id}")
    try:
        key.public_key.verify(attested.signature, pae(attested.payload_type, attested.statement))
    except SignatureError as error:
        raise NotAttested(f"signature: {error}") from error
    return statement


def _check_says(statement: Statement, attested: Attested, event: Event | None) -> None:
    wanted: dict[str, object] = {
        "stream": attested.stream,
        "sequence": attested.sequence,
        "key_id": attested.key_id,
    }
    if event is not None:
        for name in ("stream", "sequence", "event_hash", "previous_event_hash", "event_id", "event_type"):
            if wanted.get(name, getattr(event, name)) != getattr(event, name):
                raise NotAttested(f"{name}: expected that of the event, got another in the attestation")
            wanted[name] = getattr(event, name)
    for name, value in wanted.items():
        if getattr(statement, name) != value:
            raise NotAttested(f"{name}: expected the statement to say what was asked for, got another value")


class PinnedRegistry:
    """The registry an id pins, replayed from bundles; it fetches a newer bundle when a key is missing."""

    def __init__(self, registry_id: str, fetch_bundle: Callable[[], bytes]) -> None:
        """registry_id: 64 hexadecimal digits from a source other than the service. fetch_bundle: a new bundle.json."""
        self._registry_id = registry_id
        self._fetch_bundle = fetch_bundle
        self._registry: Registry | None = None

    def current(self) -> Registry:
        """Return the registry replayed last, at first that of a fetched bundle; raises NotAttested."""
        return self._registry or self.refresh()

    def refresh(self) -> Registry:
        """Fetch a bundle and replay its records; raises NotAttested when they do not lead from the pinned id."""
        try:
            bundle = Bundle.from_json(self._fetch_bundle())
            registry = Registry.replay(bundle.records, registry_id=self._registry_id)
        except (FormatError, RecordError, SignatureError) as error:
            raise NotAttested(f"bundle: expected one of registry {self._registry_id}: {error}") from error
        self._registry = registry
        return registry

    def check(self, attested: Attested, event: Event | None) -> Statement:
        """Return the statement of an attestation after checking it as check_attested does; raises NotAttested."""
        try:
            return check_attested(attested, event, self.current().keys)
        except UnknownKey:
            return check_attested(attested, event, self.refresh().keys)
