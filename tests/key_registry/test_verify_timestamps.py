"""witness-verify with RFC 3161 tokens: they narrow the time of a verdict, and never decide it."""

from pathlib import Path

import pytest

from key_registry.checkpoint import Checkpoint
from tests.fix_timestamp_authority import TimestampAuthority
from tests.key_registry.auditor import Auditor
from tests.key_registry.software_registry import RotatedRegistry

WORLD = RotatedRegistry()
LOG = WORLD.statements
NAME = f"checkpoint-{LOG.size}.tsr"


@pytest.fixture
def auditor(tmp_path: Path, capsys: pytest.CaptureFixture[str], timestamp_authority: TimestampAuthority) -> Auditor:
    auditor = Auditor.of(WORLD, tmp_path, capsys)
    auditor.write("roots.pem", timestamp_authority.roots_pem)
    return auditor


def text(root: bytes | None = None) -> str:
    return Checkpoint(LOG.origin, LOG.size, LOG.root() if root is None else root).text()


@pytest.mark.parametrize("beside", [True, False])
def test_a_token_says_by_when_the_evidence_existed(
    auditor: Auditor, timestamp_authority: TimestampAuthority, beside: bool
) -> None:
    """Beside the evidence or in a folder of its own, for one file and for many; named as what it is."""
    folder = auditor.evidence if beside else auditor.path / "tokens"
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_bytes(timestamp_authority.response(text()))
    paths = [auditor.add("a", WORLD.genuine(3)), auditor.add("b", WORLD.genuine(12))]
    given = ["--tsa-roots", auditor.path / "roots.pem", *([] if beside else ["--timestamps", folder])]
    for run in (auditor.verify("--json", *given, paths[0]), auditor.verify("--json", *given, auditor.evidence)):
        assert (run.code, run.err) == (0, "")
        bounds = [line["existed_by"] for line in run.lines if "code" in line]
        assert bounds
        assert {bound["source"] for bound in bounds} == {"timestamp authority"}
    said = auditor.verify(*given, paths[0]).out
    assert "as a timestamp authority confirmed" in " ".join(said.split())


def test_roots_that_are_none_are_said_before_anything_is_judged(auditor: Auditor) -> None:
    """Also where there is no token that would have needed them."""
    evidence = auditor.add("a", WORLD.genuine(3))
    run = auditor.verify("--tsa-roots", auditor.path / "id", evidence)
    assert (run.code, run.out) == (3, "")
    assert run.err.startswith(f"witness-verify: cannot use {auditor.path / 'id'}: expected certificates in PEM")


@pytest.mark.attacks
def test_a_token_that_does_not_hold_is_not_used(auditor: Auditor, timestamp_authority: TimestampAuthority) -> None:
    """Over another root, garbage, or too large: the verdict is that without it, and the auditor is told once."""
    evidence = auditor.add("a", WORLD.genuine(3))
    roots = ["--tsa-roots", auditor.path / "roots.pem"]
    for token in (timestamp_authority.response(text(bytes(32))), b"x", bytes(100_000)):
        (auditor.evidence / NAME).write_bytes(token)
        for run in (auditor.verify("--json", *roots, evidence), auditor.verify("--json", *roots, auditor.evidence)):
            assert run.code == 0
            assert run.lines[0]["existed_by"] is None
            assert run.err.startswith(f"witness-verify: the timestamp {auditor.evidence / NAME} is not used: expected")
            assert len(run.err.splitlines()) == 1


def test_without_roots_nobody_is_trusted(auditor: Auditor) -> None:
    """Tokens beside the evidence are passed over; asking for tokens without saying whom to trust is an error."""
    (auditor.evidence / NAME).write_bytes(b"x")
    evidence = auditor.add("a", WORLD.genuine(3))
    run = auditor.verify("--json", evidence)
    assert (run.code, run.err, run.lines[0]["existed_by"]) == (0, "", None)
    run = auditor.verify("--timestamps", auditor.evidence, evidence)
    assert (run.code, run.out) == (3, "")
    assert "expected --tsa-roots" in run.err


def test_without_the_library_it_is_said(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The auditor's install has no library for tokens; what to install is in the message."""
    monkeypatch.setitem(__import__("sys").modules, "rfc3161_client", None)
    run = auditor.verify("--tsa-roots", auditor.path / "roots.pem", auditor.add("a", WORLD.genuine(3)))
    assert (run.code, run.out) == (3, "")
    assert "install witness-service with the extra" in run.err
