"""Judging many pieces of evidence: what one process does with its share, and how every core gets shares."""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain, count, islice
from typing import TYPE_CHECKING, NamedTuple

from key_registry.contradiction import SignedHead, evidence_head
from key_registry.errors import FormatError
from key_registry.evidence_files import Piece, PieceReader
from key_registry.judge import TrustedRegistry, judge, open_bundle
from key_registry.report import Failure, to_json, verdict_object
from key_registry.tally import Tally
from key_registry.timestamp_files import TimestampFiles, Timestamps
from key_registry.verdict import Code, Outcome, Verdict

if TYPE_CHECKING:
    from key_registry.contradiction_index import Seen
    from key_registry.event_list import EventList

SHARE = 128
"""Pieces per share; no more than this are judged without starting further processes."""

_HEADS_TOLD = 4096


@dataclass(frozen=True)
class Task:
    """What every process needs to judge evidence.

    Args:
        bundle: the bundle file.
        registry_id: the pinned registry.
        environments: the accepted ones.
        event_hash: the hash of the one event, or None.
        events: path of the list of events, or None.
        timestamps: where RFC 3161 tokens are and whom to trust for them, or None.
        as_json: whether every verdict is wanted as a line of JSON.
    """

    bundle: bytes
    registry_id: str
    environments: frozenset[str]
    event_hash: str | None = None
    events: str | None = None
    timestamps: Timestamps | None = None
    as_json: bool = False


@dataclass
class Findings:
    """What judging a share came to.

    Args:
        entries: lines of JSON for each piece, if they are wanted.
        failures: what is not VALID, could not be read or is not listed.
        tally: counts.
        seen: what could be contradicted by other evidence.
        heads: genuine heads that the process had not met before.
        refused_timestamps: paths of timestamps that could not be used, and why.
    """

    entries: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    seen: list["Seen"] = field(default_factory=list)
    heads: list[SignedHead] = field(default_factory=list)
    refused_timestamps: list[tuple[str, str]] = field(default_factory=list)


class Numbered(NamedTuple):
    """A piece, and its number in the run from 0."""

    number: int
    piece: Piece


class Examiner:
    """Judges evidence by one bundle, in one process."""

    def __init__(self, trusted: TrustedRegistry, task: Task) -> None:
        self._trusted = trusted
        self._task = task
        self._reader = PieceReader()
        self._events = None if task.events is None else _open_events(task.events)
        self._listed: tuple[int, str] | None = None
        self._timestamps = None if task.timestamps is None else TimestampFiles(task.timestamps)
        self._told: set[tuple[str, int, bytes, bool]] = set()

    def close(self) -> None:
        """Let go of every file."""
        self._reader.close()
        if self._events is not None:
            self._events.close()

    def judge(self, piece: Piece) -> tuple[Verdict, bytes]:
        """Return the verdict on one piece, and its bytes; raises OSError when it cannot be read."""
        self._listed = None
        try:
            evidence = self._reader.read(piece)
        except FormatError as error:
            return Verdict(Code.BAD_FORMAT, str(error), self._trusted.as_of), b""
        stamps = None if self._timestamps is None else self._timestamps.beside(piece.path)
        verdict = judge(
            self._trusted,
            evidence,
            event_hash=self._task.event_hash if self._events is None else self._hash_at,
            environments=self._task.environments,
            stamped_at=stamps,
        )
        return verdict, evidence

    def examine(self, pieces: Iterable[Numbered]) -> Findings:
        """Judge a share."""
        found = Findings()
        for number, piece in pieces:
            try:
                verdict, evidence = self.judge(piece)
            except OSError as error:
                self._add_unreadable(found, piece, error.strerror or "cannot be read")
            else:
                self._add(found, number, piece, verdict, evidence)
        found.refused_timestamps = self.refused_timestamps()
        return found

    def refused_timestamps(self) -> list[tuple[str, str]]:
        """Return the paths of timestamps that could not be used since it was last asked, with the reasons."""
        if self._timestamps is None:
            return []
        refused = list(self._timestamps.refused.items())
        self._timestamps.refused.clear()
        return refused

    def _hash_at(self, stream: str, sequence: int) -> str | None:
        self._listed = self._events.find(stream, sequence) if self._events else None
        return None if self._listed is None else self._listed[1]

    def _add_unreadable(self, found: Findings, piece: Piece, reason: str) -> None:
        found.tally.unreadable += 1
        found.failures.append(Failure("UNREADABLE", None, piece.name, reason))
        if self._task.as_json:
            line = None if piece.line is None else str(piece.line)
            found.entries.append(to_json({"finding": "unreadable", "line": line, "path": piece.path, "reason": reason}))

    def _add(self, found: Findings, number: int, piece: Piece, verdict: Verdict, evidence: bytes) -> None:
        found.tally.codes[verdict.code] += 1
        lines = [to_json(verdict_object(piece, verdict))] if self._task.as_json else []
        if verdict.outcome is not Outcome.VALID:
            found.failures.append(Failure(verdict.code.name, verdict.outcome, piece.name, verdict.reason))
        said = verdict.statement
        if self._events is not None and said is not None and self._listed is None:
            found.tally.unlisted += 1
            place = f"place {said.sequence} of {said.stream} is not in the list"
            found.failures.append(Failure("UNLISTED", None, piece.name, place))
            fact = {"finding": "unlisted", "path": piece.path, "sequence": str(said.sequence), "stream": said.stream}
            lines += [to_json(fact)] if self._task.as_json else []
        if lines:
            found.entries.append("\n".join(lines))
        self._remember(found, number, piece, verdict, evidence)

    def _remember(self, found: Findings, number: int, piece: Piece, verdict: Verdict, evidence: bytes) -> None:
        from key_registry.contradiction_index import Seen  # here, because a single piece contradicts nothing

        head = self._head(found, piece, evidence)
        if verdict.outcome is Outcome.INVALID:
            return
        valid = verdict.outcome is Outcome.VALID
        statement = verdict.statement if valid else None
        listed = self._listed[0] if valid and self._listed is not None else None
        found.seen.append(Seen(number, piece, verdict.code, statement, head, listed))

    def _head(self, found: Findings, piece: Piece, evidence: bytes) -> tuple[str, int, bytes] | None:
        """Return the genuine head in a piece, and tell of it unless that was done before."""
        head = evidence_head(self._trusted, evidence, piece.name)
        if head is None:
            return None
        known = head.log, head.checkpoint.size, head.checkpoint.root
        told = (*known, head.counts)  # a copy without cosignatures must not keep one with them from being told
        if told not in self._told:
            if len(self._told) >= _HEADS_TOLD:
                self._told.clear()
            self._told.add(told)
            found.heads.append(head)
        return known


def _open_events(database: str) -> "EventList":
    from key_registry.event_list import EventList

    return EventList(database)


def examine(trusted: TrustedRegistry, task: Task, pieces: Iterable[Piece]) -> Iterator[Findings]:
    """Iterate over the findings, share by share in the order of the pieces, on every core if there are many.

    Raises:
        ChildProcessError: a process that was judging has died.
    """
    numbered = map(Numbered, count(), pieces)
    first = list(islice(numbered, SHARE))
    second = list(islice(numbered, SHARE))
    if second:
        yield from _on_every_core(task, _shares(chain(first, second, numbered)))
    else:
        with closing(Examiner(trusted, task)) as examiner:
            yield examiner.examine(first)


def _shares(pieces: Iterator[Numbered]) -> Iterator[list[Numbered]]:
    while share := list(islice(pieces, SHARE)):
        yield share


def _on_every_core(task: Task, shares: Iterable[list[Numbered]]) -> Iterator[Findings]:
    # Imported here because a single piece needs none of it, and should be judged at once.
    from concurrent.futures import Future, ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ProcessPoolExecutor(cores, get_context("spawn"), _start, (task,))
    pending: deque[Future[Findings]] = deque()
    try:
        for share in shares:
            with _interrupts_held():
                pending.append(pool.submit(_examine_share, share))
            if len(pending) > 4 * cores:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise ChildProcessError("a process that was judging files has died; is there enough memory?") from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C for this process: one started meanwhile inherits the mask, and never hears of it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_examiner: Examiner


def _start(task: Task) -> None:
    global _examiner
    trusted = open_bundle(task.bundle, task.registry_id)
    if isinstance(trusted, Verdict):
        raise ValueError(trusted.reason)
    _examiner = Examiner(trusted, task)


def _examine_share(pieces: list[Numbered]) -> Findings:
    return _examiner.examine(pieces)
