"""Signing many events over one call: their order, many in flight, many writers, and what does not end the stream."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import grpc
import pytest

from key_registry.statement import Statement
from tests.fix_service import DevService, until
from tests.witness_service.chain import Chain, batches, sign_at_once
from tests.witness_service.judging import check_stored, codes, stored
from witness_service.event import Attested, Event
from witness_service.refusal import Refused
from witness_service.v1 import witness_pb2, witness_pb2_grpc
from witness_service.wire.answers import event_message
from witness_service.wire.client import WitnessClient
from witness_service.wire.refusals import refusal_of

WRITERS = 16


@pytest.fixture
def client(dev_service: DevService) -> Iterator[WitnessClient]:
    """A connection to the shared service."""
    with WitnessClient(dev_service.address) as connected:
        yield connected


def attested(outcomes: Sequence[Sequence[tuple[Attested, ...] | Refused]]) -> list[Attested]:
    """Return the one attestation of each event, none of which is refused."""
    found = []
    for batch in outcomes:
        for outcome in batch:
            assert isinstance(outcome, tuple), outcome
            found.append(outcome[0])
    return found


def request(events: Sequence[Event]) -> witness_pb2.SignStreamRequest:
    return witness_pb2.SignStreamRequest(events=[event_message(event) for event in events])


@pytest.mark.parametrize(("size", "window"), [(1, 64), (7, 8), (256, 4), (512, 16)])
def test_answers_come_in_the_order_of_the_requests(
    dev_service: DevService, client: WitnessClient, size: int, window: int
) -> None:
    """However many events a message holds and however many are in flight, each answer is that of its event."""
    chain = Chain()
    count = min(1500, 60 * size)
    answers = list(client.sign_stream(batches(chain.events(0, count), size), window=window))
    assert [len(answer) for answer in answers] == [len(batch) for batch in batches(chain.events(0, count), size)]
    signed = attested(answers)
    assert [item.sequence for item in signed] == list(range(count))
    for item, event in zip(signed, chain.events(0, count), strict=True):
        assert Statement.decode(item.statement).event_hash == event.event_hash
    with dev_service.auditor() as database:
        assert len(check_stored(database, chain.stream, signed)) == count


def test_more_is_taken_before_the_first_is_answered(client: WitnessClient) -> None:
    """Many small messages in flight are fewer batches: a writer need not wait for one answer to send the next."""
    chain = Chain()
    sent: list[int] = []
    answered_at: list[int] = []

    def requests() -> Iterator[Sequence[Event]]:
        for event in chain.events(0, 200):
            sent.append(event.sequence)
            yield [event]

    for _ in client.sign_stream(requests(), window=100):
        answered_at.append(len(sent))
    assert max(ahead - place for place, ahead in enumerate(answered_at)) > 20


def test_several_streams_in_one_message(dev_service: DevService, client: WitnessClient) -> None:
    """A message may mix streams; each keeps its own order."""
    chains = [Chain() for _ in range(5)]
    mixed = [chain.event(sequence) for sequence in range(40) for chain in chains]
    signed = attested(list(client.sign_stream(batches(mixed, 50))))
    assert [(item.stream, item.sequence) for item in signed] == [(event.stream, event.sequence) for event in mixed]
    for chain in chains:
        assert codes(dev_service, chain) == {"VALID_KEY_ACTIVE": 40}


def test_a_refused_event_does_not_end_the_stream(client: WitnessClient) -> None:
    """Bad input, a gap, a broken link and another hash are refused in their places; the others are signed."""
    chain = Chain()
    client.sign(chain.event(0))
    message = [
        chain.event(0),
        chain.forked().event(0),
        chain.event(1),
        replace(chain.event(2), event_hash="nothing"),
        chain.event(3),
        replace(chain.event(2), previous_event_hash=None),
        chain.event(2),
        chain.event(2),
        chain.event(3),
    ]
    first, second = client.sign_stream([message, [chain.event(4)]])
    reasons = [outcome.reason if isinstance(outcome, Refused) else "" for outcome in first]
    assert reasons == ["", "EQUIVOCATION", "", "FIELD_INVALID", "SEQUENCE_GAP", "BROKEN_LINK", "", "", ""]
    assert first[6] == first[7]
    assert isinstance(second[0], tuple)


@pytest.mark.parametrize("count", [0, 513])
def test_a_message_of_the_wrong_size_ends_the_stream(dev_service: DevService, count: int) -> None:
    """It is no place to put results; what was sent before it is answered first."""
    chain = Chain()
    with grpc.insecure_channel(dev_service.address) as channel:
        messages = [request(chain.events(0, 10)), request(chain.events(10, 10 + count)), request(chain.events(10, 12))]
        call: Any = witness_pb2_grpc.WitnessStub(channel).SignStream(iter(messages))
        assert len(next(call).results) == 10
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
    refused = refusal_of(caught.value, dev_service.address)
    assert (refused.code.name, refused.reason, refused.metadata["field"]) == (
        "INVALID_ARGUMENT",
        "BATCH_SIZE",
        "events",
    )
    with dev_service.auditor() as database:
        assert len(check_stored(database, chain.stream, [])) == 10


def test_an_empty_stream_is_answered_with_nothing(dev_service: DevService) -> None:
    """Opening a stream and closing it again is no error."""
    with grpc.insecure_channel(dev_service.address) as channel:
        assert list(witness_pb2_grpc.WitnessStub(channel).SignStream(iter([]))) == []


def test_case_38_what_a_cancelling_writer_sent_is_completed(dev_service: DevService, client: WitnessClient) -> None:
    """A writer that goes away in the middle loses nothing: what was taken is signed, and replay returns it."""
    chain = Chain()
    events = chain.events(0, 3000)
    with grpc.insecure_channel(dev_service.address) as channel:
        call: Any = witness_pb2_grpc.WitnessStub(channel).SignStream(request(batch) for batch in batches(events, 100))
        first = next(call)
        call.cancel()
    until(lambda: client.status().events_in_flight == 0)
    with dev_service.auditor() as database:
        before = [row for row in stored(database, chain.stream) if row[2] is not None]
        replay = attested(list(client.sign_stream(batches(events, 256))))
        rows = check_stored(database, chain.stream, replay)
    assert len(before) >= 100
    assert rows[: len(before)] == before
    assert [result.attestations[0].signature for result in first.results] == [item.signature for item in replay[:100]]
    assert len(rows) == 3000


def test_case_38_what_a_cancelling_caller_sent_is_completed(dev_service: DevService, client: WitnessClient) -> None:
    """Of single calls that are cancelled while they run, each is either signed whole or never came."""
    chains = [Chain() for _ in range(50)]
    with grpc.insecure_channel(dev_service.address) as channel:
        stub: Any = witness_pb2_grpc.WitnessStub(channel)
        calls = [stub.Sign.future(witness_pb2.SignRequest(event=event_message(chain.event(0)))) for chain in chains]
        calls[0].result(timeout=20)
        for call in calls:
            call.cancel()
    until(lambda: client.status().events_in_flight == 0)
    with dev_service.auditor() as database:
        for chain in chains:
            before = check_stored(database, chain.stream, [])
            rows = check_stored(database, chain.stream, client.sign(chain.event(0)))
            assert before in ([], rows)


def test_16_writers_with_a_stream_each(dev_service: DevService) -> None:
    """Sixteen writers at once: every event signed once, in its stream's order, and every signature judged valid."""
    chains = [Chain() for _ in range(WRITERS)]
    start = threading.Barrier(WRITERS)

    def write(chain: Chain) -> list[Attested]:
        with WitnessClient(dev_service.address) as client:
            start.wait(20)
            return attested(list(client.sign_stream(batches(chain.events(0, 200), 20), window=8)))

    with ThreadPoolExecutor(WRITERS) as pool:
        signed = list(pool.map(write, chains))
    with dev_service.auditor() as database:
        for chain, items in zip(chains, signed, strict=True):
            assert [item.sequence for item in items] == list(range(200))
            assert len(check_stored(database, chain.stream, items)) == 200
            assert codes(dev_service, chain) == {"VALID_KEY_ACTIVE": 200}
    leaves = [item.leaf_index for items in signed for item in items]
    assert len(set(leaves)) == len(leaves)


def test_16_writers_race_for_the_places_of_one_stream(dev_service: DevService) -> None:
    """Each writer has hashes of its own: every place has exactly one winner, whom all who were refused get to see."""
    stream = Chain().stream
    start = threading.Barrier(WRITERS)
    places = 40

    def write(number: int) -> list[tuple[Event, Attested | Refused]]:
        """Race for the places one after the other, each time linking to what was witnessed before."""
        own = Chain(stream, f"writer {number}")
        previous: str | None = None
        found: list[tuple[Event, Attested | Refused]] = []
        with WitnessClient(dev_service.address) as client:
            start.wait(20)
            for sequence in range(places):
                event = replace(own.event(sequence), previous_event_hash=previous)
                try:
                    (winner,) = client.sign(event)
                    found.append((event, winner))
                except Refused as refused:
                    (winner,) = refused.existing  # of an equivocation, and of nothing else
                    found.append((event, refused))
                assert winner.sequence == sequence
                previous = Statement.decode(winner.statement).event_hash
        return found

    with ThreadPoolExecutor(WRITERS) as pool:
        outcomes = [item for found in pool.map(write, range(WRITERS)) for item in found]
    winners: dict[int, set[Attested]] = {sequence: set() for sequence in range(places)}
    for event, outcome in outcomes:
        winner = outcome if isinstance(outcome, Attested) else outcome.existing[0]
        winners[event.sequence].add(winner)
        said = Statement.decode(winner.statement)
        assert (said.event_hash == event.event_hash) == isinstance(outcome, Attested)
    assert all(len(found) == 1 for found in winners.values())
    assert Counter(isinstance(outcome, Attested) for _, outcome in outcomes)[True] == places
    with dev_service.auditor() as database:
        rows = check_stored(database, stream, [item for found in winners.values() for item in found])
    chain = [Statement.decode(row[1]) for row in rows]
    assert all(later.previous_event_hash == earlier.event_hash for earlier, later in pairwise(chain))


def test_16_writers_of_the_same_events(dev_service: DevService) -> None:
    """Writers that all send one stream in an order of their own, until all is signed, all get the same bytes."""
    chain = Chain()
    places = 60
    start = threading.Barrier(WRITERS)

    def write(number: int) -> dict[int, Attested]:
        shuffle = random.Random(number).shuffle
        got: dict[int, Attested] = {}
        start.wait(20)
        while len(got) < places:
            missing = [event for event in chain.events(0, places) if event.sequence not in got]
            if number % 2:
                shuffle(missing)
            for event, answer in zip(missing, sign_at_once(dev_service.address, missing), strict=True):
                if isinstance(answer, Attested):
                    got[event.sequence] = answer
                else:
                    assert answer.reason in {"SEQUENCE_GAP", "BELOW_HEAD"}, answer
        return got

    chain_head = sign_at_once(dev_service.address, [chain.event(0)])
    with ThreadPoolExecutor(WRITERS) as pool:
        results = list(pool.map(write, range(WRITERS)))
    assert all(result == results[0] for result in results)
    assert results[0][0] == chain_head[0]
    with dev_service.auditor() as database:
        assert len(check_stored(database, chain.stream, results[0].values())) == places
