"""Judging any number of pieces of evidence, and finding what contradicts what among them, in constant memory."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from key_registry.audit import warn
from key_registry.cannot_run import CannotRun
from key_registry.contradiction import Contradiction, Equivocation, SignedHead, Witnessed
from key_registry.contradiction_index import Change, ContradictionIndex
from key_registry.evidence_files import EVIDENCE_SUFFIX, Piece, find_evidence
from key_registry.examine import Examiner, Findings, examine
from key_registry.export import EXPORT_SUFFIX
from key_registry.held_lines import HeldLines
from key_registry.judge import TrustedRegistry
from key_registry.progress import Progress
from key_registry.report import Failure, to_json
from key_registry.tally import Tally
from key_registry.verdict import Code, Outcome

if TYPE_CHECKING:
    from key_registry.audit import Audit

_WARNINGS = 100


def judge_many(audit: "Audit", trusted: TrustedRegistry, heads: Iterable[SignedHead]) -> int:
    """Judge all the evidence of a run, print the report, and return the exit code.

    Args:
        audit: the run.
        trusted: the registry of its bundle.
        heads: genuine heads of the two logs from elsewhere than the evidence, which do not contradict each other.

    Raises:
        CannotRun: there is no evidence, or no memory.
        NoRoom: there is no room for temporary files.
    """
    with ExitStack() as files:
        index = files.enter_context(ContradictionIndex(heads))
        held = files.enter_context(HeldLines())
        run = _Run(audit, trusted, index, held)
        run.judge()
        run.compare()
        run.report()
        return run.tally.exit_code()


class _Run:
    def __init__(self, audit: "Audit", trusted: TrustedRegistry, index: ContradictionIndex, held: HeldLines) -> None:
        self._audit = audit
        self._trusted = trusted
        self._index = index
        self._held = held
        self._progress = Progress()
        self._refused: set[str] = set()
        self.tally = Tally()

    def judge(self) -> None:
        """Judge every piece by itself; what is not VALID by itself never becomes VALID."""
        total = sum(1 for _ in find_evidence(self._audit.paths)) if self._progress.shown else None
        try:
            for found in examine(self._trusted, self._audit.task, find_evidence(self._audit.paths)):
                self._add(found)
                self._progress.show("pieces judged", self.tally.pieces, total)
        except ChildProcessError as error:
            raise CannotRun(str(error)) from None
        finally:
            self._progress.clear()
        if not self.tally.pieces:
            raise CannotRun(f"expected *{EVIDENCE_SUFFIX} or *{EXPORT_SUFFIX} files in the folder, got none")

    def _add(self, found: Findings) -> None:
        self.tally.add(found.tally)
        self._index.add(found.seen, found.heads)
        for path, reason in found.refused_timestamps:
            if path not in self._refused and len(self._refused) < _WARNINGS:  # every process meets it
                self._refused.add(path)
                self._progress.clear()
                warn(f"the timestamp {path} is not used: {reason}")
        if self._audit.style.as_json:
            self._held.add(found.entries)
        self._fail(found.failures)

    def _fail(self, failures: list[Failure]) -> None:
        self._audit.add_failures(failures)
        if failures and not self._audit.style.as_json:
            self._progress.clear()
            print("\n".join(map(self._audit.style.failure, failures)), flush=True)  # known even if it is interrupted

    def compare(self) -> None:
        """Compare all that has been judged, and let the contradicted pieces have another verdict."""
        for old, new, count in self._index.resolve():
            self.tally.change(old, new, count)
        self.tally.equivocations, self.tally.forks = self._index.equivocations, self._index.forks
        for piece, change in self._index.changed():
            self._fail([Failure(change.code.name, Outcome.INVALID, piece.name, _reason(change))])

    def report(self) -> None:
        """Print what had to wait until everything was compared, and write the page."""
        style = self._audit.style
        if style.as_json:
            for line in self._held_lines():
                print(line)
        for found in self._contradictions():
            print(style.contradiction(found))
        self._report_missing()
        trusted, compared = self._trusted, self._audit.is_compared
        print(style.summary(self.tally, trusted.as_of, trusted.policy, compared=compared))
        self._audit.write_page(self.tally, trusted, self._contradictions())

    def _held_lines(self) -> Iterator[str]:
        for first, entries in self._held:
            changes = self._index.changes(first, first + len(entries) - 1)
            for number, entry in enumerate(entries, first):
                yield entry if number not in changes else _changed(entry, changes[number])

    def _contradictions(self) -> Iterator[Contradiction]:
        with closing(Examiner(self._trusted, self._audit.task)) as examiner:
            for one, other in self._index.equivocating():
                yield Equivocation(_witnessed(examiner, one), _witnessed(examiner, other))
        yield from self._index.forked()

    def _report_missing(self) -> None:
        if self._audit.task.events is None:
            return
        from key_registry.event_list import EventList

        witnessed = _Bits()
        for number in self._index.listed():
            witnessed.add(number)
        with EventList(self._audit.task.events) as listed:
            for number, (stream, sequence) in enumerate(listed.places()):
                if number not in witnessed:
                    self.tally.missing += 1
                    self._miss(stream, sequence)

    def _miss(self, stream: str, sequence: int) -> None:
        failure = Failure("MISSING", None, f"place {sequence} of {stream}", "no valid evidence")
        self._audit.add_failures([failure])
        if self._audit.style.as_json:
            print(to_json({"finding": "missing", "sequence": str(sequence), "stream": stream}))
        else:
            print(self._audit.style.failure(failure))


class _Bits:
    """A set of numbers from 0, one bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, number: int) -> None:
        missing = number // 8 + 1 - len(self._bits)
        self._bits.extend(bytes(max(missing, 0)))
        self._bits[number // 8] |= 1 << number % 8

    def __contains__(self, number: int) -> bool:
        return number // 8 < len(self._bits) and bool(self._bits[number // 8] >> number % 8 & 1)


def _reason(change: Change) -> str:
    if change.code is Code.EQUIVOCATION:
        return f"expected one event hash for its place, got another in {change.other}"
    return f"expected one root of the statement log at its size, got another in {change.other}"


def _changed(entry: str, change: Change) -> str:
    """Return the lines of a piece whose verdict has become another one."""
    line, *others = entry.split("\n")
    verdict = {
        **json.loads(line),
        "code": change.code.name,
        "contradicted_by": change.other,
        "outcome": change.code.outcome.name,
        "reason": _reason(change),
    }
    return "\n".join([to_json(verdict), *others])


def _witnessed(examiner: Examiner, piece: Piece) -> Witnessed:
    """Return a piece that was VALID by itself; raises CannotRun if it is not there any more."""
    try:
        verdict, evidence = examiner.judge(piece)
    except OSError as error:
        raise CannotRun(f"cannot read {piece.path} again: {error.strerror}") from None
    if verdict.outcome is not Outcome.VALID or verdict.statement is None:
        raise CannotRun(f"expected the evidence in {piece.path} to stay as it is, got other bytes than before")
    return Witnessed(piece.name, evidence, verdict)
