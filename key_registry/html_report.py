"""The report as a page: one HTML file that needs no script, no network and no other file.

What is judged was made by strangers: everything that is not written here goes through `_text`.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from tempfile import TemporaryFile
from typing import Self, TextIO

from key_registry.contradiction import Contradiction, Equivocation, SignedHead, Witnessed
from key_registry.explanation import explain, rests_on
from key_registry.judge import TrustedRegistry
from key_registry.key_timeline import key_timeline
from key_registry.policy import NONE
from key_registry.report import NOT_COMPARED, Failure, facts_of, printable
from key_registry.tally import Tally
from key_registry.verdict import Code, Outcome, Verdict

_BLOCK = 1000
_SHOWN_BYTES = 16_384


@dataclass(frozen=True)
class Subject:
    """What was judged.

    Args:
        bundle: path of the bundle.
        registry_id: the pinned one.
        environments: the accepted ones.
        paths: of the evidence, as given.
        compared: whether the events' own hashes were given.
    """

    bundle: str
    registry_id: str
    environments: Iterable[str]
    paths: Iterable[str]
    compared: bool


class HtmlReport:
    """Writes the page; failures go to disk as they come, so that memory does not grow with them.

    Used as a context manager: without `write` nothing is left behind. Raises OSError when it cannot be written.

    Args:
        path: of the page.
    """

    def __init__(self, path: str) -> None:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if os.path.exists(path) and not os.path.isfile(path):
            raise OSError(errno.EINVAL, "expected a regular file, got something else")
        self._path = os.path.realpath(path)  # a symbolic link stays one
        folder, name = os.path.split(self._path)
        self._part = os.path.join(folder, f".{name}.part")
        self._page: TextIO = open(self._part, "w", encoding="utf-8")  # noqa: SIM115
        self._rows = TemporaryFile("w+", encoding="utf-8", prefix="witness-verify-")  # noqa: SIM115
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        self._page.close()
        with suppress(FileNotFoundError):
            os.unlink(self._part)

    def add(self, failures: Iterable[Failure]) -> None:
        """Take note of failures."""
        for failure in failures:
            if self._count % _BLOCK == 0:
                self._rows.write(_block_start(self._count))
            self._count += 1
            outcome = "" if failure.outcome is None else failure.outcome.name
            self._rows.write(
                f'<tr><td><b class="{outcome}">{_text(failure.word)}</b></td><td>{_text(failure.where)}</td>'
                f"<td>{_text(failure.reason)}</td></tr>\n"
            )

    def write(
        self,
        subject: Subject,
        tally: Tally,
        trusted: TrustedRegistry | None,
        contradictions: Iterable[Contradiction] = (),
        single: tuple[str, Verdict] | None = None,
    ) -> None:
        """Write the page and put it in its place.

        Args:
            subject: what was judged.
            tally: what came out.
            trusted: the registry; None if the bundle cannot be used.
            contradictions: with both sides each.
            single: path and verdict, where there is only one.
        """
        page = self._page.write
        page(_HEAD)
        self._write_all(_subject(subject, trusted))
        if single is not None:
            self._write_all(_single(*single, trusted))
        self._write_all(_counts(tally))
        if trusted is not None:
            self._write_all(_keys(trusted))
        self._write_all(_contradictions(contradictions))
        self._write_failures()
        page("</main></body></html>\n")
        self._page.close()
        os.replace(self._part, self._path)

    def _write_all(self, parts: Iterable[str]) -> None:
        for part in parts:
            self._page.write(part)
            self._page.write("\n")

    def _write_failures(self) -> None:
        self._page.write(f"<h2>Failures: {self._count:,}</h2>\n")
        if not self._count:
            self._page.write("<p>None.</p>\n")
            return
        self._rows.write(_BLOCK_END)
        self._rows.seek(0)
        while portion := self._rows.read(65536):
            self._page.write(portion)


def _text(value: object) -> str:
    """Return the value as text that no reader takes for markup, nor for another order of letters."""
    return escape(printable(str(value)))


def _block_start(count: int) -> str:
    opened = " open" if count == 0 else ""
    return (
        f"{_BLOCK_END if count else ''}<details{opened}><summary>from number {count + 1:,} on</summary>\n"
        '<table class="failures"><tr><th>what</th><th>where</th><th>why</th></tr>\n'
    )


_BLOCK_END = "</table></details>\n"


def _subject(subject: Subject, trusted: TrustedRegistry | None) -> Iterator[str]:
    facts = [
        ("registry", subject.registry_id),
        ("bundle", subject.bundle),
        ("evidence", ", ".join(subject.paths)),
        ("environments accepted", ", ".join(sorted(subject.environments))),
    ]
    if trusted is not None:
        as_of = trusted.as_of
        records = f"{as_of.registry_size:,} registry records, {as_of.statement_size:,} statements"
        facts += [("as of", f"{as_of.time}: {records}"), ("environment", trusted.registry.environment)]
        if trusted.policy == NONE:
            facts += [("cosigner policy", NONE)]
    yield _facts(facts)
    if trusted is not None:
        if trusted.policy != NONE:
            yield f"<h2>Cosigner policy</h2><pre>{_lines(trusted.policy)}</pre>"
        yield f"<p>{_text(' '.join(rests_on(trusted)))}</p>"
    if not subject.compared:
        yield f"<p>{NOT_COMPARED}</p>"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    rows = (f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in facts)
    return '<table class="facts">' + "\n".join(rows) + "</table>"


def _single(name: str, verdict: Verdict, trusted: TrustedRegistry | None) -> Iterator[str]:
    yield f'<h2><b class="{verdict.outcome.name}">{verdict.outcome.name}</b> {verdict.code.name}</h2>'
    yield f"<p>{_text(explain(verdict, trusted))}</p>"
    yield _facts(facts_of(name, verdict))
    yield f"<p>Found: {_text(verdict.reason)}.</p>"


def _counts(tally: Tally) -> Iterator[str]:
    outcomes = tally.outcomes()
    yield f"<h2>Verdicts: {tally.codes.total():,}</h2><p>"
    for outcome in Outcome:
        yield f'<b class="{outcome.name}">{outcome.name}</b> {outcomes[outcome]:,} &#160; '
    yield '</p><table><tr><th>verdict</th><th class="number">count</th><th>meaning</th></tr>'
    for code in Code:
        if tally.codes[code]:
            head = f'<b class="{code.outcome.name}">{code.name}</b>'
            yield f'<tr><td>{head}</td><td class="number">{tally.codes[code]:,}</td><td>{_text(code.meaning)}</td></tr>'
    for name, count in tally.findings.items():
        if count:
            yield f'<tr><td>{name}</td><td class="number">{count:,}</td><td>{_MEANINGS[name]}</td></tr>'
    yield "</table>"


_MEANINGS = {
    "unreadable": "Files that could not be read.",
    "unlisted": "Statements about a place that the list of events does not have.",
    "missing": "Listed events without valid evidence.",
    "equivocations": "Places with more than one validly witnessed hash.",
    "forks": "Sizes of a log with more than one signed root.",
}


def _keys(trusted: TrustedRegistry) -> Iterator[str]:
    yield "<h2>Keys</h2><p>Over positions of the statement log, from left to right.</p>"
    yield from key_timeline(trusted.registry, trusted.coverage.statement_size)
    yield (
        '<p class="legend"><i class="open"></i>open <i class="closed"></i>closed '
        '<i class="distrusted"></i>distrusted after a compromise; '
        "a ring is a key never opened, a cross one destroyed</p>"
    )
    names = ("key", "algorithm", "streams", "added", "opened", "closed", "compromised", "destroyed")
    yield "<details><summary>As a table</summary><table><tr>"
    yield "".join(f"<th>{name}</th>" for name in names) + "</tr>"
    for key in trusted.registry.keys.values():
        cells = (
            f"{key.key_id} of {key.witness_id}",
            key.public_key.algorithm,
            ", ".join(key.streams),
            key.added_at,
            "" if key.opened is None else f"at {key.opened}, {key.opened_at}",
            "" if key.closed is None else f"at {key.closed}, {key.closed_at}, after {key.count} signatures",
            ""
            if key.trusted_size is None
            else f"from {key.trusted_size} on, {key.compromised_at}: {key.compromise_reason}",
            key.destroyed_at or "",
        )
        yield "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>"
    yield "</table></details>"


def _contradictions(contradictions: Iterable[Contradiction]) -> Iterator[str]:
    for number, found in enumerate(contradictions):
        if not number:
            yield "<h2>Contradictions</h2><p>Keep both sides: together they prove it to anybody.</p>"
        code = Code.EQUIVOCATION if isinstance(found, Equivocation) else Code.LOG_FORK
        yield f'<section><h3><b class="INVALID">{code.name}</b></h3><p>{_text(found.reason)}</p>'
        if isinstance(found, Equivocation):
            yield from _equivocating(found.first)
            yield from _equivocating(found.second)
        else:
            yield from _forking(found.first)
            yield from _forking(found.second)
        yield "</section>"


def _equivocating(side: Witnessed) -> Iterator[str]:
    yield _facts(facts_of(side.source, side.verdict))
    text = side.evidence.decode("utf-8", "replace")
    if len(side.evidence) > _SHOWN_BYTES:
        text = f"{len(side.evidence):,} bytes: see the file"
    yield f"<details><summary>the evidence</summary><pre>{_lines(text)}</pre></details>"


def _forking(head: SignedHead) -> Iterator[str]:
    size, root = head.checkpoint.size, head.checkpoint.root.hex()
    yield _facts([("found in", head.source), ("log", head.log), ("size", f"{size}"), ("root", root)])
    yield f"<details open><summary>what was signed</summary><pre>{_lines(head.signed)}</pre></details>"


def _lines(text: str) -> str:
    return "\n".join(map(_text, text.split("\n")))


_HEAD = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>witness-verify</title>
<style>
:root { color-scheme: light dark; --text: #1a1c20; --back: #ffffff; --line: #d4d7dd; --soft: #f3f4f6;
  --good: #12703c; --bad: #b3261e; --doubt: #8a5a00; --open: #2a8f57; --closed: #7c8798; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --back: #15171a; --line: #3a3f47; --soft: #1f2226;
    --good: #5fd08f; --bad: #ff8a80; --doubt: #f0b849; --open: #3aa76d; --closed: #7c8798; }
}
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 1rem 1.25rem 4rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
.facts th { width: 12rem; font-weight: normal; opacity: .75; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; padding-right: 1.2rem; }
td b { white-space: nowrap; }
pre { background: var(--soft); padding: .6rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px; }
section { border: 1px solid var(--line); border-left: 4px solid var(--bad); padding: 0 1rem 1rem; margin: 1rem 0; }
.VALID { color: var(--good); } .INVALID { color: var(--bad); } .INDETERMINATE { color: var(--doubt); }
svg.keys { width: 100%; height: auto; }
svg text { fill: var(--text); font: 12px system-ui, sans-serif; } svg .key { font-family: monospace; }
svg .tick { opacity: .75; } svg .who { paint-order: stroke; stroke: var(--back); stroke-width: 5px; }
.grid { stroke: var(--line); }
svg .open { fill: var(--open); } svg .closed { fill: var(--closed); } .unopened { fill: none; stroke: var(--closed); }
svg .distrusted { fill: var(--bad); opacity: .8; } .cut { stroke: var(--bad); stroke-width: 2; }
.closing { stroke: var(--text); stroke-width: 2; } .opening { fill: var(--text); }
.destroyed { stroke: var(--text); stroke-width: 2; fill: none; }
.legend i { display: inline-block; width: 1.4rem; height: .7rem; margin: 0 .3rem 0 .9rem; }
i.open { background: var(--open); } i.closed { background: var(--closed); } i.distrusted { background: var(--bad); }
</style></head><body><main><h1>witness-verify: what was judged, and what came out</h1>
"""
