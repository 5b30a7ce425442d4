"""What may stand at a place: the rules alone, without database, token or wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from key_registry.statement import Statement
from key_registry.store import StoredClaim, StreamHead
from tests.witness_service.chain import Chain
from witness_service.event import Attested, Event
from witness_service.place import Decisions, check_continues, equivocation
from witness_service.refusal import Code, Refused

CHAIN = Chain("a-chain")
OTHER = "sha256:" + "00" * 32


def head(rule: str, last: int | None) -> dict[str, StreamHead]:
    """Return the head of the chain's stream at a sequence, or before its first event."""
    return {CHAIN.stream: StreamHead(7, rule, last, None if last is None else CHAIN.hash(last))}


def state(event: Event) -> Statement:
    """Return a statement as a witness would make it."""
    return Statement(
        environment="development",
        event_hash=event.event_hash,
        event_id=event.event_id,
        event_type=event.event_type,
        key_id="ab" * 32,
        previous_event_hash=event.previous_event_hash,
        registry_id="cd" * 32,
        registry_root="ef" * 32,
        registry_size=7,
        round=0,
        sequence=event.sequence,
        signed_at="2024-01-01T00:00:00.000000Z",
        stream=event.stream,
        witness_id="WITNESS:00000000-0000-4000-8000-000000000001",
    )


def claim(event: Event) -> StoredClaim:
    """Return a committed claim on an event, not sealed yet."""
    said = state(event)
    return StoredClaim(
        claim_id=1,
        stream=event.stream,
        sequence=event.sequence,
        event_hash=event.event_hash,
        previous_event_hash=event.previous_event_hash,
        witness_id=said.witness_id,
        key_id=said.key_id,
        statement=said.encode(),
        leaf_index=None,
        signature=None,
    )


# rule, head, sequence, previous hash (a sequence of the chain, None, or another hash) -> reason, "" when it continues
CASES = [
    ("witnessed", None, 0, None, ""),
    ("witnessed", None, 5, 4, ""),
    ("witnessed", None, 5, None, ""),
    ("witnessed", None, 0, OTHER, ""),
    ("witnessed", 4, 5, 4, ""),
    ("witnessed", 4, 5, 3, "BROKEN_LINK"),
    ("witnessed", 4, 5, None, "BROKEN_LINK"),
    ("witnessed", 4, 5, OTHER, "BROKEN_LINK"),
    ("witnessed", 4, 6, 4, "SEQUENCE_GAP"),
    ("witnessed", 4, 6, 5, "SEQUENCE_GAP"),
    ("witnessed", 4, 2**63 - 1, 4, "SEQUENCE_GAP"),
    ("witnessed", 4, 4, 3, "BELOW_HEAD"),
    ("witnessed", 4, 0, None, "BELOW_HEAD"),
    ("recorded", None, 0, OTHER, ""),
    ("recorded", 4, 5, 4, ""),
    ("recorded", 4, 5, OTHER, ""),
    ("recorded", 4, 5, None, ""),
    ("recorded", 4, 6, 5, "SEQUENCE_GAP"),
    ("recorded", 4, 3, 2, "BELOW_HEAD"),
    ("none", None, 0, None, ""),
    ("none", None, 0, OTHER, "FIELD_INVALID"),
    ("none", 4, 5, None, ""),
    ("none", 4, 5, 4, "FIELD_INVALID"),
    ("none", 4, 6, None, "SEQUENCE_GAP"),
    ("none", 4, 4, None, "BELOW_HEAD"),
]


@pytest.mark.parametrize(("rule", "last", "sequence", "previous", "reason"), CASES)
def test_continuing_a_stream(
    rule: str, last: int | None, sequence: int, previous: int | str | None, reason: str
) -> None:
    """The table of DESIGN section 4: the next sequence, and the link that the stream's rule asks for."""
    link = CHAIN.hash(previous) if isinstance(previous, int) else previous
    event = replace(CHAIN.event(sequence), previous_event_hash=link)
    if not reason:
        check_continues(event, head(rule, last)[CHAIN.stream])
        return
    with pytest.raises(Refused) as caught:
        check_continues(event, head(rule, last)[CHAIN.stream])
    assert caught.value.reason == reason
    if reason == "FIELD_INVALID":
        assert (caught.value.code, caught.value.metadata) == (Code.INVALID_ARGUMENT, {"field": "previous_event_hash"})
    else:
        assert caught.value.code is Code.ABORTED
        assert caught.value.metadata["head_sequence"] == str(last)
        assert last is not None
        assert caught.value.metadata["expected_sequence"] == str(last + 1)
        assert caught.value.metadata["head_hash"] == CHAIN.hash(last)


def decided(
    events: list[Event], last: int | None, existing: Mapping[tuple[str, int], StoredClaim]
) -> tuple[Decisions[int], list[str]]:
    """Decide on events in their order; returns the decisions and the reason each was refused for, or ""."""
    decisions: Decisions[int] = Decisions(head("witnessed", last), existing)
    reasons = []
    for number, event in enumerate(events):
        try:
            decisions.add(number, event, state)
        except Refused as refused:
            reasons.append(refused.reason)
        else:
            reasons.append("")
    return decisions, reasons


def test_a_batch_moves_the_head_as_it_goes() -> None:
    """Events of one batch continue each other, and their places are written in their order."""
    decisions, reasons = decided(CHAIN.events(3, 8), 2, {})
    assert reasons == [""] * 5
    assert [place.sequence for place in decisions.places] == [3, 4, 5, 6, 7]
    assert [item.sequence for item in decisions.claims] == [3, 4, 5, 6, 7]
    assert decisions.of_new == [(number, True) for number in range(5)]


def test_a_refused_event_does_not_move_the_head() -> None:
    """What follows a refused event in the batch is refused as a gap; what repeats its place is judged anew."""
    events = [
        CHAIN.event(3),
        replace(CHAIN.event(4), previous_event_hash=OTHER),
        CHAIN.event(5),
        CHAIN.event(4),
        CHAIN.event(5),
    ]
    decisions, reasons = decided(events, 2, {})
    assert reasons == ["", "BROKEN_LINK", "SEQUENCE_GAP", "", ""]
    assert [place.sequence for place in decisions.places] == [3, 4, 5]


def test_the_same_place_twice_in_a_batch() -> None:
    """One claim; the same hash shares it, another hash contradicts it, whatever else the events say."""
    events = [
        CHAIN.event(3),
        CHAIN.event(3),
        CHAIN.forked().event(3),
        replace(CHAIN.event(3), event_id="x", event_type="y", previous_event_hash=None),
    ]
    decisions, reasons = decided(events, 2, {})
    assert reasons == [""] * 4
    assert decisions.of_new == [(0, True), (1, True), (2, False), (3, True)]
    assert len(decisions.places) == len(decisions.claims) == 1
    assert decisions.claims[0].statement == state(CHAIN.event(3)).encode()


def test_a_place_that_stands() -> None:
    """An earlier claim is joined or contradicted, and nothing is written; it does not matter where the head is."""
    existing = {(CHAIN.stream, 1): claim(CHAIN.event(1))}
    events = [CHAIN.event(1), CHAIN.forked().event(1), replace(CHAIN.event(1), previous_event_hash=OTHER)]
    decisions, reasons = decided(events, 9, existing)
    assert reasons == [""] * 3
    assert [(number, same) for number, _, same in decisions.of_existing] == [(0, True), (1, False), (2, True)]
    assert (decisions.places, decisions.claims) == ([], [])


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=40), st.integers(-1, 3))
def test_any_batch_leaves_a_chain(asked: list[tuple[int, int]], last: int) -> None:
    """Whatever is asked in whatever order: places without gap or fork, each linked to the one before, none twice."""
    chains = [CHAIN, CHAIN.forked(), Chain(CHAIN.stream, "third")]
    events = [chains[fork].event(sequence) for sequence, fork in asked]
    start = None if last < 0 else last
    decisions, reasons = decided(events, start, {})
    sequences = [place.sequence for place in decisions.places]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences))) if sequences else True
    if start is not None:
        assert sequences[:1] in ([], [start + 1])
    previous = None if start is None else CHAIN.hash(start)
    for place in decisions.places:
        if previous is not None:
            assert place.previous_event_hash == previous
        previous = place.event_hash
    for number, same_hash in decisions.of_new:
        (place,) = [place for place in decisions.places if place.sequence == events[number].sequence]
        assert same_hash == (place.event_hash == events[number].event_hash)
    answered = {number for number, _ in decisions.of_new} | {number for number, reason in enumerate(reasons) if reason}
    assert answered == set(range(len(events)))


def test_equivocation_carries_the_evidence() -> None:
    """The refusal names the place and holds what was signed there, and no data of the caller's besides."""
    first = Attested(CHAIN.stream, 3, b"statement", "type", "ab" * 32, b"s" * 64, 0)
    refused = equivocation(CHAIN.forked().event(3), (first,))
    assert (refused.code, refused.reason, refused.existing) == (Code.ALREADY_EXISTS, "EQUIVOCATION", (first,))
    assert refused.metadata == {"stream": CHAIN.stream, "sequence": "3"}
    assert CHAIN.stream not in refused.message
