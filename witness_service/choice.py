"""Which witness signs an event, with which key, and the statement it signs."""

from __future__ import annotations

from collections.abc import Collection

from key_registry import selection
from key_registry.replay import KeyVersion, Registry
from key_registry.statement import Statement
from witness_service.clock import Clock
from witness_service.custody import Custody
from witness_service.event import Event
from witness_service.refusal import Code, Reason, Refused


class Choice:
    """Follows the public order of selection, past the witnesses whose key cannot sign now."""

    def __init__(self, custody: Custody, clock: Clock) -> None:
        self._custody = custody
        self._clock = clock

    def statement(self, registry: Registry, stopped: Collection[str], event: Event) -> Statement:
        """Return the statement about an accepted event; raises Refused when no witness can sign it.

        stopped: key ids by which nothing may be claimed, of the same transaction.
        """
        turn, key = self._key(registry, stopped, event)
        return Statement(
            environment=registry.environment,
            event_hash=event.event_hash,
            event_id=event.event_id,
            event_type=event.event_type,
            key_id=key.key_id,
            previous_event_hash=event.previous_event_hash,
            registry_id=registry.registry_id,
            registry_root=registry.root().hex(),
            registry_size=registry.size,
            round=turn,
            sequence=event.sequence,
            signed_at=self._clock(),
            stream=event.stream,
            witness_id=key.witness_id,
        )

    def _key(self, registry: Registry, stopped: Collection[str], event: Event) -> tuple[int, KeyVersion]:
        """Return round and key: of the first witness in the order whose key can sign."""
        ranked = selection.rank(
            registry,
            stream=event.stream,
            sequence=event.sequence,
            previous_event_hash=event.previous_event_hash,
        )
        for turn, witness_id in enumerate(ranked):
            key = registry.signing_key(witness_id, stream=event.stream)
            if key is not None and key.key_id not in stopped and self._custody.usable(key.key_id):
                return turn, key
        # A token that is only away for a moment is no reason to tell a writer that nothing can be done.
        raise self._custody.refusal() or Refused(
            Code.FAILED_PRECONDITION, Reason.NO_WITNESS_AVAILABLE, "no witnesses available - write blocked"
        )
