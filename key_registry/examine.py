"""Judging many files: what one process does with its share, and how the shares are handed to every core."""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING

from key_registry.evidence import EVIDENCE_BYTES
from key_registry.evidence_files import read_regular
from key_registry.judge import TrustedRegistry, judge, open_bundle
from key_registry.report import Style, Tally
from key_registry.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from key_registry.event_list import EventList

SHARE = 128
"""Files per share; no more files than this are judged without starting further processes."""


@dataclass(frozen=True)
class Task:
    """What every process needs to judge files.

    Args:
        bundle: the bundle file.
        registry_id: the pinned registry.
        environments: the accepted ones.
        event_hash: the hash of the one event, or None.
        events: path of the list of events, or None.
        style: how lines are printed.
    """

    bundle: bytes
    registry_id: str
    environments: frozenset[str]
    event_hash: str | None
    events: str | None
    style: Style


@dataclass
class Findings:
    """What judging files came to: lines to print, counts, and which listed events have valid evidence."""

    lines: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    witnessed: list[int] = field(default_factory=list)


class Examiner:
    """Judges files by one bundle, in one process."""

    def __init__(self, trusted: TrustedRegistry, task: Task) -> None:
        self._trusted = trusted
        self._task = task
        self._events = None if task.events is None else _open_events(task.events)
        self._listed: tuple[int, str] | None = None

    def close(self) -> None:
        """Let go of the list of events."""
        if self._events is not None:
            self._events.close()

    def judge(self, path: str) -> Verdict:
        """Return the verdict on one file; raises OSError when it cannot be read."""
        self._listed = None
        return judge(
            self._trusted,
            read_regular(path, EVIDENCE_BYTES + 1),
            event_hash=self._task.event_hash if self._events is None else self._hash_at,
            environments=self._task.environments,
        )

    def examine(self, files: Iterable[tuple[str, str | None]]) -> Findings:
        """Judge files; each comes with None, or with the reason why it cannot be read."""
        found = Findings()
        for path, unreadable in files:
            if unreadable is None:
                try:
                    self._add(found, path, self.judge(path))
                    continue
                except OSError as error:
                    unreadable = error.strerror or "cannot be read"
            found.tally.unreadable += 1
            found.lines.append(self._task.style.unreadable(path, unreadable))
        return found

    def _hash_at(self, stream: str, sequence: int) -> str | None:
        self._listed = self._events.find(stream, sequence) if self._events else None
        return None if self._listed is None else self._listed[1]

    def _add(self, found: Findings, path: str, verdict: Verdict) -> None:
        found.tally.codes[verdict.code] += 1
        line = self._task.style.verdict(path, verdict)
        if line is not None:
            found.lines.append(line)
        said = verdict.statement
        if self._events is None or said is None:
            return
        if self._listed is None:
            found.tally.unlisted += 1
            found.lines.append(self._task.style.unlisted(path, said.stream, said.sequence))
        elif verdict.outcome is Outcome.VALID:
            found.witnessed.append(self._listed[0])


def _open_events(database: str) -> "EventList":
    from key_registry.event_list import EventList

    return EventList(database)


def examine(trusted: TrustedRegistry, task: Task, files: Iterable[tuple[str, str | None]]) -> Iterator[Findings]:
    """Iterate over the findings, share by share in the order of the files, on every core if there are many.

    Raises:
        ChildProcessError: a process that was judging has died.
    """
    files = iter(files)
    first = list(islice(files, SHARE))
    second = list(islice(files, SHARE))
    if second:
        yield from _on_every_core(task, _shares(chain(first, second, files)))
    else:
        with closing(Examiner(trusted, task)) as examiner:
            yield examiner.examine(first)


def _shares(files: Iterable[tuple[str, str | None]]) -> Iterator[list[tuple[str, str | None]]]:
    files = iter(files)
    while share := list(islice(files, SHARE)):
        yield share


def _on_every_core(task: Task, shares: Iterable[list[tuple[str, str | None]]]) -> Iterator[Findings]:
    # Imported here because a single file needs none of it, and should be judged at once.
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


def _examine_share(files: list[tuple[str, str | None]]) -> Findings:
    return _examiner.examine(files)
