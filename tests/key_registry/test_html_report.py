"""The page: everything the run found, in one file that can neither be made to act nor to lie by what was judged."""

import os
import re
import stat
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from key_registry.html_report import HtmlReport
from key_registry.report import Failure
from key_registry.verdict import Code
from tests.key_registry.auditor import Auditor
from tests.key_registry.software_registry import (
    RotatedRegistry,
    SoftwareCosigner,
    SoftwareRegistry,
    event_hash,
    policy_of,
    witness,
)
from tests.key_registry.test_contradiction import Forked

WORLD = RotatedRegistry()
VOID = {"meta", "line", "rect", "circle", "path"}


class Page(HTMLParser):
    """A page taken apart; fails on tags that are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text("utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str, kind: str) -> int:
        return sum(1 for name, attributes in self.tags if name == tag and attributes.get("class") == kind)


def page_of(auditor: Auditor, *arguments: object, code: int) -> Page:
    path = auditor.path / "report.html"
    assert auditor.verify("--html", path, *arguments).code == code
    return Page(path)


@pytest.fixture
def auditor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Auditor:
    return Auditor.of(WORLD, tmp_path, capsys)


def test_the_page_says_what_was_judged_and_what_came_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Registry, bundle, policy, as of, counts with their meaning, every failure with path and reason, both sides."""
    world = Forked()
    auditor = Auditor.of(world, tmp_path, capsys)
    for number in range(15):
        auditor.add(f"{number:02}", world.genuine(number))
    auditor.add("twice", world.evidence(*world.twice))
    auditor.add("aside", world.aside(world.statements.size))
    auditor.add("broken", b"x")
    page = page_of(auditor, auditor.evidence, code=1)
    rows = {tuple(row[:2]) for row in page.rows}
    assert {
        ("registry", world.registry_id),
        ("cosigner policy", "none"),
        ("environments accepted", "production"),
    } <= rows
    assert "rests on the operator alone" in page.text
    assert f"{world.statements.size:,} statements: what came later is not in it" in page.text
    counts = {row[0]: row[1:] for row in page.rows if len(row) == 3 and row[1].isdigit()}
    assert counts["VALID_KEY_ROTATED"] == ["10", Code.VALID_KEY_ROTATED.meaning]
    assert [counts[name][0] for name in ("EQUIVOCATION", "LOG_FORK", "equivocations", "forks")] == ["2", "1", "1", "1"]
    failures = {Path(row[1]).name: row[0] for row in page.rows if len(row) == 3 and "/" in row[1]}
    assert failures == {
        "12.tlog-proof": "EQUIVOCATION",
        "twice.tlog-proof": "EQUIVOCATION",
        "aside.tlog-proof": "LOG_FORK",
        "broken.tlog-proof": "BAD_FORMAT",
    }
    assert page.source.count("c2sp.org/tlog-proof@v1") == 2
    assert world.second.checkpoint().decode() in page.source


def test_the_policy_is_shown_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands in the record, so that it can be compared with the cosigners' own word."""
    cosigners = [SoftwareCosigner(f"<{number}>") for number in range(3)]
    world = RotatedRegistry(policy=policy_of(*cosigners))
    auditor = Auditor.of(world, tmp_path, capsys)
    (auditor.path / "bundle.json").write_bytes(world.bundle(cosigned_by=cosigners).to_json())
    index, signed = world.attested[12]
    page = page_of(auditor, auditor.add("a", world.evidence(index, signed, cosigned_by=cosigners)), code=0)
    assert f"<pre>{escape(world.registry.policy.text)}</pre>" in page.source


def test_the_keys_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each key of each witness: open, closed, cut after a compromise, destroyed, never opened."""
    world = RotatedRegistry()
    world.compromise(world.a, 7)
    world.destroy(world.a)
    world.compromise(world.never, 0)
    auditor = Auditor.of(world, tmp_path, capsys)
    page = page_of(auditor, auditor.add("a", world.genuine(12)), code=0)
    assert [page.count("rect", kind) for kind in ("open", "closed", "distrusted")] == [2, 1, 1]
    assert [page.count("circle", kind) for kind in ("opening", "unopened", "unopened cut")] == [3, 0, 1]
    assert [page.count("line", kind) for kind in ("cut", "closing")] == [1, 1]
    assert page.count("path", "destroyed") == 1
    for words in (witness(1), f"key {world.a.key_id}, ed25519", "distrusted from 7 on", "never opened"):
        assert words in page.text
    bars = {attributes["class"]: attributes for name, attributes in page.tags if name == "rect"}
    begin, width = (float(str(bars["closed"][name])) for name in ("x", "width"))
    cut = float(str(bars["distrusted"]["x"]))
    assert (cut - begin) / width == pytest.approx(0.7, abs=0.01)


def test_the_page_needs_nothing_else(auditor: Auditor) -> None:
    """No script, no link, no picture, no font from elsewhere; a browser is told to load nothing; light and dark."""
    page = page_of(auditor, auditor.add("a", b"x"), code=1)
    names = {name for name, _ in page.tags}
    assert not {"script", "link", "img", "iframe", "object", "image", "use", "a", "form", "base"} & names
    assert not any(
        name.startswith("on") or name in ("href", "src") for _, attributes in page.tags for name in attributes
    )
    assert "url(" not in page.source
    assert "@import" not in page.source
    assert re.search("Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"", page.source)
    assert "prefers-color-scheme: dark" in page.source


@pytest.mark.attacks
def test_names_cannot_write_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """File names, stream names and event names are text, in tables, titles and attributes alike."""
    evil = "</td></tr></table><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u202e\u2028"
    world = SoftwareRegistry()
    key = world.new_witness(streams=("*", evil))
    index, signed = world.attest(key, 0, stream=evil, event_id=evil, event_type=evil)
    auditor = Auditor.of(world, tmp_path, capsys)
    file = evil.replace("/", "|")
    page = page_of(auditor, auditor.add(file, world.evidence(index, signed)), code=0)
    assert not {"script", "img"} & {name for name, _ in page.tags}
    assert "\u202e" not in page.source
    assert "alert(1)</script>" in page.text
    for name in (f"{file}\n", "\x1b[2J", "\udcff<b>"):
        auditor.add(name, b"x")
    events = auditor.write("events", f"{evil}\t5\t{event_hash('x', 1)}\n".encode())
    page = page_of(auditor, "--events", events, auditor.evidence, code=1)
    assert not {"script", "img"} & {name for name, _ in page.tags}
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028\ud800-\udfff]", page.source)


def test_a_single_verdict_has_its_paragraph(auditor: Auditor) -> None:
    """The page of one file explains it as the terminal does."""
    page = page_of(auditor, auditor.add("a", WORLD.genuine(3)), code=0)
    assert "VALID VALID_KEY_ROTATED" in page.text
    assert 'signed that the event "event 3"' in page.text
    assert "Failures: 0 None." in page.text


def test_a_bundle_that_cannot_be_used(auditor: Auditor) -> None:
    """There are no keys to draw; the page says why."""
    (auditor.path / "bundle.json").write_bytes(b"{}")
    page = page_of(auditor, auditor.add("a", b"x"), code=1)
    assert "REGISTRY_INVALID" in page.text
    assert not any(name == "svg" for name, _ in page.tags)


def test_every_failure_is_on_the_page(auditor: Auditor) -> None:
    """However many; in blocks, so that a browser need not lay all of them out."""
    lines = b'{"evidence":"x"}\n' * 2500
    page = page_of(auditor, auditor.write("x.evidence.jsonl", lines), code=1)
    assert sum(1 for row in page.rows if row[0] == "BAD_FORMAT" and len(row) == 3) == 2501  # and one of the counts
    assert "Failures: 2,500" in page.text
    assert page.count("table", "failures") == 3


def test_the_page_is_whole_or_not_there(auditor: Auditor) -> None:
    """It takes its place when it is finished; what was there before stays if it never is, and no part is left."""
    target = auditor.write("report.html", b"old")
    with HtmlReport(str(target)) as report:
        report.add([Failure("BAD_FORMAT", None, "x", "y")])
        assert target.read_bytes() == b"old"
    assert [path.name for path in auditor.path.iterdir() if "report" in path.name] == ["report.html"]
    page_of(auditor, auditor.add("a", b"x"), code=1)
    assert b"old" not in target.read_bytes()[:100]
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~_umask()
    assert [path.name for path in auditor.path.iterdir() if "report" in path.name] == ["report.html"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.attacks
def test_the_page_takes_the_place_of_nothing_else(auditor: Auditor) -> None:
    """Not of a device or a FIFO, which root could replace by a file, and not of what is judged; a link stays one."""
    evidence = auditor.add("a", b"x")
    fifo, device, link = (auditor.path / name for name in ("fifo", "device", "link"))
    os.mkfifo(fifo)
    device.symlink_to("/dev/null")
    link.symlink_to("report.html")
    for path in (fifo, device):
        run = auditor.verify("--html", path, evidence)
        assert (run.code, run.out) == (3, "")
        assert run.err == "witness-verify: cannot write the page: expected a regular file, got something else\n"
    assert fifo.is_fifo()
    assert device.is_char_device()
    other = auditor.write("other.json", (auditor.path / "bundle.json").read_bytes())
    for path in (auditor.path / "bundle.json", auditor.path / "id", evidence, other):
        before = path.read_bytes()
        run = auditor.verify("--html", path, "--also-bundle", other, evidence)
        assert (run.code, run.out, path.read_bytes()) == (3, "", before)
        assert run.err.startswith("witness-verify: expected --html to name a file of its own")
    page_of(auditor, evidence, code=1)
    assert auditor.verify("--html", link, evidence).code == 1
    assert (link.is_symlink(), (auditor.path / "report.html").read_bytes()[:15]) == (True, b"<!DOCTYPE html>")


def test_a_page_that_cannot_be_written_is_said(auditor: Auditor) -> None:
    """Before anything is judged, in one line, with the exit code of what could not be done."""
    evidence = auditor.add("a", b"x")
    for path in (auditor.path / "nowhere" / "report.html", auditor.path):
        run = auditor.verify("--html", path, evidence)
        assert (run.code, run.out) == (3, "")
        assert run.err.startswith("witness-verify: cannot write the page")
