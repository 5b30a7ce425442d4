"""What witness-verify prints: a line for each finding and a summary, as text or as JSON lines."""

import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from key_registry.contradiction import Contradiction, Equivocation, Fork, SignedHead, Witnessed
from key_registry.evidence_files import Piece
from key_registry.tally import Tally
from key_registry.verdict import BY_OPERATOR, AsOf, Code, Outcome, Verdict

NOT_COMPARED = (
    "The event itself was not compared: this is about the hash in the statement. Compute it from the event "
    "and give --event-hash or --events."
)

NO_POLICY = (
    "The registry has no cosigners (its policy is none): nobody outside the operator has confirmed that there is only "
    "one history of keys and statements, so that this copy is the complete and only one rests on the operator alone."
)

_COLOURS = {Outcome.VALID: "32", Outcome.INVALID: "31", Outcome.INDETERMINATE: "33"}
_SAID = ("event_hash", "witness_id", "key_id", "signed_at")


class Failure(NamedTuple):
    """Something that is not as it should be.

    Attributes:
        word: the verdict's code, or UNREADABLE, UNLISTED or MISSING.
        outcome: of the verdict; None where there is none.
        where: file, or place in a stream.
        reason: one sentence, on one line.
    """

    word: str
    outcome: Outcome | None
    where: str
    reason: str


@dataclass(frozen=True)
class Style:
    """How to print: as JSON lines, or as text with or without colours."""

    as_json: bool
    colour: bool

    def failure(self, failure: Failure) -> str:
        """Return the line of a failure as text."""
        word = failure.word if failure.outcome is None else f"{self._paint(failure.outcome)}  {failure.word}"
        return f"{word}  {printable(failure.where)}: {printable(failure.reason)}"

    def one(self, name: str, verdict: Verdict, explanation: str) -> str:
        """Return the verdict on a single piece as text: what it means, and the facts."""
        facts = [f"  {fact:<12}{printable(value)}" for fact, value in facts_of(name, verdict)]
        head = f"{self._paint(verdict.outcome)}  {verdict.code.name}"
        found = wrap(f"Found: {printable(verdict.reason)}.")
        lines = [head, "", wrap(printable(explanation)), "", *facts, "", found]
        if verdict.statement is not None and not verdict.event_compared:
            lines.append(wrap(NOT_COMPARED))
        return "\n".join(lines)

    def contradiction(self, found: Contradiction) -> str:
        """Return a contradiction with both of its sides."""
        if isinstance(found, Equivocation):
            return self._equivocation(found)
        return self._fork(found)

    def _equivocation(self, found: Equivocation) -> str:
        stream, sequence = found.place
        if self.as_json:
            finding = {"finding": "equivocation", "stream": stream, "sequence": str(sequence)}
            return to_json({**finding, "evidence": [_witnessed(found.first), _witnessed(found.second)]})
        head = f"{self._paint(Outcome.INVALID)}  {Code.EQUIVOCATION.name}"
        lines = [f"{head}  place {sequence} of {printable(stream)}: {found.reason}"]
        for side in (found.first, found.second):
            facts = _witnessed(side)
            lines.append(f"    {facts['event_hash']} in {printable(side.source)}")
            lines.append(f"      by key {facts['key_id']} at log index {facts['leaf_index']}")
        return "\n".join(lines)

    def _fork(self, found: Fork) -> str:
        size = found.first.checkpoint.size
        if self.as_json:
            finding = {"finding": "fork", "log": found.first.log, "size": str(size)}
            return to_json({**finding, "checkpoints": [_head(found.first), _head(found.second)]})
        lines = [f"{self._paint(Outcome.INVALID)}  {Code.LOG_FORK.name}  {found.reason}"]
        for head in (found.first, found.second):
            lines.append(f"    {printable(head.source)} has root {head.checkpoint.root.hex()}, signed:")
            lines.extend(f"      {printable(line)}" for line in head.signed.splitlines())
        return "\n".join(lines)

    def summary(self, tally: Tally, as_of: AsOf | None, policy: str | None, *, compared: bool) -> str:
        """Return the end of the report: how many of what, and what the verdicts rest on."""
        counts = {outcome.name: tally.outcomes()[outcome] for outcome in Outcome}
        findings = tally.findings
        if self.as_json:
            summary: dict[str, object] = {name: str(count) for name, count in (counts | findings).items()}
            summary["codes"] = {code.name: str(tally.codes[code]) for code in Code if tally.codes[code]}
            summary["as_of"] = as_of and as_of.to_object()
            summary["events_compared"] = "yes" if compared else "no"
            summary["judged"] = str(tally.codes.total())
            summary["policy"] = policy
            return to_json({"summary": summary})
        rows = [(code.name, tally.codes[code]) for code in Code if tally.codes[code]]
        rows += [(name, count) for name, count in findings.items() if count]
        lines = [f"{tally.codes.total():,} judged: " + ", ".join(f"{count:,} {name}" for name, count in counts.items())]
        lines += [f"  {name:<26}{count:>12,}" for name, count in rows]
        if as_of is not None:
            lines.append(as_of_text(as_of))
            lines += [wrap(NO_POLICY)] if as_of.completeness == BY_OPERATOR else []
        if not compared:
            lines.append(wrap(NOT_COMPARED))
        return "\n".join(lines)

    def _paint(self, outcome: Outcome) -> str:
        return f"\x1b[{_COLOURS[outcome]}m{outcome.name}\x1b[0m" if self.colour else outcome.name


def verdict_object(piece: Piece, verdict: Verdict) -> dict[str, object]:
    """Return a verdict for JSON, with the place of its evidence."""
    line = None if piece.line is None else str(piece.line)
    return {"path": piece.path, "line": line, **verdict.to_object()}


def facts_of(name: str, verdict: Verdict) -> Iterable[tuple[str, str]]:
    """Iterate over the names and values of what a verdict is about."""
    yield "file", name
    said = verdict.statement
    if said is not None:
        yield "event", said.event_hash
        yield "place", f"{said.sequence} of {said.stream} ({said.environment})"
        yield "witness", said.witness_id
        yield "key", said.key_id
        yield "signed at", f"{said.signed_at} by the signer's clock"
    if verdict.leaf_index is not None:
        yield "log index", f"{verdict.leaf_index}"
    if verdict.not_before is not None:
        yield "not before", f"{verdict.not_before.time}, says: {verdict.not_before.source}"
    if verdict.existed_by is not None:
        yield "existed by", f"{verdict.existed_by.time}, says: {verdict.existed_by.source}"
    if verdict.as_of is not None:
        yield "as of", as_of_text(verdict.as_of).removeprefix("as of ")


def as_of_text(as_of: AsOf) -> str:
    """Return in words what a verdict rests on."""
    return f"as of {as_of.time}: {as_of.registry_size:,} registry records, {as_of.statement_size:,} statements"


def printable(text: str) -> str:
    """Return the text with everything escaped that could move, hide or colour what a terminal shows."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def wrap(text: str) -> str:
    """Return the text in lines of at most 100 characters."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def to_json(value: object) -> str:
    """Return the value as JSON in ASCII, on one line."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _witnessed(side: Witnessed) -> dict[str, str]:
    said, index = side.verdict.statement, side.verdict.leaf_index
    facts = {name: "" if said is None else str(getattr(said, name)) for name in _SAID}
    return {**facts, "leaf_index": "" if index is None else str(index), "source": side.source}


def _head(head: SignedHead) -> dict[str, str]:
    return {"root": head.checkpoint.root.hex(), "signed": head.signed, "source": head.source}
