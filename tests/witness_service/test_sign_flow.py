"""Signing a stream: order, the window, and what happens when the stream breaks."""

import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import chain

import pytest

from tests.witness_service.wire_stage import Stage, attested, event, new_stage, serving
from witness_service.event import Event
from witness_service.refusal import Code, Reason, Refused
from witness_service.wire.client import WitnessClient

UNAVAILABLE = Refused(Code.UNAVAILABLE, Reason.HSM_UNAVAILABLE, "the token did not sign")


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A server that answers as the test says."""
    with serving(new_stage()) as stage:
        yield stage


@pytest.fixture
def client(stage: Stage) -> Iterator[WitnessClient]:
    """A client of the stage."""
    with WitnessClient(stage.address) as client:
        yield client


def batches(count: int, size: int = 3) -> list[list[Event]]:
    """Return batches of consecutive events."""
    return [[event(number * size + place) for place in range(size)] for number in range(count)]


def all_of(count: int, size: int = 3) -> list[tuple[object, ...]]:
    """Return what comes back when every event of the batches is attested."""
    return [(attested(number),) for number in range(count * size)]


def test_outcomes_come_in_the_order_of_the_events(client: WitnessClient) -> None:
    """One list per batch, one outcome per event, in the order they were given."""
    outcomes = list(client.sign_stream(batches(50)))
    assert [len(batch) for batch in outcomes] == [3] * 50
    assert list(chain(*outcomes)) == all_of(50)


def test_no_events_make_no_call(stage: Stage, client: WitnessClient) -> None:
    """An empty source ends at once."""
    assert list(client.sign_stream([])) == []
    assert stage.streams == []


def test_the_window_bounds_what_is_in_flight(stage: Stage, client: WitnessClient) -> None:
    """The service never has more messages waiting than the window allows."""
    list(client.sign_stream(batches(100), window=3))
    assert 1 <= stage.most_in_flight <= 3


def test_answers_come_while_the_source_waits(client: WitnessClient) -> None:
    """A source that makes its next event from the last answer is served: nothing waits for a full window."""
    answered = threading.Event()

    def source() -> Iterator[list[Event]]:
        yield [event(0)]
        assert answered.wait(30)
        yield [event(1)]

    got = []
    for outcomes in client.sign_stream(source(), window=8):
        got.extend(outcomes)
        answered.set()
    assert got == all_of(2, 1)


@pytest.mark.parametrize("break_after", [[0], [1], [5], [0, 0, 0], [2, 2, 2]], ids=repr)
def test_a_broken_stream_is_taken_up_where_it_stopped(
    stage: Stage, client: WitnessClient, break_after: list[int]
) -> None:
    """However often the stream breaks, every event has one outcome; only unanswered ones are sent again."""
    stage.break_after = list(break_after)
    outcomes = chain(*client.sign_stream(batches(20), window=4, retry_for=20.0))
    assert list(outcomes) == all_of(20)
    assert len(stage.streams) == len(break_after) + 1
    answered = 0
    for seen, stopped in zip(stage.streams[1:], break_after, strict=True):
        answered += stopped
        assert seen[0] == answered * 3


def test_a_batch_with_a_passing_fault_is_sent_again(stage: Stage, client: WitnessClient) -> None:
    """The caller does not see an event that was unavailable once, nor the gap it would leave behind it."""
    stage.unavailable = {4: UNAVAILABLE, 30: UNAVAILABLE}
    assert list(chain(*client.sign_stream(batches(20), retry_for=20.0))) == all_of(20)
    assert [seen[0] for seen in stage.streams] == [0, 3, 30]


def test_without_time_to_retry_the_refusal_is_given_out(stage: Stage, client: WitnessClient) -> None:
    """A caller that does not want to wait gets the refusal in the event's place, and the rest as it is."""
    stage.unavailable = {4: UNAVAILABLE}
    outcomes = list(chain(*client.sign_stream(batches(3))))
    assert isinstance(outcomes[4], Refused)
    assert outcomes[:4] + outcomes[5:] == all_of(3)[:4] + all_of(3)[5:]


def test_a_final_refusal_stands_in_its_place(stage: Stage, client: WitnessClient) -> None:
    """A refusal that asking again cannot change ends nothing: the events around it have their outcomes."""
    stage.unavailable = {4: Refused(Code.ABORTED, Reason.SEQUENCE_GAP, "expected 3, got 7")}
    outcomes = list(chain(*client.sign_stream(batches(3), retry_for=20.0)))
    refused = outcomes[4]
    assert isinstance(refused, Refused)
    assert (refused.code, refused.reason) == (Code.ABORTED, Reason.SEQUENCE_GAP)
    assert len(stage.streams) == 1


def test_a_stream_that_stays_broken_ends_in_a_refusal(stage: Stage, client: WitnessClient) -> None:
    """Without progress the caller learns after the given time that nobody answers."""
    stage.break_after = [0] * 1000
    with pytest.raises(Refused) as refused:
        list(client.sign_stream(batches(3), retry_for=0.3))
    assert refused.value.code is Code.UNAVAILABLE


def test_a_silent_service_is_noticed(stage: Stage, client: WitnessClient) -> None:
    """A stream that owes an answer for too long is given up: gRPC alone would wait for ever."""
    stage.held.set()
    with pytest.raises(Refused) as refused:
        list(client.sign_stream(batches(3), answer_timeout=0.2))
    assert (refused.value.code, refused.value.reason) == (Code.UNAVAILABLE, Reason.OUTCOME_UNKNOWN)


def test_what_the_source_raises_comes_after_what_it_gave(client: WitnessClient) -> None:
    """An error in the caller's own events loses no answer to the events before it, and keeps its type."""

    def source() -> Iterator[list[Event]]:
        yield from batches(2)
        raise LookupError("no more")

    outcomes = client.sign_stream(source())
    assert [*next(outcomes), *next(outcomes)] == all_of(2)
    with pytest.raises(LookupError, match="no more"):
        next(outcomes)


def test_an_event_that_fits_no_message_is_the_source_s_error(client: WitnessClient) -> None:
    """A value the wire cannot carry is reported at once, and does not look like a service that went away."""
    with pytest.raises(ValueError, match=r"."):
        list(client.sign_stream([[event(2**64)]], retry_for=20.0))


def test_a_caller_that_stops_early_ends_the_call(stage: Stage, client: WitnessClient) -> None:
    """Closing the iterator ends the stream at the service."""
    with closing(client.sign_stream(batches(1000))) as outcomes:
        next(outcomes)
    assert stage.ended.wait(30)
