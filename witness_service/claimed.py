"""What the steps of the sign path hand on: a request's tickets, claimed statements, verified signatures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from key_registry import dsse
from key_registry.merkle import leaf_hash
from key_registry.statement import STATEMENT_TYPE
from key_registry.store import StoredClaim
from witness_service.event import Attested, Event
from witness_service.refusal import Refused

Outcome = tuple[Attested, ...] | Refused
"""What becomes of an event: its attestations, or why there are none."""


class Request:
    """Events that came in one message; answered when each of them has its outcome."""

    __slots__ = ("_open", "_outcomes", "answered", "events")

    def __init__(self, events: Sequence[Event], answered: asyncio.Future[list[Outcome]]) -> None:
        self.events = events
        self.answered = answered
        self._outcomes: list[Outcome | None] = [None] * len(events)
        self._open = len(events)

    def tickets(self) -> Iterator[Ticket]:
        """Return one ticket per event, in their order."""
        return (Ticket(self, index) for index in range(len(self.events)))

    def answer(self, index: int, outcome: Outcome) -> None:
        """Note the outcome of one event, once; the last one answers the request."""
        if self._outcomes[index] is not None:
            raise RuntimeError("expected one outcome per event, got a second one")
        self._outcomes[index] = outcome
        self._open -= 1
        if not self._open and not self.answered.done():
            self.answered.set_result([outcome for outcome in self._outcomes if outcome is not None])


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One event of a request, waiting for its outcome."""

    request: Request
    index: int

    @property
    def event(self) -> Event:
        """The event it stands for."""
        return self.request.events[self.index]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A statement whose claim is committed: it will be signed, with these bytes, whatever happens."""

    claim_id: int
    stream: str
    sequence: int
    key_id: str
    statement: bytes

    @classmethod
    def of(cls, stored: StoredClaim) -> Claimed:
        """Return a claim that was read from the store, and is thereby known to be committed."""
        return cls(stored.claim_id, stored.stream, stored.sequence, stored.key_id, stored.statement)

    def pae(self) -> bytes:
        """Return the bytes the token signs."""
        return dsse.pae(STATEMENT_TYPE, self.statement)


@dataclass(frozen=True, slots=True)
class Verified:
    """A claimed statement with a signature that holds under the registry's public key."""

    claimed: Claimed
    signature: bytes

    def leaf(self) -> bytes:
        """Return the leaf hash of the attestation."""
        signatures = (dsse.Signature(self.claimed.key_id, self.signature),)
        return leaf_hash(dsse.Envelope(STATEMENT_TYPE, self.claimed.statement, signatures).entry())

    def attested(self, leaf_index: int) -> Attested:
        """Return the attestation this becomes when the seal that gives it its index is committed."""
        claimed = self.claimed
        return Attested(
            stream=claimed.stream,
            sequence=claimed.sequence,
            statement=claimed.statement,
            payload_type=STATEMENT_TYPE,
            key_id=claimed.key_id,
            signature=self.signature,
            leaf_index=leaf_index,
        )


def attested_of(stored: StoredClaim) -> Attested | None:
    """Return a stored claim's attestation, None while it is not sealed."""
    if stored.leaf_index is None or stored.signature is None:
        return None
    return Verified(Claimed.of(stored), stored.signature).attested(stored.leaf_index)


@dataclass(slots=True, eq=False)
class Waiting:
    """Who waits for a claim: those who get its attestation, and those whom it contradicts."""

    claimed: Claimed
    repeats: list[Ticket] = field(default_factory=list)
    contradicted: list[Ticket] = field(default_factory=list)

    def follow(self, ticket: Ticket, same_hash: bool) -> None:
        """Let a ticket wait for the attestation, to be given it or to be refused with it."""
        (self.repeats if same_hash else self.contradicted).append(ticket)

    def all(self) -> list[Ticket]:
        """Return everybody who waits."""
        return [*self.repeats, *self.contradicted]
