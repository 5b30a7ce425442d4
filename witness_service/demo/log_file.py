"""A log file of this machine as hash-chained streams of events: one event per line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from key_registry.errors import FormatError
from key_registry.statement import check_name
from witness_service.event import Event

ENCODING = "witness-service/log-line/v1"
EVENT_TYPE = "log-line"
FEWEST_LINES = 100

_DPKG_LOG = Path("/var/log/dpkg.log")
_OTHERS = (Path("/var/log/apt/history.log"), Path("/var/lib/dpkg/status"))


class NoLogFile(Exception):
    """No log file can be used; the message says what was expected."""


def choose(file: Path | None) -> Path:
    """Return the log file to sign: the one given, else Debian's dpkg.log, else the newest one of its kind.

    Raises NoLogFile when it cannot be read or is too short.
    """
    rotated = [path for path in _DPKG_LOG.parent.glob("dpkg.log*") if path.suffix != ".gz"]
    newest_first = sorted((*rotated, *_OTHERS), key=_modified, reverse=True)
    candidates = [file] if file else [_DPKG_LOG, *newest_first]
    for path in candidates:
        if _count_lines(path) >= FEWEST_LINES:
            return path.absolute()
    tried = ", ".join(str(path) for path in dict.fromkeys(candidates))
    raise NoLogFile(f"expected a readable file of at least {FEWEST_LINES} lines, got none of: {tried}")


def stream_name(path: Path, reading: int) -> str:
    """Return the stream of one reading of a file, counted from 1: the file's name, from the second on with "#2"."""
    try:
        name = check_name("stream", path.name[:200])
    except FormatError:
        name = "log"
    return name if reading == 1 else f"{name}#{reading}"


def events(path: Path, stream: str) -> Iterator[Event]:
    """Yield the events of a file in their order: sequences from 0, each linked to the one before it."""
    previous: str | None = None
    for sequence, line in enumerate(lines(path)):
        digest = event_hash(stream, sequence, previous, line)
        yield Event(stream, sequence, digest, previous, f"line {sequence + 1}", EVENT_TYPE)
        previous = digest


def event_hash(stream: str, sequence: int, previous: str | None, line: bytes) -> str:
    """Return the hash of an event: "sha256:" and the SHA-256 of five parts with a line feed after each but
    the last.

    The parts: ENCODING, the stream, the sequence in decimal, the hash of the event before it or nothing, the
    line without its line feed. No part but the last can hold a line feed, so two events never have the same
    bytes.
    """
    head = f"{ENCODING}\n{stream}\n{sequence}\n{previous or ''}\n".encode()
    return "sha256:" + hashlib.sha256(head + line).hexdigest()


def lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file as bytes, without their line feeds."""
    with path.open("rb") as file:
        for line in file:
            yield line.removesuffix(b"\n")


def _count_lines(path: Path) -> int:
    try:
        return sum(1 for _ in lines(path))
    except OSError:
        return 0


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
