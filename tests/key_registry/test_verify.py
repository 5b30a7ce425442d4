"""witness-verify: the auditor's program says the truth, in one line or many, and ends in the published exit codes."""

import contextlib
import io
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from key_registry.bundle import Bundle
from key_registry.evidence import Evidence
from key_registry.progress import Progress
from key_registry.verify import main
from tests.key_registry.software_registry import RotatedRegistry, SoftwareRegistry, event_hash, witness

ROOT = Path(__file__).parents[2]
WORLD = RotatedRegistry()
BUNDLE = WORLD.bundle().to_json()
COVERED_AT = WORLD.time(WORLD.seconds)
EVIDENCE = [WORLD.genuine(number) for number in range(17)]
FORGED = WORLD.proven(WORLD.sign(WORLD.a, 99), 3)


@dataclass(frozen=True)
class Folder:
    """What an auditor has: the bundle, the pinned id, and evidence below `evidence`, one folder per stream."""

    path: Path
    capture: pytest.CaptureFixture[str]

    @property
    def evidence(self) -> Path:
        return self.path / "evidence"

    def arguments(self, *arguments: object) -> list[str]:
        return [
            "--bundle",
            str(self.path / "bundle.json"),
            "--registry-id",
            f"@{self.path / 'id'}",
            *map(str, arguments),
        ]

    def verify(self, *arguments: object) -> "Run":
        code = main(self.arguments(*arguments))
        captured = self.capture.readouterr()
        return Run(code, captured.out, captured.err)


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Folder:
    (tmp_path / "bundle.json").write_bytes(BUNDLE)
    (tmp_path / "id").write_text(WORLD.registry_id + "\n")
    for number, evidence in enumerate(EVIDENCE):
        stream = tmp_path / "evidence" / ("orders" if number < 15 else "ledger")
        stream.mkdir(parents=True, exist_ok=True)
        (stream / f"{number:03}.tlog-proof").write_bytes(evidence)
    return Folder(tmp_path, capsys)


def one(folder: Folder, number: int = 12) -> Path:
    return next(folder.evidence.glob(f"*/{number:03}.tlog-proof"))


def events(folder: Folder, *, leave_out: int = -1, wrong: int = -1) -> Path:
    lines = []
    for number in range(17):
        stream = "orders" if number < 15 else "ledger"
        value = event_hash(stream, number + (number == wrong))
        lines += [] if number == leave_out else [f"{stream}\t{number}\t{value}\n"]
    (folder.path / "events").write_text("".join(lines))
    return folder.path / "events"


def test_one_file_is_explained(folder: Folder) -> None:
    """The auditor of a single event reads what the verdict means, what it is about and what it rests on."""
    run = folder.verify(one(folder), "--event-hash", event_hash("orders", 12))
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("VALID  VALID_KEY_ACTIVE\n\nThe signature was made by the witness's key")
    for fact in ("12 of orders (production)", witness(1), WORLD.b.key_id, "8 registry records, 17 statements"):
        assert fact in run.out
    assert "not compared" not in run.out


def test_without_the_event_the_program_says_what_it_did_not_do(folder: Folder) -> None:
    """A VALID without the event's own hash is about the statement only, and that is said."""
    assert "The event itself was not compared" in folder.verify(one(folder)).out
    assert "The event itself was not compared" in folder.verify(folder.evidence).out


def test_a_folder_is_summed_up(folder: Folder) -> None:
    """Whatever is below the folder is judged; a line for each failure, in order, and a table at the end."""
    (folder.evidence / "b.tlog-proof").write_bytes(b"x")
    (folder.evidence / "a.tlog-proof").write_bytes(FORGED)
    (folder.evidence / "orders" / "notes.txt").write_text("not evidence")
    run = folder.verify(folder.evidence)
    lines = run.out.splitlines()
    assert (run.code, run.err) == (1, "")
    assert lines[0].startswith(f"INVALID  LOG_PROOF_INVALID  {folder.evidence}/a.tlog-proof: expected")
    assert lines[1].startswith(f"INVALID  BAD_FORMAT  {folder.evidence}/b.tlog-proof: expected")
    assert lines[2] == "19 judged: 17 VALID, 2 INVALID, 0 INDETERMINATE"
    assert [line.split() for line in lines[3:7]] == [
        ["VALID_KEY_ACTIVE", "7"],
        ["VALID_KEY_ROTATED", "10"],
        ["BAD_FORMAT", "1"],
        ["LOG_PROOF_INVALID", "1"],
    ]


def test_json_is_a_line_for_each_file_and_a_summary(folder: Folder) -> None:
    """A program reads one object a line, in order, strings throughout, and the summary last."""
    run = folder.verify("--json", folder.evidence)
    *verdicts, last = run.lines
    assert [Path(verdict["path"]).name for verdict in verdicts] == [
        "015.tlog-proof",
        "016.tlog-proof",
        *(f"{number:03}.tlog-proof" for number in range(15)),
    ]
    assert {verdict["outcome"] for verdict in verdicts} == {"VALID"}
    assert last["summary"] == {
        "INDETERMINATE": "0",
        "INVALID": "0",
        "VALID": "17",
        "as_of": {
            "completeness": "operator",
            "cosigned_at": None,
            "registry_size": "8",
            "statement_size": "17",
            "time": COVERED_AT,
        },
        "codes": {"VALID_KEY_ACTIVE": "7", "VALID_KEY_ROTATED": "10"},
        "equivocations": "0",
        "events_compared": "no",
        "forks": "0",
        "judged": "17",
        "missing": "0",
        "policy": "none",
        "unlisted": "0",
        "unreadable": "0",
    }
    verdict, last = folder.verify("--json", one(folder)).lines
    assert (verdict["code"], last["summary"]["judged"]) == ("VALID_KEY_ACTIVE", "1")


def test_every_event_is_compared_with_the_list(folder: Folder) -> None:
    """With the auditor's own hashes, by place, everything is VALID and nothing is left unsaid."""
    run = folder.verify("--events", events(folder), folder.evidence)
    assert run.code == 0
    assert run.out.startswith("17 judged: 17 VALID")
    assert "not compared" not in run.out


@pytest.mark.attacks
def test_a_changed_event_is_found_by_the_list(folder: Folder) -> None:
    """An event that is not the one witnessed is INVALID, and counts as an event without evidence."""
    run = folder.verify("--events", events(folder, wrong=4), folder.evidence)
    assert run.code == 1
    assert "INVALID  EVENT_MISMATCH" in run.out
    assert "MISSING  place 4 of orders: no valid evidence" in run.out


@pytest.mark.attacks
def test_an_event_that_is_not_in_the_list_is_reported(folder: Folder) -> None:
    """Evidence for an event that the store no longer has: a deleted event comes to light."""
    run = folder.verify("--events", events(folder, leave_out=4), folder.evidence)
    assert run.code == 2
    assert f"UNLISTED  {one(folder, 4)}: place 4 of orders is not in the list" in run.out
    *_, finding, last = folder.verify("--json", "--events", folder.path / "events", one(folder, 4), "--json").lines[:3]
    assert (finding["finding"], last["finding"]) == ("unlisted", "missing")


@pytest.mark.attacks
def test_an_event_without_valid_evidence_is_reported(folder: Folder) -> None:
    """A listed event that nobody witnessed, or whose evidence does not hold, is named."""
    one(folder, 4).unlink()
    one(folder, 5).write_bytes(WORLD.attested[5][1].to_json())
    run = folder.verify("--json", "--events", events(folder), folder.evidence)
    assert run.code == 2
    missing = [line["sequence"] for line in run.lines if line.get("finding") == "missing"]
    assert missing == ["4", "5"]
    assert run.lines[-1]["summary"]["missing"] == "2"


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ("orders\t1\n", "line 1: expected stream, sequence and hash"),
        ("\n\norders,1,x\n", "line 3: expected stream, sequence and hash"),
        (f"orders\t01\t{event_hash('orders', 1)}\n", "line 1: expected sequence in decimal"),
        (f"orders\t1\t{event_hash('orders', 1).upper()}\n", "line 1: hash: expected"),
        (f"orders\t1\t{event_hash('orders', 1)}\n" * 2, "line 2: expected every place once"),
        (f"\t1\t{event_hash('orders', 1)}\n", "line 1: stream: expected 1 to 255 bytes"),
        ("x" * 5000, "line 1: expected at most 1024 bytes"),
        ("\x00\n", "line 1: expected stream"),
    ],
)
def test_a_list_of_another_form_is_refused(folder: Folder, lines: str, wrong: str) -> None:
    """A list that cannot be trusted to be what the auditor meant stops the program, with the line's number."""
    (folder.path / "events").write_text(lines)
    run = folder.verify("--events", folder.path / "events", folder.evidence)
    assert (run.code, run.out) == (3, "")
    assert wrong in run.err
    assert len(run.err.splitlines()) == 1


def test_a_list_may_have_windows_line_ends(folder: Folder) -> None:
    """CR LF is a line end, and not part of a hash."""
    listed = events(folder)
    listed.write_bytes(listed.read_bytes().replace(b"\n", b"\r\n"))
    assert folder.verify("--events", listed, folder.evidence).code == 0


EXIT_CODES: dict[str, tuple[Callable[[Folder], list[object]], int]] = {
    "valid": (lambda f: [one(f)], 0),
    "valid by hash": (lambda f: [one(f), "--event-hash", event_hash("orders", 12)], 0),
    "several valid": (lambda f: [one(f, 1), one(f, 2)], 0),
    "invalid": (lambda f: [one(f), "--event-hash", event_hash("orders", 1)], 1),
    "valid and invalid": (lambda f: [one(f, 1), one(f, 2), "--event-hash", event_hash("orders", 1)], 1),
    "envelope alone": (lambda f: [written(f, WORLD.attested[3][1].to_json())], 2),
    "valid and indeterminate": (lambda f: [one(f), written(f, WORLD.attested[3][1].to_json())], 2),
    "indeterminate and invalid": (lambda f: [written(f, WORLD.attested[3][1].to_json()), written(f, b"x", "y")], 1),
    "too large": (lambda f: [written(f, b"x" * (2 << 20))], 1),
    "empty": (lambda f: [written(f, b"")], 1),
    "of another registry": (lambda f: [one(f), "--registry-id", "00" * 32], 1),
    "id in capitals": (lambda f: [one(f), "--registry-id", WORLD.registry_id.upper()], 0),
    "bundle that is none": (lambda f: [one(f), "--bundle", written(f, b"{}")], 1),
    "missing file": (lambda f: [f.path / "nowhere"], 3),
    "missing file among others": (lambda f: [one(f), f.path / "nowhere"], 3),
    "missing bundle": (lambda f: [one(f), "--bundle", f.path / "nowhere"], 3),
    "missing id": (lambda f: [one(f), "--registry-id", f"@{f.path / 'nowhere'}"], 3),
    "missing list": (lambda f: [one(f), "--events", f.path / "nowhere"], 3),
    "bundle that is a folder": (lambda f: [one(f), "--bundle", f.path], 3),
    "list that is a folder": (lambda f: [one(f), "--events", f.path], 3),
    "id that is no id": (lambda f: [one(f), "--registry-id", "12"], 3),
    "hash that is no hash": (lambda f: [one(f), "--event-hash", "12"], 3),
    "hash and list": (lambda f: [one(f), "--event-hash", event_hash("a", 1), "--events", events(f)], 3),
    "folder without evidence": (lambda f: [empty(f)], 3),
    "no such environment": (lambda f: [one(f), "--accept-environment", "staging"], 3),
    "no such option": (lambda f: [one(f), "--colour"], 3),
    "broken link": (lambda f: [linked(f, f.path / "nowhere")], 3),
    "link to evidence": (lambda f: [linked(f, one(f))], 0),
    "a FIFO": (lambda f: [fifo(f)], 3),
    "a FIFO as bundle": (lambda f: [one(f), "--bundle", fifo(f)], 3),
    "a FIFO among others": (lambda f: [fifo(f), one(f)], 3),
    "a FIFO and something invalid": (lambda f: [fifo(f), written(f, b"x")], 1),
    "a socket": (lambda f: [bound(f)], 3),
    "an endless device": (lambda f: ["/dev/zero"], 3),
}


def written(folder: Folder, data: bytes, name: str = "x") -> Path:
    (folder.path / name).write_bytes(data)
    return folder.path / name


def empty(folder: Folder) -> Path:
    (folder.path / "empty").mkdir()
    return folder.path / "empty"


def linked(folder: Folder, target: Path) -> Path:
    (folder.path / "link").symlink_to(target)
    return folder.path / "link"


def fifo(folder: Folder) -> Path:
    os.mkfifo(folder.path / "fifo")
    return folder.path / "fifo"


def bound(folder: Folder) -> Path:
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(folder.path):
        listener.bind("s")
    return folder.path / "s"


@pytest.mark.parametrize("case", EXIT_CODES)
def test_the_exit_code_is_the_published_one(folder: Folder, case: str) -> None:
    """0 VALID, 1 INVALID, 2 INDETERMINATE, 3 could not be judged; what is wrong is one line and never a traceback."""
    arguments, code = EXIT_CODES[case]
    run = folder.verify(*arguments(folder))
    assert run.code == code
    assert "Traceback" not in run.out + run.err
    if code == 3:
        said = [line for line in (run.err + run.out).splitlines() if "witness-verify: " in line or "UNREADABLE" in line]
        assert len(said) == 1


def test_help_and_no_arguments(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """The help tells the exit codes; usage errors are 3, since 2 means INDETERMINATE."""
    assert main(["--help"]) == 0
    assert "2    nothing is INVALID, but something is INDETERMINATE" in capsys.readouterr().out
    assert main([]) == 3
    assert "required: --bundle" in capsys.readouterr().err


def test_development_is_accepted_only_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Statements of a development registry are INVALID until the auditor says that they will do."""
    world = SoftwareRegistry(environment="development")
    evidence = world.evidence(*world.attest(world.new_witness(), 0))
    (tmp_path / "bundle.json").write_bytes(world.bundle().to_json())
    (tmp_path / "e").write_bytes(evidence)
    arguments = ["--bundle", str(tmp_path / "bundle.json"), "--registry-id", world.registry_id, str(tmp_path / "e")]
    assert main(arguments) == 1
    assert main([*arguments, "--accept-environment", "development"]) == 0
    assert "WRONG_ENVIRONMENT" in capsys.readouterr().out


@pytest.mark.attacks
def test_folders_that_lead_astray_are_survived(folder: Folder) -> None:
    """Links in a circle, FIFOs and folders named like evidence: reported or entered, never waited for or followed."""
    (folder.evidence / "round").symlink_to(folder.evidence)
    (folder.evidence / "self.tlog-proof").symlink_to("self.tlog-proof")
    os.mkfifo(folder.evidence / "fifo.tlog-proof")
    (folder.evidence / "sub.tlog-proof").mkdir()
    (folder.evidence / "sub.tlog-proof" / "z.tlog-proof").write_bytes(EVIDENCE[0])
    run = folder.verify("--json", folder.evidence)
    assert run.code == 3
    unreadable = {Path(line["path"]).name for line in run.lines if line.get("finding") == "unreadable"}
    assert unreadable == {"round", "self.tlog-proof", "fifo.tlog-proof"}
    assert run.lines[-1]["summary"]["VALID"] == "18"


@pytest.mark.attacks
def test_names_cannot_write_to_the_terminal(folder: Folder) -> None:
    """A file name with line ends, escape sequences or bytes that are no text is one line of plain characters."""
    for name in (b"a\nVALID  b", b"\x1b[2Jc", b"\xff\xfe", "\u202ed".encode(), "\u2028e".encode()):
        (os.fsencode(folder.evidence) + b"/" + name + b".tlog-proof").decode("utf-8", "surrogateescape")
        with open(os.fsencode(folder.evidence) + b"/" + name + b".tlog-proof", "wb") as file:
            file.write(b"x")
    run = folder.verify(folder.evidence)
    lines = [line for line in run.out.split("\n") if "BAD_FORMAT  /" in line]
    assert len(lines) == 5
    assert all(line.isprintable() and line.isascii() for line in lines)
    assert all(json.dumps(line) for line in folder.verify("--json", folder.evidence).lines)


@pytest.mark.attacks
def test_a_stream_name_cannot_write_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names from inside a statement are data of whoever wrote the event, and printed as such."""
    world = SoftwareRegistry()
    index, signed = world.attest(world.new_witness(), 0, stream="\u202eorders\u2028VALID")
    (tmp_path / "bundle.json").write_bytes(world.bundle().to_json())
    (tmp_path / "e").write_bytes(world.evidence(index, signed))
    assert (
        main(["--bundle", str(tmp_path / "bundle.json"), "--registry-id", world.registry_id, str(tmp_path / "e")]) == 0
    )
    assert "0 of \\u202eorders\\u2028VALID (production)" in capsys.readouterr().out


def many(folder: Folder, count: int) -> Path:
    path = folder.path / "many"
    path.mkdir()
    for number in range(count):
        os.link(one(folder, number % 17), path / f"{number:05}.tlog-proof")
    (path / f"{count // 2:05}.tlog-proof").unlink()
    (path / f"{count // 2:05}.tlog-proof").write_bytes(FORGED)
    return path


@contextlib.contextmanager
def program(folder: Folder, *arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The real program in a process group of its own, ended whatever happens."""
    command = [sys.executable, "-m", "key_registry.verify", *folder.arguments(*arguments)]
    # Where the tests run in the background SIGINT may be ignored, which a program inherits; a handler it does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "", **options.pop("environment", {})}
    process = subprocess.Popen(command, text=True, env=environment, start_new_session=True, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


def test_many_files_are_judged_by_every_core(folder: Folder) -> None:
    """The report is the same as from one process: every file once, in order, and the forgery found."""
    path = many(folder, 600)
    listed = events(folder)
    with program(folder, "--json", "--events", listed, path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")
    lines = [json.loads(line) for line in out.splitlines()]
    names = [Path(line["path"]).name for line in lines if "code" in line]
    assert names == [f"{number:05}.tlog-proof" for number in range(600)]
    assert lines[-1]["summary"]["codes"]["LOG_PROOF_INVALID"] == "1"
    assert [lines[-1]["summary"][name] for name in ("VALID", "unlisted", "missing")] == ["599", "1", "0"]


def test_an_interrupt_ends_it_quietly(folder: Folder) -> None:
    """Ctrl-C reaches the whole process group while it is at work: exit code 130, and nothing printed about it."""
    path = many(folder, 20_000)
    (path / "0.tlog-proof").write_bytes(FORGED)
    with program(folder, path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("INVALID  LOG_PROOF_INVALID")
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


def test_a_reader_that_goes_ends_it_quietly(folder: Folder) -> None:
    """As in `witness-verify ... | head -1`."""
    path = many(folder, 600)
    with program(folder, "--json", path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 141
        process.stdout = None
    assert err == ""


def test_too_little_memory_is_said(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle of many small values takes far more memory than bytes; it is refused in a line, not a traceback."""

    def parse(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("key_registry.canonical_json._parse", parse)
    run = folder.verify(folder.evidence)
    assert (run.code, run.out) == (3, "")
    assert run.err == "witness-verify: there is not enough memory to read the files\n"


def test_a_full_disk_is_said(folder: Folder) -> None:
    """A report that cannot be written is no report."""
    with (
        open("/dev/full", "w") as full,
        program(folder, folder.evidence, stdout=full, stderr=subprocess.PIPE) as process,
    ):
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert err == "witness-verify: cannot print the report: No space left on device\n"


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_that_want_them(folder: Folder, no_color: str, coloured: bool) -> None:
    """On a terminal the outcome is coloured, unless NO_COLOR is set; a pipe never gets colours."""
    ours, theirs = pty.openpty()
    try:
        with program(folder, one(folder), stdout=theirs, environment={"NO_COLOR": no_color}) as process:
            assert process.wait(timeout=60) == 0
        assert (b"\x1b[32mVALID\x1b[0m" in os.read(ours, 65536)) == coloured
    finally:
        os.close(ours)
        os.close(theirs)
    assert "\x1b" not in folder.verify(one(folder)).out


def test_long_work_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second second on, on a terminal only, and taken away before anything else is printed."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown_on(stream: io.StringIO, total: int | None, *times: float) -> str:
        clock = iter(times)
        monkeypatch.setattr("time.monotonic", lambda: next(clock))
        monkeypatch.setattr(sys, "stderr", stream)
        progress = Progress()
        for count in (100, 2000, 2100, 4000):
            progress.show("pieces judged", count, total)
        progress.clear()
        progress.clear()
        monkeypatch.undo()
        return stream.getvalue()

    assert shown_on(Terminal(), None, 0.0, 0.5, 2.0, 2.1, 4.0).split("\r\x1b[K") == [
        "",
        "2,000 pieces judged, 1,000 per second",
        "4,000 pieces judged, 1,000 per second",
        "",
    ]
    assert shown_on(Terminal(), 4_000_000, 0.0, 0.5, 2.0, 2.1, 4.0).split("\r\x1b[K")[1:3] == [
        "2,000 of 4,000,000 pieces judged, 1,000 per second, 1 h 06 min left",
        "4,000 of 4,000,000 pieces judged, 1,000 per second, 1 h 06 min left",
    ]
    assert "105 of" not in shown_on(Terminal(), 105, 0.0, 0.5, 2.0, 2.1, 4.0)
    assert shown_on(io.StringIO(), 5000, 0.0, 0.5, 2.0, 2.1, 4.0) == ""


def test_it_starts_with_little() -> None:
    """An auditor's laptop has Python and cryptography; what only large folders need is not even loaded."""
    script = "import key_registry.verify, sys; print(*{name.split('.')[0] for name in sys.modules})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    loaded = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"asyncio", "concurrent", "multiprocessing", "sqlite3", "tempfile", "pydantic", "psycopg"} & set(loaded)
    known = sys.stdlib_module_names | {"key_registry", "cryptography", "_cffi_backend", "__main__"}
    assert {name for name in loaded if name not in known and not name.startswith(("_", "sitecustomize"))} == set()


@pytest.mark.attacks
@settings(max_examples=60)
@given(
    at=st.integers(0, 3000),
    cut=st.integers(0, 40),
    piece=st.binary(max_size=20),
    in_bundle=st.booleans(),
    as_json=st.booleans(),
)
def test_no_mutated_file_makes_it_fail(at: int, cut: int, piece: bytes, in_bundle: bool, as_json: bool) -> None:
    """Bundle or evidence damaged anyhow: an exit code, a report, and VALID only for what says the same."""
    data = BUNDLE if in_bundle else EVIDENCE[12]
    data = data[:at] + piece + data[at + cut :]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as out:
        bundle, evidence = Path(folder, "bundle"), Path(folder, "evidence")
        bundle.write_bytes(data if in_bundle else BUNDLE)
        evidence.write_bytes(EVIDENCE[12] if in_bundle else data)
        arguments = ["--bundle", str(bundle), "--registry-id", WORLD.registry_id, str(evidence)]
        code = main([*arguments, *["--json"] * as_json])
    assert code in (0, 1, 2)
    assert out.getvalue()
    if code == 0:
        same = Bundle.from_json(data) == Bundle.from_json(BUNDLE) if in_bundle else None
        assert same or Evidence.read(data) == Evidence.read(EVIDENCE[12])
