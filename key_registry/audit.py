"""One run of witness-verify: whether the bundle can be judged by, and what comes of the evidence."""

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from key_registry import note
from key_registry.bundle import BUNDLE_BYTES, Bundle
from key_registry.cannot_run import CannotRun
from key_registry.contradiction import Contradiction, Fork, History, SignedHead, compare_histories, forks, genuine_head
from key_registry.contradiction import evidence_head as head_in
from key_registry.errors import FormatError, SignatureError
from key_registry.evidence_files import Piece, find_evidence, read_regular
from key_registry.examine import Examiner, Task
from key_registry.explanation import explain
from key_registry.judge import TrustedRegistry, open_bundle
from key_registry.replay import Registry
from key_registry.report import Failure, Style, to_json, verdict_object
from key_registry.tally import Tally
from key_registry.verdict import Code, Outcome, Verdict

if TYPE_CHECKING:
    from key_registry.html_report import HtmlReport


@dataclass(frozen=True)
class Audit:
    """What a run of the program is asked to do.

    Args:
        task: what evidence is judged by.
        bundle: path of the bundle, for people.
        paths: of evidence files, exports and folders.
        also_bundles: paths of other copies of the registry, which must not contradict the bundle.
        checkpoints: paths of checkpoints of the two logs that the auditor has from elsewhere.
        style: how to print.
        page: the report to write, or None.
    """

    task: Task
    bundle: str
    paths: list[str]
    also_bundles: list[str]
    checkpoints: list[str]
    style: Style
    page: "HtmlReport | None" = None

    def run(self) -> int:
        """Judge everything, print the report, and return the exit code; raises CannotRun."""
        trusted = open_bundle(self.task.bundle, self.task.registry_id)
        if isinstance(trusted, Verdict):
            return self._conclude(self.bundle, trusted, None)
        own = History(self.bundle, Bundle.from_json(self.task.bundle), trusted.registry, trusted.coverage)
        heads = list(own.heads())
        for path in self.also_bundles:
            other = self._history(path)
            if isinstance(other, Verdict):
                return self._conclude(path, other, None)
            if found := compare_histories(own, other):
                return self._conclude_fork(found, trusted)
            heads.extend(other.heads())
        heads.extend(self._checkpoint(trusted, path) for path in self.checkpoints)
        for found in forks(heads):
            return self._conclude_fork(found, trusted)
        single = self._single_piece()
        if single is not None:
            return self._judge_one(single, trusted, heads)
        from key_registry.audit_many import judge_many  # here, because a single piece should be judged at once

        return judge_many(self, trusted, heads)

    @property
    def is_compared(self) -> bool:
        """Whether the hashes of the events were given."""
        return self.task.event_hash is not None or self.task.events is not None

    def _single_piece(self) -> Piece | None:
        if len(self.paths) > 1 or os.path.isdir(self.paths[0]) or self.task.events is not None:
            return None
        first = next(find_evidence(self.paths), None)
        return first if first is not None and first.line is None else None

    def _history(self, path: str) -> History | Verdict:
        data = read_file(path, BUNDLE_BYTES)
        trusted = open_bundle(data, self.task.registry_id)
        if isinstance(trusted, TrustedRegistry):
            return History(path, Bundle.from_json(data), trusted.registry, trusted.coverage)
        if trusted.code is not Code.QUORUM_NOT_MET:
            return trusted
        # Cosigners refuse what contradicts the history they know, so such a copy is the one to compare.
        bundle = Bundle.from_json(data)
        return History(path, bundle, Registry.replay(bundle.records, registry_id=self.task.registry_id), None)

    def _checkpoint(self, trusted: TrustedRegistry, path: str) -> SignedHead:
        try:
            return genuine_head(trusted.registry, read_file(path, note.MAX_BYTES), path)
        except (FormatError, SignatureError) as error:
            raise CannotRun(f"cannot use the checkpoint {path}: {error}") from None

    def _judge_one(self, piece: Piece, trusted: TrustedRegistry, heads: Iterable[SignedHead]) -> int:
        with closing(Examiner(trusted, self.task)) as examiner:
            try:
                verdict, evidence = examiner.judge(piece)
            except OSError as error:
                raise CannotRun(f"cannot read {piece.path}: {error.strerror}") from None
            for path, reason in examiner.refused_timestamps():
                warn(f"the timestamp {path} is not used: {reason}")
        head = head_in(trusted, evidence, piece.path)
        known = [it for it in heads if head is not None and it.checkpoint.size == head.checkpoint.size]
        fork = None if head is None else next(forks([*known, head]), None)
        if fork is not None and verdict.outcome is not Outcome.INVALID:
            verdict = replaced(verdict, Code.LOG_FORK, fork.reason)
        return self._conclude(piece.path, verdict, trusted, fork)

    def _conclude_fork(self, fork: Fork, trusted: TrustedRegistry) -> int:
        return self._conclude(self.bundle, Verdict(Code.LOG_FORK, fork.reason, trusted.as_of), trusted, fork)

    def _conclude(self, path: str, verdict: Verdict, trusted: TrustedRegistry | None, fork: Fork | None = None) -> int:
        style, tally = self.style, Tally(forks=0 if fork is None else 1)
        tally.codes[verdict.code] += 1
        policy = None if trusted is None else trusted.policy
        if style.as_json:
            print(to_json(verdict_object(Piece(path), verdict)))
        else:
            print(style.one(path, verdict, explain(verdict, trusted)))
        if fork is not None:
            print(style.contradiction(fork))
        if style.as_json:
            print(style.summary(tally, verdict.as_of, policy, compared=verdict.event_compared))
        if verdict.outcome is not Outcome.VALID:
            self.add_failures([Failure(verdict.code.name, verdict.outcome, path, verdict.reason)])
        self.write_page(tally, trusted, [] if fork is None else [fork], (path, verdict))
        return tally.exit_code()

    def add_failures(self, failures: Iterable[Failure]) -> None:
        """Add failures to the page, if one is wanted; raises CannotRun."""
        if self.page is not None:
            with writing():
                self.page.add(failures)

    def write_page(
        self,
        tally: Tally,
        trusted: TrustedRegistry | None,
        contradictions: Iterable[Contradiction] = (),
        single: tuple[str, Verdict] | None = None,
    ) -> None:
        """Write the page, if one is wanted; raises CannotRun."""
        if self.page is None:
            return
        from key_registry.html_report import Subject

        task = self.task
        subject = Subject(self.bundle, task.registry_id, sorted(task.environments), self.paths, self.is_compared)
        with writing():
            self.page.write(subject, tally, trusted, contradictions, single)


def replaced(verdict: Verdict, code: Code, reason: str) -> Verdict:
    """Return the verdict with another code, because of what somebody else's evidence shows."""
    from dataclasses import replace

    return replace(verdict, code=code, reason=reason)


def read_file(path: str, limit: int) -> bytes:
    """Return a file of at most `limit` bytes; raises CannotRun."""
    try:
        data = read_regular(path, limit + 1)
    except OSError as error:
        raise CannotRun(f"cannot read {path}: {error.strerror}") from None
    if len(data) > limit:
        raise CannotRun(f"cannot read {path}: expected at most {limit} bytes, got more")
    return data


@contextmanager
def writing() -> Iterator[None]:
    """Let a page that cannot be written come out as CannotRun."""
    try:
        yield
    except OSError as error:
        raise CannotRun(f"cannot write the page: {error.strerror}") from None


def warn(text: str) -> None:
    """Say on standard error what does not change a verdict."""
    import sys

    from key_registry.report import printable

    print(f"witness-verify: {printable(text)}", file=sys.stderr)
