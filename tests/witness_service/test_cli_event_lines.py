"""Events as JSON lines: read in batches as they come, each mistake named by its line."""

import contextlib
import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from witness_service.cli.event_lines import BATCH_EVENTS, LINE_BYTES, parse_event, read_events
from witness_service.cli.failure import InputProblem
from witness_service.event import Event

HASH = "sha256:" + "0" * 64
LEAST = {"stream": "s", "sequence": 0, "event_hash": HASH}


def line(**members: object) -> bytes:
    return json.dumps({**LEAST, **members}).encode()


def test_what_a_line_leaves_out_has_a_default() -> None:
    """Stream, sequence and hash are enough: the id is then the sequence and the type "event"."""
    assert parse_event(line(sequence=7), "x") == Event("s", 7, HASH, None, "7", "event")


def test_a_line_can_say_everything() -> None:
    """Every member of an event can be given; a sequence may be a string, as doubles cannot hold all."""
    full = line(sequence="9007199254740993", previous_event_hash=HASH, event_id="e", event_type="t")
    assert parse_event(full, "x") == Event("s", 9007199254740993, HASH, HASH, "e", "t")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"", "JSON object per line"),
        (b"[]", "another JSON value"),
        (b"\xff", "JSON object per line"),
        (b'{"stream": "s"}', "expected the member event_hash"),
        (line(colour="red"), "got another member"),
        (line(sequence=-1), "sequence"),
        (line(sequence=2**63), "sequence"),
        (line(sequence=1.0), "sequence"),
        (line(sequence=True), "sequence"),
        (line(sequence="1e3"), "sequence"),
        (line(sequence="٣"), "sequence"),
        (line(stream=None), "stream: expected a string"),
        (line(event_id=1), "event_id: expected a string"),
    ],
)
def test_a_mistake_is_named(bad: bytes, said: str) -> None:
    """Every form a line must not have is refused with the place it came from and what was expected."""
    with pytest.raises(InputProblem, match=f"^file, line 3: .*{said}"):
        parse_event(bad, "file, line 3")


@given(st.binary(max_size=200))
def test_hostile_lines_give_an_input_problem(data: bytes) -> None:
    """No bytes make the reader fail in another way."""
    with contextlib.suppress(InputProblem):
        parse_event(data, "x")


def test_a_file_comes_in_batches_in_its_order(tmp_path: Path) -> None:
    """Batches are no larger than a message may be, lose nothing and keep order, the last line included."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(line(sequence=number) for number in range(1000)))
    batches = list(read_events(path))
    assert max(map(len, batches)) <= BATCH_EVENTS
    assert [event.sequence for event in chain(*batches)] == list(range(1000))


def test_empty_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    """An empty line is no event, but the number in a message is that of an editor."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(line() + b"\n\n" + b"bad\n")
    with pytest.raises(InputProblem, match="line 3"):
        list(read_events(path))


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    """A file that is no text cannot make the reader hold all of it."""
    path = tmp_path / "zeros"
    path.write_bytes(bytes(3 * LINE_BYTES))
    read = 0

    def progress(size: int) -> None:
        nonlocal read
        read += size

    with pytest.raises(InputProblem, match="lines of at most"):
        list(read_events(path, progress))
    assert read <= 2 * LINE_BYTES


def test_events_from_a_pipe_are_not_held_back() -> None:
    """A batch holds what has come, so that the first event of a pipe that stays open is signed at once."""
    program = (
        "from pathlib import Path\n"
        "from witness_service.cli.event_lines import read_events\n"
        "for batch in read_events(Path('-')): print([event.sequence for event in batch], flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            os.write(process.stdin.fileno(), line(sequence=number) + b"\n")
            assert json.loads(process.stdout.readline()) == [number]
        process.stdin.close()
        assert process.wait(30) == 0
