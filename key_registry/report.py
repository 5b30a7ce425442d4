"""What witness-verify prints: lines, the summary and the paragraph for one file, as text or as JSON lines."""

import json
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from key_registry.verdict import AsOf, Code, Outcome, Verdict

_COLOURS = {Outcome.VALID: "32", Outcome.INVALID: "31", Outcome.INDETERMINATE: "33"}
_NOT_COMPARED = (
    "The event itself was not compared: this is about the hash in the statement. Compute it from the event "
    "and give --event-hash or --events."
)


@dataclass
class Tally:
    """What has been found, so that parts judged by different processes can be added up.

    Args:
        codes: how many verdicts of each code.
        unreadable: how many files could not be read.
        unlisted: how many statements are about a place that the list of events does not have.
        missing: how many listed events have no valid evidence.
    """

    codes: Counter[Code] = field(default_factory=Counter)
    unreadable: int = 0
    unlisted: int = 0
    missing: int = 0

    def add(self, other: "Tally") -> None:
        """Add another tally to this one."""
        self.codes.update(other.codes)
        self.unreadable += other.unreadable
        self.unlisted += other.unlisted
        self.missing += other.missing

    @property
    def files(self) -> int:
        """How many files there were."""
        return self.codes.total() + self.unreadable

    def outcomes(self) -> Counter[Outcome]:
        """Return how many verdicts of each outcome."""
        counts: Counter[Outcome] = Counter()
        for code, count in self.codes.items():
            counts[code.outcome] += count
        return counts

    def exit_code(self) -> int:
        """Return 1 for any INVALID, else 3 for any unreadable file, else 2 for any other doubt, else 0."""
        outcomes = self.outcomes()
        if outcomes[Outcome.INVALID]:
            return 1
        if self.unreadable:
            return 3
        return 2 if outcomes[Outcome.INDETERMINATE] or self.unlisted or self.missing else 0


@dataclass(frozen=True)
class Style:
    """How to print: as JSON lines, or as text with or without colours."""

    as_json: bool
    colour: bool

    def verdict(self, path: str, verdict: Verdict) -> str | None:
        """Return the line of one verdict; as text only what is not VALID has one."""
        if self.as_json:
            return _json({"path": path, **verdict.to_object()})
        if verdict.outcome is Outcome.VALID:
            return None
        head = f"{self._paint(verdict.outcome)}  {verdict.code.name}"
        return f"{head}  {printable(path)}: {printable(verdict.reason)}"

    def unreadable(self, path: str, reason: str) -> str:
        """Return the line of a file that could not be read."""
        if self.as_json:
            return _json({"finding": "unreadable", "path": path, "reason": reason})
        return f"UNREADABLE  {printable(path)}: {reason}"

    def unlisted(self, path: str, stream: str, sequence: int) -> str:
        """Return the line of a statement about a place that the list of events does not have."""
        if self.as_json:
            return _json({"finding": "unlisted", "path": path, "sequence": str(sequence), "stream": stream})
        return f"UNLISTED  {printable(path)}: place {sequence} of {printable(stream)} is not in the list"

    def missing(self, stream: str, sequence: int) -> str:
        """Return the line of a listed event without valid evidence."""
        if self.as_json:
            return _json({"finding": "missing", "sequence": str(sequence), "stream": stream})
        return f"MISSING  place {sequence} of {printable(stream)}: no valid evidence"

    def one(self, path: str, verdict: Verdict) -> str:
        """Return the verdict on a single file: the line as JSON, or as text what it means."""
        if self.as_json:
            return _json({"path": path, **verdict.to_object()})
        facts = [f"  {name:<12}{printable(value)}" for name, value in _facts(path, verdict)]
        head = f"{self._paint(verdict.outcome)}  {verdict.code.name}"
        text = [_wrap(verdict.code.meaning), _wrap(f"Found: {printable(verdict.reason)}.")]
        if verdict.statement is not None and not verdict.event_compared:
            text.append(_wrap(_NOT_COMPARED))
        return "\n".join([head, "", text[0], "", *facts, "", *text[1:]])

    def summary(self, tally: Tally, as_of: AsOf | None, *, compared: bool) -> str:
        """Return the end of the report: how many of what, and what the verdicts rest on."""
        counts = {outcome.name: tally.outcomes()[outcome] for outcome in Outcome}
        findings = {"unreadable": tally.unreadable, "unlisted": tally.unlisted, "missing": tally.missing}
        if self.as_json:
            summary: dict[str, object] = {name: str(count) for name, count in (counts | findings).items()}
            summary["codes"] = {code.name: str(tally.codes[code]) for code in Code if tally.codes[code]}
            summary["as_of"] = as_of and {name: str(value) for name, value in as_of.__dict__.items()}
            summary["events_compared"] = "yes" if compared else "no"
            summary["judged"] = str(tally.codes.total())
            return _json({"summary": summary})
        rows = [(code.name, tally.codes[code]) for code in Code if tally.codes[code]]
        rows += [(name, count) for name, count in findings.items() if count]
        lines = [f"{tally.codes.total():,} judged: " + ", ".join(f"{count:,} {name}" for name, count in counts.items())]
        lines += [f"  {name:<26}{count:>12,}" for name, count in rows]
        if as_of is not None:
            lines.append(_as_of(as_of))
        if not compared:
            lines.append(_wrap(_NOT_COMPARED))
        return "\n".join(lines)

    def _paint(self, outcome: Outcome) -> str:
        return f"\x1b[{_COLOURS[outcome]}m{outcome.name}\x1b[0m" if self.colour else outcome.name


class Progress:
    """A line on standard error that says how far long work is, if that is a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._start = self._last = time.monotonic()
        self._drawn = False

    def show(self, what: str, count: int) -> None:
        """Say that `count` of `what` are done, from the second second on and five times a second at most."""
        now = time.monotonic()
        if not self._shown or now - self._start < 1 or now - self._last < 0.2:
            return
        self._last, self._drawn = now, True
        sys.stderr.write(f"\r\x1b[K{count:,} {what}, {count / (now - self._start):,.0f} per second")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away, before anything else is printed."""
        if self._drawn:
            self._drawn = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def printable(text: str) -> str:
    """Return the text with everything escaped that could move, hide or colour what a terminal shows."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _facts(path: str, verdict: Verdict) -> Iterable[tuple[str, str]]:
    yield "file", path
    said = verdict.statement
    if said is not None:
        yield "event", f"{said.event_hash}"
        yield "place", f"{said.sequence} of {said.stream} ({said.environment})"
        yield "witness", said.witness_id
        yield "key", said.key_id
        yield "signed at", f"{said.signed_at} by the signer's clock"
    if verdict.leaf_index is not None:
        yield "log index", f"{verdict.leaf_index}"
    if verdict.as_of is not None:
        yield "as of", _as_of(verdict.as_of).removeprefix("as of ")


def _as_of(as_of: AsOf) -> str:
    return f"as of {as_of.time}: {as_of.registry_size:,} registry records, {as_of.statement_size:,} statements"


def _wrap(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
