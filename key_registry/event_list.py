"""The auditor's list of event hashes, by place; kept on disk, since a list may be larger than memory."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Self

from key_registry.errors import FormatError
from key_registry.statement import check_hash, check_name, read_number

LINE_BYTES = 1024

# The file is a scratch copy: what a crash leaves of it is thrown away.
_CREATE = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "BEGIN",
    "CREATE TABLE event"
    " (number INTEGER PRIMARY KEY, stream TEXT, sequence INTEGER, hash TEXT, UNIQUE (stream, sequence))",
)


def write_event_list(path: str, database: str) -> None:
    """Write the list at `path` to a new SQLite file.

    Args:
        path: UTF-8 lines `stream<TAB>sequence<TAB>hash`, one event each; empty lines are passed over.
        database: path of the file to make.

    Raises:
        FormatError: a line is not of this form, or a place comes twice; names the line.
        OSError: the list cannot be read, or the file not be written.
    """
    with open(path, "rb") as file, closing(sqlite3.connect(database, isolation_level=None)) as connection:
        try:
            _write(connection, iter(lambda: file.readline(LINE_BYTES + 1), b""))
        except sqlite3.OperationalError as error:
            raise OSError(0, f"no room for a copy of the list: {error}") from None


def _write(connection: sqlite3.Connection, lines: Iterable[bytes]) -> None:
    for statement in _CREATE:
        connection.execute(statement)
    events = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            connection.execute("INSERT INTO event VALUES (?, ?, ?, ?)", (events, *_read_line(line)))
        except sqlite3.IntegrityError:
            raise FormatError(f"line {number}: expected every place once, got one again") from None
        except FormatError as error:
            raise FormatError(f"line {number}: {error}") from None
        events += 1
    connection.execute("COMMIT")


def _read_line(line: bytes) -> tuple[str, int, str]:
    if len(line) > LINE_BYTES:
        raise FormatError(f"expected at most {LINE_BYTES} bytes, got more")
    try:
        fields = line.decode().rstrip("\r\n").split("\t")
    except UnicodeDecodeError:
        raise FormatError("expected UTF-8, got other bytes") from None
    if len(fields) != 3:
        raise FormatError(f"expected stream, sequence and hash separated by tabs, got {len(fields)} fields")
    stream, sequence, event_hash = fields
    return check_name("stream", stream), read_number("sequence", sequence), check_hash("hash", event_hash)


class EventList:
    """A list made by write_event_list, to be read by any number of processes.

    Args:
        database: path of the file.
    """

    def __init__(self, database: str) -> None:
        self._connection = sqlite3.connect(f"file:{_quote(database)}?mode=ro&immutable=1", uri=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def find(self, stream: str, sequence: int) -> tuple[int, str] | None:
        """Return the event's number in the list, from 0, and its hash; None when the place is not listed."""
        query = "SELECT number, hash FROM event WHERE stream = ? AND sequence = ?"
        found: tuple[int, str] | None = self._connection.execute(query, (stream, sequence)).fetchone()
        return found

    def places(self) -> Iterator[tuple[str, int]]:
        """Iterate over stream and sequence of every event, in the order of the list."""
        yield from self._connection.execute("SELECT stream, sequence FROM event ORDER BY number")


def _quote(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
