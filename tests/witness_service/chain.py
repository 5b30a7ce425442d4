"""Events of hash-chained streams, and calls that are sent without waiting for the one before."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import grpc
from google.rpc import status_pb2

from witness_service.event import Attested, Event
from witness_service.refusal import Refused
from witness_service.v1 import witness_pb2, witness_pb2_grpc
from witness_service.wire.answers import attested, event_message
from witness_service.wire.refusals import refusal_of


@dataclass(frozen=True)
class Chain:
    """The events of one stream; `fork` makes other events for the same places."""

    stream: str = field(default_factory=lambda: f"stream-{uuid.uuid4()}")
    fork: str = ""

    def hash(self, sequence: int) -> str:
        """Return the hash of the event at a place."""
        text = f"{self.stream} {sequence} {self.fork}"
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def event(self, sequence: int) -> Event:
        """Return the event at a place."""
        previous = self.hash(sequence - 1) if sequence else None
        return Event(self.stream, sequence, self.hash(sequence), previous, f"event {sequence}", "test")

    def events(self, first: int, end: int) -> list[Event]:
        """Return the events first to end - 1."""
        return [self.event(sequence) for sequence in range(first, end)]

    def forked(self) -> Chain:
        """Return a chain of other events in the same stream."""
        return Chain(self.stream, "forked")


def batches(events: Sequence[Event], size: int) -> Iterable[Sequence[Event]]:
    """Cut events into messages."""
    return (events[start : start + size] for start in range(0, len(events), size))


def sign_at_once(address: str, events: Iterable[Event], *, timeout: float = 30.0) -> list[Attested | Refused]:
    """Send one Sign call per event, all of them before the first answer, and return what came, in their order."""
    with grpc.insecure_channel(address) as channel:
        stub = witness_pb2_grpc.WitnessStub(channel)
        calls = [
            stub.Sign.future(witness_pb2.SignRequest(event=event_message(event)), timeout=timeout)  # type: ignore[attr-defined]
            for event in events
        ]
        return [_outcome(call, address) for call in calls]


def rich_status(error: grpc.RpcError) -> status_pb2.Status:
    """Return the google.rpc.Status in the trailers of a failed call, read without the product's own client."""
    assert isinstance(error, grpc.Call)
    (packed,) = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    assert isinstance(packed, bytes)
    return status_pb2.Status.FromString(packed)


def _outcome(call: grpc.Future, address: str) -> Attested | Refused:
    error = call.exception()
    if isinstance(error, grpc.RpcError):
        return refusal_of(error, address)
    (found,) = call.result().attestations
    return attested(found)
