"""The demo's events: a log file as hash-chained streams."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from witness_service.demo.log_file import FEWEST_LINES, NoLogFile, choose, event_hash, events, stream_name


def test_every_line_is_one_event_linked_to_the_one_before(tmp_path: Path) -> None:
    """Sequences count the lines, empty ones included, and each event names the hash of its predecessor."""
    path = tmp_path / "x.log"
    path.write_bytes(b"one\n\nthr\xffee")
    found = list(events(path, "x.log"))
    assert [event.sequence for event in found] == [0, 1, 2]
    assert [event.previous_event_hash for event in found] == [
        None,
        *(event.event_hash for event in found[:2]),
    ]
    for event in found:
        event.check()


def test_the_encoding_is_the_documented_one() -> None:
    """Anybody can compute an event's hash from the sentence that describes it."""
    expected = hashlib.sha256(b"witness-service/log-line/v1\nx.log\n1\nsha256:aa\nline").hexdigest()
    assert event_hash("x.log", 1, "sha256:aa", b"line") == f"sha256:{expected}"


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
places = st.tuples(names, st.integers(0, 2**63 - 1), st.none() | st.just("sha256:" + "0" * 64), st.binary())


@given(places, places)
def test_two_events_never_have_the_same_bytes(
    one: tuple[str, int, str | None, bytes], other: tuple[str, int, str | None, bytes]
) -> None:
    """Different places or lines give different hashes: no part can run into the next."""
    assert (event_hash(*one) == event_hash(*other)) == (one == other)


def test_further_readings_are_streams_of_their_own() -> None:
    """A file that is read again does not take the places of the first reading."""
    assert [stream_name(Path("/var/log/dpkg.log"), reading) for reading in (1, 2, 3)] == [
        "dpkg.log",
        "dpkg.log#2",
        "dpkg.log#3",
    ]


def test_a_file_name_that_is_no_stream_name_has_a_stand_in() -> None:
    """A file may be called what a stream may not."""
    assert stream_name(Path("/tmp/a\nb"), 2) == "log#2"
    assert len(stream_name(Path("/tmp/" + "é" * 120), 100).encode()) <= 255


def test_a_given_file_is_taken_or_refused_by_name(tmp_path: Path) -> None:
    """The file that was asked for is used, and when it cannot be, nothing else is used in its place."""
    path = tmp_path / "x.log"
    path.write_text("line\n" * FEWEST_LINES)
    assert choose(path) == path
    path.write_text("line\n" * (FEWEST_LINES - 1))
    with pytest.raises(NoLogFile, match=r"x\.log"):
        choose(path)
