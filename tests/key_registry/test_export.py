"""The export: many pieces of evidence in one file, judged line by line whatever is in it."""

import gzip
import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from key_registry import export
from key_registry.errors import FormatError
from key_registry.evidence import EVIDENCE_BYTES
from key_registry.evidence_files import Piece, PieceReader, find_evidence
from key_registry.export import LINE_BYTES, from_line, to_line
from tests.key_registry.auditor import Auditor
from tests.key_registry.software_registry import RotatedRegistry, event_hash

WORLD = RotatedRegistry()
EVIDENCE = [WORLD.genuine(number) for number in range(17)]


@pytest.fixture
def auditor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Auditor:
    return Auditor.of(WORLD, tmp_path, capsys)


def exported(*pieces: bytes) -> bytes:
    return b"".join(map(to_line, pieces))


# -- the form ------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(codec="utf-8")).map(str.encode))
def test_a_line_gives_back_its_evidence(evidence: bytes) -> None:
    """Byte for byte, on exactly one line, whatever characters are in it."""
    line = to_line(evidence)
    assert line.count(b"\n") == 1
    assert from_line(line) == evidence


def test_the_longest_evidence_fits() -> None:
    """Even where every character has to be escaped; what is longer does not become a line."""
    longest = b'"' * EVIDENCE_BYTES
    assert from_line(to_line(longest)) == longest
    for other in (b'"' * (EVIDENCE_BYTES + 1024), b"\xff"):
        with pytest.raises(FormatError):
            to_line(other)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b'"x"',
        b'{"evidence":null}',
        b'{"evidence":"a","evidence":"b"}',
        b'{"evidence":"a","more":"b"}',
        b'{"evidence":1}',
        b'{"evidence":["a"]}',
        b'{"evidence":"\xff"}',
        b'{"evidence":"\\ud800"}',
        b'{"evidence":"a"} {"evidence":"b"}',
        b'{"evidence":"a',
        b"[" * 100_000,
        b'{"evidence":' + b'{"a":' * 100_000,
    ],
)
def test_a_line_of_another_form_is_refused(line: bytes) -> None:
    """Exactly one member, a string, once."""
    with pytest.raises(FormatError):
        from_line(line)


def test_lines_may_be_spelt_otherwise() -> None:
    """Another program's white space and escapes say the same."""
    assert from_line(b' { "evidence" : "\\u0061" } \r\n') == b"a"


def test_pieces_of_a_file(tmp_path: Path) -> None:
    """Numbers, offsets and lengths are those of the file; blank lines are passed over, the last needs no end."""
    path = tmp_path / "x"
    long = b'{"evidence":"' + b"x" * (2 * LINE_BYTES) + b'"}\n'
    path.write_bytes(b'{"evidence":"a"}\n\n  \n' + long + b'{"evidence":"b"}')
    pieces = list(find_evidence([str(path)]))
    assert [(piece.line, piece.length) for piece in pieces] == [(1, 17), (4, len(long)), (5, 16)]
    reader = PieceReader()
    assert (reader.read(pieces[0]), reader.read(pieces[2])) == (b"a", b"b")
    with pytest.raises(FormatError, match="expected a line of at most"):
        reader.read(pieces[1])
    reader.close()


# -- judging -------------------------------------------------------------------------------------------------------


def test_an_export_is_judged_line_by_line(auditor: Auditor) -> None:
    """As the same evidence in files would be; the line is named."""
    path = auditor.write("all.evidence.jsonl", exported(*EVIDENCE[:3], b"x", WORLD.attested[3][1].to_json()))
    run = auditor.verify("--json", path)
    assert run.code == 1
    assert run.codes() == {
        **{f"all.evidence.jsonl:{number}": "VALID_KEY_ROTATED" for number in (1, 2, 3)},
        "all.evidence.jsonl:4": "BAD_FORMAT",
        "all.evidence.jsonl:5": "NOT_LOGGED",
    }
    assert f"INVALID  BAD_FORMAT  {path}:4: expected" in auditor.verify(path).out


def test_an_export_needs_no_name(auditor: Auditor) -> None:
    """What is in it tells; a part of an export, and two after each other, are exports."""
    whole = exported(*EVIDENCE)
    for data, count in ((whole, 17), (whole + whole, 34), (b"".join(whole.splitlines(True)[3:5]), 2)):
        run = auditor.verify("--json", auditor.write("x", data))
        assert (run.code, run.summary["VALID"]) == (0, str(count))
    assert auditor.verify("--json", auditor.write("x", exported(EVIDENCE[0]))).codes() == {"x:1": "VALID_KEY_ROTATED"}


def test_exports_in_folders_are_found(auditor: Auditor) -> None:
    """By their name, among single files, in order."""
    auditor.add("a", EVIDENCE[0])
    (auditor.evidence / "b.evidence.jsonl").write_bytes(exported(EVIDENCE[1], EVIDENCE[2]))
    (auditor.evidence / "notes.jsonl").write_bytes(exported(EVIDENCE[3]))
    run = auditor.verify("--json", auditor.evidence)
    assert list(run.codes()) == ["a.tlog-proof", "b.evidence.jsonl:1", "b.evidence.jsonl:2"]


def test_events_are_compared(auditor: Auditor) -> None:
    """The list of events works on exports as on folders."""
    listed = [f"orders\t{number}\t{event_hash('orders', number)}\n" for number in range(4)]
    events = auditor.write("events", "".join(listed).encode())
    path = auditor.write("x.evidence.jsonl", exported(*EVIDENCE[:3]))
    run = auditor.verify("--json", "--events", events, path)
    assert (run.code, run.summary["VALID"], run.summary["missing"]) == (2, "3", "1")


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.tlog-proof", bytes(30_000_000))
    return file.getvalue()


HOSTILE = {
    "empty": b"",
    "gzip": gzip.compress(bytes(30_000_000)),
    "zip": zipped(),
    "truncated": exported(*EVIDENCE)[:-20],
    "no line end": b'{"evidence":"' + b"x" * 5_000_000,
    "deep": b'{"evidence":' + b"[" * 1_000_000,
    "zeros": b'{"evidence":' + bytes(3_000_000),
    "only blanks": b'{"evidence":"x"}' + b" " * 5_000_000,
    "bad utf-8": b'{"evidence":"\xff"}\n' * 3,
    "long names": b'{"evidence":"x",' + b'"' + b"n" * 1_000_000 + b'":"y"}\n',
    "export in an export": exported(exported(EVIDENCE[0])),
    "bundle": WORLD.bundle().to_json(),
}


@pytest.mark.attacks
@pytest.mark.parametrize("name", ["x", "x.tlog-proof", "x.evidence.jsonl"])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_judged_or_refused(auditor: Auditor, case: str, name: str) -> None:
    """Named as anything: a verdict of INVALID, never a traceback, and never more than a few lines."""
    run = auditor.verify("--json", auditor.write(name, HOSTILE[case]))
    assert run.code == 1
    assert set(run.codes().values()) <= {"BAD_FORMAT", "VALID_KEY_ROTATED", "VALID_KEY_ACTIVE"}
    assert "BAD_FORMAT" in run.codes().values()
    assert len(run.codes()) <= len(EVIDENCE)


@pytest.mark.attacks
@given(at=st.integers(0, 20_000), cut=st.integers(0, 40), piece=st.binary(max_size=20))
def test_a_damaged_export_costs_what_is_damaged(at: int, cut: int, piece: bytes) -> None:
    """Every line that the damage does not touch still gives its evidence."""
    data = exported(*EVIDENCE[:5])
    damaged = data[:at] + piece + data[at + cut :]
    found = []
    for line in damaged.splitlines(True):
        try:
            found.append(from_line(line))
        except FormatError:
            found.append(b"")
    touched = sum(1 for line in export.lines(io.BytesIO(data)) if line[1] <= at + cut and at <= line[1] + line[2])
    assert sum(evidence in found for evidence in EVIDENCE[:5]) >= 5 - touched


def test_a_vanished_export_is_unreadable() -> None:
    """A file that is gone between finding and reading it raises what the report calls unreadable."""
    with pytest.raises(FileNotFoundError):
        PieceReader().read(Piece("/nowhere/at/all", 1, 0, 10))
