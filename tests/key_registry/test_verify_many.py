"""witness-verify over more evidence than memory holds, and over folders made to trip it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from key_registry import sorted_names
from key_registry.cannot_run import NoRoom
from key_registry.contradiction_index import ContradictionIndex
from key_registry.evidence_files import find_evidence, read_regular
from key_registry.export import to_line
from key_registry.held_lines import HeldLines
from key_registry.sorted_names import SortedNames
from tests.key_registry.auditor import Auditor
from tests.key_registry.software_registry import RotatedRegistry

ROOT = Path(__file__).parents[2]
WORLD = RotatedRegistry()

# Prints the exit code and the largest memory of the program and of the processes it started, in KiB.
MEASURED = """
import resource, sys
from key_registry.verify import main
if __name__ == "__main__":
    code = main(sys.argv[1:])
    usage = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(code, *usage, file=sys.stderr)
"""


@pytest.fixture
def auditor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Auditor:
    return Auditor.of(WORLD, tmp_path, capsys)


def measured(auditor: Auditor, *arguments: object) -> tuple[int, int, int]:
    command = [sys.executable, "-c", MEASURED, *auditor.arguments(*arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=100
    )
    code, own, children = map(int, done.stderr.split())
    return code, own, children


@pytest.mark.slow
def test_memory_does_not_grow_with_the_evidence(auditor: Auditor) -> None:
    """Twenty times the evidence, most of it failing, in JSON with a page: not half as much memory again."""
    valid = b"".join(to_line(WORLD.genuine(number)) for number in range(17))
    lines = valid + b'{"evidence":"x"}\n' * 983
    few = auditor.write("few.evidence.jsonl", lines)
    many = auditor.write("many.evidence.jsonl", lines * 20)
    page = auditor.path / "page.html"
    small = measured(auditor, "--json", "--html", page, few)
    large = measured(auditor, "--json", "--html", page, many)
    assert (small[0], large[0]) == (1, 1)
    assert page.read_text().count('<tr><td><b class="INVALID">BAD_FORMAT') > 19_000
    for before, after in zip(small[1:], large[1:], strict=True):
        assert after < before * 1.5


def test_a_folder_of_very_many_files_is_sorted_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names come out in order whether they fit in memory or not; bytes that are no text are names too."""
    monkeypatch.setattr(sorted_names, "HELD", 1000)
    names = [f"{number * 7919 % 3011:05}.tlog-proof" for number in range(3011)] + ["\udcff\n.tlog-proof"]
    source = tmp_path / "x"
    source.write_bytes(b"x")
    folder = tmp_path / "many"
    folder.mkdir()
    for name in names:
        os.link(source, folder / name)
    assert len(names) > 3 * sorted_names.HELD
    found = [os.path.basename(piece.path) for piece in find_evidence([str(folder)])]
    assert found == sorted(names, key=os.fsencode)
    held: list[int] = []
    monkeypatch.setattr(SortedNames, "add", _watched(SortedNames.add, held))
    assert sum(1 for _ in find_evidence([str(folder)])) == len(names)
    assert max(held) <= sorted_names.HELD


def _watched(add, held):
    def watched(self, name):
        add(self, name)
        held.append(len(self._held))

    return watched


def test_a_full_disk_for_temporary_files_is_said(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room to compare nothing can be called VALID: exit code 3, one line, and what to do."""
    auditor.add("a", WORLD.genuine(1))
    auditor.add("b", WORLD.genuine(2))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("key_registry.held_lines.TemporaryFile", full)
    run = auditor.verify("--json", auditor.evidence)
    assert (run.code, run.out) == (3, "")
    assert run.err == (
        "witness-verify: no room for temporary files: No space left on device; TMPDIR says where they go\n"
    )


def test_a_database_that_cannot_grow_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise where SQLite finds out."""
    with ContradictionIndex() as index:
        index._database.execute("PRAGMA max_page_count = 1")
        with pytest.raises(NoRoom, match="full"):
            list(index._rows("INSERT INTO clash SELECT randomblob(900000), NULL, NULL RETURNING 1"))


def test_lines_are_held_in_their_order() -> None:
    """What went in comes out, whatever was added together."""
    with HeldLines() as held:
        held.add(["a\nb", "", "c"])
        held.add(["d"])
        assert list(held) == [(0, ["a\nb", "", "c"]), (3, ["d"])]


@pytest.mark.attacks
def test_folders_made_to_trip_it(auditor: Auditor) -> None:
    """Very deep folders, circles of links, FIFOs and devices, files nobody may read: each is entered or reported."""
    deep = auditor.evidence
    for _ in range(300):
        deep = deep / "d"
        deep.mkdir()
    (deep / "x.tlog-proof").write_bytes(WORLD.genuine(3))
    (auditor.evidence / "a").symlink_to("b")
    (auditor.evidence / "b").symlink_to("a")
    (auditor.evidence / "up").symlink_to("..")
    (auditor.evidence / "up.evidence.jsonl").symlink_to("..")
    (auditor.evidence / "zero.evidence.jsonl").symlink_to("/dev/zero")
    os.mkfifo(auditor.evidence / "fifo.evidence.jsonl")
    run = auditor.verify("--json", auditor.evidence)
    assert run.code == 3
    unreadable = {Path(line["path"]).name for line in run.findings("unreadable")}
    assert unreadable == {"up", "up.evidence.jsonl", "zero.evidence.jsonl", "fifo.evidence.jsonl"}
    assert run.codes() == {"x.tlog-proof": "VALID_KEY_ROTATED"}


@pytest.mark.attacks
@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="cannot count what a process has open")
def test_folders_that_are_named_like_evidence_use_nothing_up(tmp_path: Path) -> None:
    """A descriptor kept for each of them would soon make genuine evidence unreadable."""
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        with pytest.raises(OSError, match="expected a regular file"):
            read_regular(str(tmp_path), 1)
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.attacks
def test_a_file_that_changes_between_judging_and_reporting(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence of an equivocation that is not what it was when it was judged is not passed off as it."""
    from tests.key_registry.test_contradiction import Forked

    world = Forked()
    (auditor.path / "bundle.json").write_bytes(world.bundle().to_json())
    (auditor.path / "id").write_text(world.registry_id)
    path = auditor.add("a", world.genuine(12))
    auditor.add("b", world.evidence(*world.twice))
    resolve = ContradictionIndex.resolve

    def resolve_late(self: ContradictionIndex) -> object:
        path.write_bytes(b"x")
        return resolve(self)

    monkeypatch.setattr(ContradictionIndex, "resolve", resolve_late)
    run = auditor.verify(auditor.evidence)
    assert run.code == 3
    assert "expected the evidence in" in run.err


def test_an_unreadable_file_is_reported(auditor: Auditor) -> None:
    """As somebody who may not read it."""
    path = auditor.add("a", WORLD.genuine(1))
    auditor.add("b", WORLD.genuine(2))
    path.chmod(0)
    if os.access(path, os.R_OK):
        path.unlink()
        path.symlink_to("gone")
    run = auditor.verify("--json", auditor.evidence)
    assert (run.code, len(run.findings("unreadable")), run.summary["VALID"]) == (3, 1, "1")
