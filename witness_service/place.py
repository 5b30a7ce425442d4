"""What may stand at a place: one hash for ever, no gaps, no broken links.

Pure rules over what a claim transaction has read; DESIGN section 4, "continues the stream".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from key_registry.statement import Statement
from key_registry.store import NewClaim, NewPlace, StoredClaim, StreamHead
from witness_service.event import Attested, Event
from witness_service.refusal import Code, Reason, Refused

T = TypeVar("T")


@dataclass
class Decisions(Generic[T]):
    """What becomes of each event of a batch, in their order; T is whatever stands for the asking caller.

    heads: by stream name, advanced as events are accepted. existing: claims that stand at the asked places, by
    (stream, sequence). places, new: to be inserted, in their order. of_new, of_existing: who waits for a claim of
    this batch or an earlier one, and whether with the same hash. refused: who is refused, and why. hashes: of new.
    """

    heads: dict[str, StreamHead]
    existing: Mapping[tuple[str, int], StoredClaim]
    places: list[NewPlace] = field(default_factory=list)
    new: dict[tuple[str, int], NewClaim] = field(default_factory=dict)
    of_new: list[tuple[T, bool]] = field(default_factory=list)
    of_existing: list[tuple[T, StoredClaim, bool]] = field(default_factory=list)
    refused: list[tuple[T, Refused]] = field(default_factory=list)
    hashes: dict[tuple[str, int], str] = field(default_factory=dict)

    @property
    def claims(self) -> list[NewClaim]:
        """The claims to be inserted, in their order."""
        return list(self.new.values())

    def add(self, asking: T, event: Event, state: Callable[[Event], Statement]) -> None:
        """Decide on one event; `state` writes the statement of an event that is accepted. Raises Refused."""
        where = (event.stream, event.sequence)
        stored = self.existing.get(where)
        if stored is not None:
            self.of_existing.append((asking, stored, stored.event_hash == event.event_hash))
        elif where in self.new:
            self.of_new.append((asking, self.hashes[where] == event.event_hash))
        else:
            self._accept(event, state)
            self.of_new.append((asking, True))

    def _accept(self, event: Event, state: Callable[[Event], Statement]) -> None:
        head = self.heads[event.stream]
        check_continues(event, head)
        statement = state(event)
        self.places.append(NewPlace(head.stream_id, event.sequence, event.event_hash, event.previous_event_hash))
        self.new[event.stream, event.sequence] = NewClaim(
            head.stream_id, event.sequence, statement.witness_id, statement.key_id, statement.encode()
        )
        self.hashes[event.stream, event.sequence] = event.event_hash
        self.heads[event.stream] = StreamHead(head.stream_id, head.link_rule, event.sequence, event.event_hash)


def check_continues(event: Event, head: StreamHead) -> None:
    """Raise Refused unless an event continues its stream: next sequence, and the link its rule asks for."""
    if head.link_rule == "none" and event.previous_event_hash is not None:
        raise Refused(
            Code.INVALID_ARGUMENT,
            Reason.FIELD_INVALID,
            "previous_event_hash: expected none in a stream without links, got one",
            {"field": "previous_event_hash"},
        )
    if head.last_sequence is None:
        return
    facts = {
        "stream": event.stream,
        "head_sequence": str(head.last_sequence),
        "head_hash": head.last_hash or "",
        "expected_sequence": str(head.last_sequence + 1),
    }
    if event.sequence <= head.last_sequence:
        raise Refused(
            Code.ABORTED,
            Reason.BELOW_HEAD,
            f"expected sequence {head.last_sequence + 1}, got {event.sequence}, which lies before the stream's start",
            facts,
        )
    if event.sequence != head.last_sequence + 1:
        raise Refused(
            Code.ABORTED,
            Reason.SEQUENCE_GAP,
            f"expected sequence {head.last_sequence + 1}, got {event.sequence}; send the events between first",
            facts,
        )
    if head.link_rule == "witnessed" and event.previous_event_hash != head.last_hash:
        got = event.previous_event_hash or "none"
        raise Refused(
            Code.ABORTED,
            Reason.BROKEN_LINK,
            f"expected previous_event_hash {head.last_hash}, the hash witnessed at {head.last_sequence}, got {got}",
            facts,
        )


def equivocation(event: Event, existing: tuple[Attested, ...]) -> Refused:
    """Return the refusal of a second hash for a place, with the first attestation as evidence."""
    return Refused(
        Code.ALREADY_EXISTS,
        Reason.EQUIVOCATION,
        f"another hash is witnessed at sequence {event.sequence} of this stream; "
        "a place has one hash for ever: look for a second writer or a rewritten event",
        {"stream": event.stream, "sequence": str(event.sequence)},
        existing,
    )
