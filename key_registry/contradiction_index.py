"""Finding contradictions among any number of pieces of evidence, in a temporary file instead of memory."""

import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple, Self

from key_registry.checkpoint import Checkpoint
from key_registry.contradiction import Fork, SignedHead
from key_registry.evidence_files import Piece
from key_registry.scratch import database, room
from key_registry.statement import Statement
from key_registry.verdict import Code

# Rows are only added, and sorted once all are there: with an index kept up to date, evidence in an unlucky order
# would cost a random access each.
_CREATE = (
    "PRAGMA cache_size = -16384",
    "CREATE TABLE piece (number INTEGER PRIMARY KEY, code TEXT, place BLOB, hash BLOB, listed INTEGER, head INTEGER,"
    " path BLOB, line INTEGER, offset INTEGER, length INTEGER)",
    "CREATE TABLE head (id INTEGER PRIMARY KEY, log TEXT, size INTEGER, root BLOB, origin TEXT, signed TEXT,"
    " counts INTEGER, known INTEGER, source BLOB, UNIQUE (log, size, root))",
    "CREATE TABLE clash (place BLOB PRIMARY KEY, low BLOB, high BLOB) WITHOUT ROWID",
    "CREATE TABLE side (place BLOB, hash BLOB, number INTEGER, PRIMARY KEY (place, hash)) WITHOUT ROWID",
    "CREATE TABLE fork (log TEXT, size INTEGER, first INTEGER, last INTEGER,"
    " first_counting INTEGER, last_counting INTEGER, known INTEGER, PRIMARY KEY (log, size)) WITHOUT ROWID",
    "CREATE TABLE changed (number INTEGER PRIMARY KEY, code TEXT, piece INTEGER, head INTEGER)",
)

# Where one place has more than two hashes, or one size more than two roots, the lowest and the highest stand for
# them: comparing each with each would let a hostile log make the work grow with the square of the evidence.
_FIND = (
    "INSERT INTO clash SELECT place, min(hash), max(hash) FROM piece WHERE place IS NOT NULL"
    " GROUP BY place HAVING min(hash) <> max(hash)",
    "INSERT INTO fork SELECT log, size, min(id), max(id), min(iif(counts, id, NULL)), max(iif(counts, id, NULL)),"
    " min(iif(known, id, NULL)) FROM head GROUP BY log, size HAVING count(*) > 1",
)
_CHANGE_BY_CLASH = (
    "INSERT INTO side SELECT piece.place, piece.hash, min(number) FROM piece CROSS JOIN clash USING (place)"
    " GROUP BY piece.place, piece.hash",
    "INSERT INTO changed SELECT piece.number, 'EQUIVOCATION', side.number, NULL"
    " FROM piece CROSS JOIN clash USING (place) CROSS JOIN side ON side.place = piece.place"
    " AND side.hash = CASE piece.hash WHEN low THEN high ELSE low END",
)
_CHANGE_BY_FORK = (
    "INSERT OR IGNORE INTO changed"
    " SELECT piece.number, 'LOG_FORK', NULL,"
    " coalesce(fork.known, iif(head.id = first_counting, last_counting, first_counting)) AS other"
    " FROM piece CROSS JOIN head ON head.id = piece.head CROSS JOIN fork USING (log, size) WHERE other <> head.id",
)
# A head can be found first where little speaks for it, and later where more does.
_ADD_HEAD = (
    "INSERT INTO head VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET signed = excluded.signed, source = excluded.source, counts = TRUE"
    " WHERE excluded.counts AND NOT head.counts"
)
_PIECE = "path, line, offset, length"
_HEAD = "log, origin, size, root, signed, source, counts"

_HEADS_KNOWN = 4096


class Seen(NamedTuple):
    """What is kept of a piece of evidence that is not INVALID.

    Attributes:
        number: of the piece in this run.
        piece: where it is.
        code: of the verdict that it has on its own.
        statement: what it says, if it is VALID; otherwise None, because nothing shows that it says the truth.
        head: size and root of the genuine checkpoint in it, if there is one.
        listed: number of its event in the auditor's list, if it is there.
    """

    number: int
    piece: Piece
    code: Code
    statement: Statement | None
    head: tuple[str, int, bytes] | None
    listed: int | None


class Change(NamedTuple):
    """A verdict that is another one because of what somebody else's evidence shows.

    Attributes:
        code: EQUIVOCATION or LOG_FORK.
        other: where the contradiction is.
    """

    code: Code
    other: str


class ContradictionIndex:
    """Everything about the pieces of one run that could contradict something.

    Add all of them, then `resolve`, then ask. Raises NoRoom, whatever is called, when the disk is full.

    Args:
        heads: known from elsewhere than the evidence, and not contradicting each other: where evidence contradicts one
            of these, only that evidence gets another verdict, not what agrees with it.
    """

    def __init__(self, heads: Iterable[SignedHead] = ()) -> None:
        self._database = database(*_CREATE)
        self._known: dict[tuple[str, int, bytes], int] = {}
        with room():
            for head in heads:
                self._add_head(head, known=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, pieces: Iterable[Seen], heads: Iterable[SignedHead]) -> None:
        """Add pieces, and the genuine heads that were found in these or other ones."""
        with room():
            for head in heads:
                self._add_head(head, known=False)
            rows = [(*self._columns(seen), *_piece_columns(seen.piece)) for seen in pieces]
            self._database.executemany("INSERT INTO piece VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _add_head(self, head: SignedHead, *, known: bool) -> None:
        it = head.checkpoint
        row = (head.log, it.size, it.root, it.origin, head.signed, head.counts, known, os.fsencode(head.source))
        self._database.execute(_ADD_HEAD, row)

    def _columns(self, seen: Seen) -> tuple[object, ...]:
        said = seen.statement
        place = None if said is None else sha256(f"{said.sequence}\n{said.stream}".encode()).digest()
        event = None if said is None else sha256(said.event_hash.encode()).digest()
        head = None if seen.head is None else self._head_id(seen.head)
        return seen.number, seen.code.name, place, event, seen.listed, head

    def _head_id(self, head: tuple[str, int, bytes]) -> int:
        if head not in self._known:
            if len(self._known) >= _HEADS_KNOWN:
                self._known.clear()
            query = "SELECT id FROM head WHERE (log, size, root) = (?, ?, ?)"
            (self._known[head],) = self._database.execute(query, head).fetchone()
        return self._known[head]

    def resolve(self) -> Iterator[tuple[Code, Code, int]]:
        """Find the contradictions; iterate over how many verdicts of which code become which other code."""
        self._run(*_FIND)
        if self._count("clash"):
            self._run(*_CHANGE_BY_CLASH)
        if self._count("fork"):
            self._run(*_CHANGE_BY_FORK)
        query = "SELECT piece.code, changed.code, count(*) FROM changed JOIN piece USING (number) GROUP BY 1, 2"
        for old, new, count in self._rows(query):
            yield Code[old], Code[new], count

    @property
    def equivocations(self) -> int:
        """How many places have more than one hash."""
        return self._count("clash")

    @property
    def forks(self) -> int:
        """How many sizes of a log have more than one root."""
        return self._count("fork")

    def changes(self, first: int, last: int) -> dict[int, Change]:
        """Return what becomes of the pieces of these numbers, by number; those not in it keep their verdict."""
        query = (
            "SELECT changed.number, changed.code, other.path, other.line, head.source FROM changed"
            " LEFT JOIN piece AS other ON other.number = changed.piece LEFT JOIN head ON head.id = changed.head"
            " WHERE changed.number BETWEEN ? AND ?"
        )
        return {
            number: Change(Code[code], os.fsdecode(source) if path is None else Piece(os.fsdecode(path), line).name)
            for number, code, path, line, source in self._rows(query, first, last)
        }

    def listed(self) -> Iterator[int]:
        """Iterate over the numbers in the auditor's list of the events whose evidence is VALID after all."""
        query = "SELECT listed FROM piece WHERE listed IS NOT NULL AND number NOT IN (SELECT number FROM changed)"
        return (number for (number,) in self._rows(query))

    def equivocating(self) -> Iterator[tuple[Piece, Piece]]:
        """Iterate over two pieces for each place that has more than one hash, in the order they were found."""
        query = (
            "SELECT min(number), max(number) FROM clash JOIN side USING (place)"
            " WHERE hash IN (low, high) GROUP BY place ORDER BY 1"
        )
        for numbers in self._rows(query):
            one, other = (
                next(self._rows(f"SELECT {_PIECE} FROM piece WHERE number = ?", number)) for number in numbers
            )
            yield _read_piece(one), _read_piece(other)

    def changed(self) -> Iterator[tuple[Piece, Change]]:
        """Iterate over the pieces whose verdict becomes another one, in the order they were found."""
        for (number,) in self._rows("SELECT number FROM changed ORDER BY number"):
            row = next(self._rows(f"SELECT {_PIECE} FROM piece WHERE number = ?", number))
            yield _read_piece(row), self.changes(number, number)[number]

    def forked(self) -> Iterator[Fork]:
        """Iterate over two heads for each log and size that has more than one root."""
        for ids in self._rows("SELECT first, last FROM fork"):
            one, other = (next(self._rows(f"SELECT {_HEAD} FROM head WHERE id = ?", number)) for number in ids)
            yield Fork(_read_head(one), _read_head(other))

    def _count(self, table: str) -> int:
        ((count,),) = self._rows(f"SELECT count(*) FROM {table}")
        return int(count)

    def _run(self, *statements: str) -> None:
        with room():
            for statement in statements:
                self._database.execute(statement)

    def _rows(self, query: str, *values: int) -> Iterator[tuple[Any, ...]]:
        with room():
            yield from self._database.execute(query, values)


def _piece_columns(piece: Piece) -> tuple[object, ...]:
    return os.fsencode(piece.path), piece.line, piece.offset, piece.length


def _read_piece(row: tuple[Any, ...]) -> Piece:
    path, line, offset, length = row
    return Piece(os.fsdecode(path), line, offset, length)


def _read_head(row: tuple[Any, ...]) -> SignedHead:
    log, origin, size, root, signed, source, counts = row
    return SignedHead(log, Checkpoint(origin, size, root), signed, os.fsdecode(source), bool(counts))
