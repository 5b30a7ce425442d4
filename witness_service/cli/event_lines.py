"""Events as JSON lines, read in batches as they come."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from witness_service.cli.failure import InputProblem
from witness_service.event import Event

BATCH_EVENTS = 256
"""Events per message: more gain nothing, and one message must stay below 512."""

READ_BYTES = 65_536
LINE_BYTES = 65_536

_REQUIRED = {"stream", "sequence", "event_hash"}
_OPTIONAL = {"previous_event_hash", "event_id", "event_type"}


def read_events(path: Path, progress: Callable[[int], None] = lambda size: None) -> Iterator[list[Event]]:
    """Yield the events of a file of JSON lines in batches; the path "-" is standard input.

    A batch holds what could be read without waiting, so that events from a pipe are not held back.
    progress: told the bytes read. Raises InputProblem that names the line.
    """
    number = 0
    for lines in _read_lines(path, progress):
        events = []
        for line in lines:
            number += 1
            if line.strip():
                events.append(parse_event(line, f"{path}, line {number}"))
        for start in range(0, len(events), BATCH_EVENTS):
            yield events[start : start + BATCH_EVENTS]


def parse_event(line: bytes, where: str) -> Event:
    """Return the event of one JSON object.

    Members: stream, sequence, event_hash, and as wanted previous_event_hash, event_id (else the sequence) and
    event_type (else "event"). Raises InputProblem, which starts with where; the service checks the values.
    """
    try:
        value = json.loads(line)
    except ValueError:
        raise InputProblem(f"{where}: expected a JSON object per line, got something else") from None
    if not isinstance(value, dict):
        raise InputProblem(f"{where}: expected a JSON object per line, got another JSON value")
    if missing := _REQUIRED - value.keys():
        raise InputProblem(f"{where}: expected the member {sorted(missing)[0]}, got none")
    if value.keys() - _REQUIRED - _OPTIONAL:
        raise InputProblem(f"{where}: expected only {', '.join(sorted(_REQUIRED | _OPTIONAL))}, got another member")
    sequence = _sequence(value["sequence"], where)
    return Event(
        stream=_text(value, "stream", where),
        sequence=sequence,
        event_hash=_text(value, "event_hash", where),
        previous_event_hash=_text(value, "previous_event_hash", where) if value.get("previous_event_hash") else None,
        event_id=_text(value, "event_id", where) if "event_id" in value else str(sequence),
        event_type=_text(value, "event_type", where) if "event_type" in value else "event",
    )


def _sequence(value: object, where: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 19:
        value = int(value)
    if type(value) is not int or not 0 <= value < 2**63:
        raise InputProblem(f"{where}: sequence: expected a whole number from 0 to 2**63-1, got something else")
    return value


def _text(value: dict[str, object], name: str, where: str) -> str:
    text = value[name]
    if not isinstance(text, str):
        raise InputProblem(f"{where}: {name}: expected a string, got something else")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputProblem(f"{where}: {name}: expected text, got a lone surrogate") from None
    return text


def _read_lines(path: Path, progress: Callable[[int], None]) -> Iterator[list[bytes]]:
    """Yield the complete lines of each read."""
    # os.read, because it returns what a pipe holds, and because no lock of an abandoned reading thread keeps the
    # interpreter from ending.
    try:
        descriptor = os.dup(sys.stdin.fileno()) if str(path) == "-" else os.open(path, os.O_RDONLY)
    except OSError as error:
        raise InputProblem(f"{path}: cannot be read: {error.strerror}") from error
    try:
        rest = b""
        while data := _read(descriptor, path):
            progress(len(data))
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > LINE_BYTES:
                raise InputProblem(f"{path}: expected lines of at most {LINE_BYTES} bytes, got a longer one")
            yield lines
        yield [rest]
    finally:
        os.close(descriptor)


def _read(descriptor: int, path: Path) -> bytes:
    try:
        return os.read(descriptor, READ_BYTES)
    except OSError as error:
        raise InputProblem(f"{path}: cannot be read: {error.strerror}") from error
