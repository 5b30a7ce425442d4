"""Contradictions: whoever compares two pieces of evidence or two copies finds out, and has both in hand."""

import json
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from key_registry import contradiction, merkle, note
from key_registry.checkpoint import open_checkpoint
from key_registry.contradiction import Equivocation, Fork, compare
from key_registry.dsse import Envelope
from key_registry.evidence import Evidence
from key_registry.export import to_line
from key_registry.note import NoteSignature
from key_registry.tlog_proof import TlogProof
from key_registry.verdict import Code
from tests.key_registry.auditor import Auditor
from tests.key_registry.software_registry import (
    MemoryLog,
    RotatedRegistry,
    SoftwareCosigner,
    SoftwareKey,
    SoftwareRegistry,
    event_hash,
    policy_of,
    witness,
)

ROOT = Path(__file__).parents[2]
PRODUCTION = frozenset({"production"})
OTHER_HASH = event_hash("orders", 999)


class Forked(RotatedRegistry):
    """A registry whose operator attested place 12 twice, and keeps a second statement log with a leaf exchanged.

    `twice` is the second attestation of place 12, in the same log. `aside(size)` is evidence from the second log.
    """

    def __init__(self) -> None:
        super().__init__()
        self.twice = self.attest(self.b, 12, event_hash=OTHER_HASH)
        self.second = MemoryLog(self.statements.origin, self.statements.key)
        self.second.leaf_hashes = list(self.statements.leaf_hashes)
        self.aside_signed = self.sign(self.b, 50)
        self.second.leaf_hashes[11] = merkle.leaf_hash(self.aside_signed.entry())

    def aside(self, size: int) -> bytes:
        proof = TlogProof(11, self.second.proof(11, size), self.second.checkpoint(size), None)
        return Evidence(self.aside_signed, proof).to_bytes()

    def early(self, number: int, size: int) -> bytes:
        index, signed = self.attested[number]
        return self.evidence(index, signed, size)


@pytest.fixture(scope="module")
def world() -> Forked:
    return Forked()


@pytest.fixture
def auditor(world: Forked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Auditor:
    return Auditor.of(world, tmp_path, capsys)


# -- two pieces ----------------------------------------------------------------------------------------------------


@pytest.mark.attacks
def test_two_hashes_for_one_place_are_an_equivocation(world: Forked) -> None:
    """Each is VALID alone; together they are the proof, with both sides in it."""
    one, other = world.genuine(12), world.evidence(*world.twice)
    found = compare(world.open(), one, other, environments=PRODUCTION)
    assert isinstance(found, Equivocation)
    assert (found.place, found.first.evidence, found.second.evidence) == (("orders", 12), one, other)
    assert [side.verdict.code for side in (found.first, found.second)] == [Code.VALID_KEY_ACTIVE] * 2


@pytest.mark.attacks
def test_two_roots_of_one_size_are_a_fork(world: Forked) -> None:
    """Of a size that the bundle says nothing about; both notes are in the proof and hold on their own."""
    found = compare(world.open(), world.early(10, 13), world.aside(13), environments=PRODUCTION)
    assert isinstance(found, Fork)
    log = world.statements
    roots = [
        open_checkpoint(side.signed.encode(), log.origin, log.key.public).root for side in (found.first, found.second)
    ]
    assert roots == [world.statements.root(13), world.second.root(13)]


def test_what_does_not_contradict(world: Forked) -> None:
    """The same piece twice, other places, other sizes, another witness with the same hash, and what is not VALID."""
    again = RotatedRegistry()
    third = again.new_witness(3)
    second_witness = again.evidence(*again.attest(third, 12))
    assert compare(again.open(), again.genuine(12), second_witness, environments=PRODUCTION) is None
    trusted, genuine = world.open(), world.genuine(12)
    forged = world.proven(world.sign(world.a, 12, event_hash=OTHER_HASH))
    for other in (genuine, world.genuine(13), world.early(12, 14), forged, b"", world.attested[12][1].to_json()):
        assert compare(trusted, genuine, other, environments=PRODUCTION) is None


@pytest.mark.attacks
def test_a_replaced_log_key_contradicts_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever has stolen a log key that the leads have replaced cannot make a fork of honest evidence."""
    world = RotatedRegistry()
    honest = world.evidence(*world.attested[10], 13)
    stolen = MemoryLog(world.statements.origin, world.statements.key)
    stolen.leaf_hashes = [bytes([number]) * 32 for number in range(13)]
    world.change_policy(statement_key=SoftwareKey("new statement log"))
    forged = Evidence(world.attested[11][1], TlogProof(11, stolen.proof(11), stolen.checkpoint(), None)).to_bytes()
    found = compare(world.open(), honest, forged, environments=PRODUCTION)
    assert isinstance(found, Fork)
    assert [side.counts for side in (found.first, found.second)] == [False, False]
    auditor = Auditor.of(world, tmp_path, capsys)
    auditor.add("a", world.evidence(*world.attested[10]))
    auditor.add("b", honest)
    auditor.add("c", forged)
    run = auditor.verify("--json", auditor.evidence)
    assert list(run.codes().values()) == ["VALID_KEY_ACTIVE", "NOT_LOGGED", "LOG_PROOF_INVALID"]
    assert (run.code, run.summary["forks"]) == (1, "1")


@pytest.mark.attacks
def test_a_stolen_log_key_contradicts_nothing_that_is_cosigned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the cosigners a thief with the log's key shows that it was abused, and takes nothing from anybody."""
    cosigner = SoftwareCosigner("bystander")
    world = SoftwareRegistry()
    key = world.new_witness()
    world.change_policy(policy_of(cosigner), cosigned_by=[cosigner])
    attested = [world.attest(key, number) for number in range(4)]
    honest = world.evidence(*attested[1], 3, cosigned_by=[cosigner])
    stolen = MemoryLog(world.statements.origin, world.statements.key)
    signed = world.sign(key, 50)
    stolen.leaf_hashes = [*world.statements.leaf_hashes[:2], merkle.leaf_hash(signed.entry())]
    forged = Evidence(signed, TlogProof(2, stolen.proof(2), stolen.checkpoint(), None)).to_bytes()
    auditor = Auditor.of(world, tmp_path, capsys)
    (auditor.path / "bundle.json").write_bytes(world.bundle(cosigned_by=[cosigner]).to_json())
    auditor.add("honest", honest)
    auditor.add("forged", forged)
    run = auditor.verify("--json", auditor.evidence)
    assert run.codes() == {"honest.tlog-proof": "VALID_KEY_ACTIVE", "forged.tlog-proof": "LOG_FORK"}
    assert (run.code, run.summary["forks"]) == (1, "1")


@pytest.mark.attacks
@pytest.mark.parametrize("first", ["honest", "forged"])
def test_a_copy_without_cosignatures_does_not_hide_who_cosigned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: str
) -> None:
    """With a corrupt cosigner both histories have a quorum, and whoever strips one of them shields none of them."""
    one, corrupt, other = cosigners = [SoftwareCosigner(name) for name in ("one", "corrupt", "other")]
    world = SoftwareRegistry(policy=policy_of(*cosigners, threshold=2))
    key = world.new_witness()
    attested = [world.attest(key, number) for number in range(3)]
    aside = MemoryLog(world.statements.origin, world.statements.key, world.now)
    signed = world.sign(key, 50)
    aside.leaf_hashes = [*world.statements.leaf_hashes[:2], merkle.leaf_hash(signed.entry())]

    def forged(*by: SoftwareCosigner) -> bytes:
        return Evidence(signed, TlogProof(2, aside.proof(2), aside.checkpoint(cosigned_by=by), None)).to_bytes()

    world.attest(key, 3)
    auditor = Auditor.of(world, tmp_path, capsys)
    (auditor.path / "bundle.json").write_bytes(world.bundle(cosigned_by=cosigners).to_json())
    auditor.add("a", world.evidence(*attested[1], 3) if first == "honest" else forged())
    auditor.add("b", world.evidence(*attested[1], 3, cosigned_by=[one, corrupt]))
    auditor.add("c", forged(corrupt, other))
    run = auditor.verify("--json", auditor.evidence)
    assert set(run.codes().values()) == {"LOG_FORK"}


def test_the_memory_for_checkpoints_is_bounded(world: Forked) -> None:
    """Lines by strangers below a genuine checkpoint cost the file they are in, and nothing after it."""
    trusted, (_, signed) = world.open(), world.attested[12]
    line = NoteSignature("stranger.example/key", b"key1", bytes(700_000))
    opened = note.parse(world.statements.checkpoint())
    tracemalloc.start()
    try:
        for number in range(12):
            padded = note.serialize(opened.text, [*opened.signatures, replace(line, key_hash=b"key%c" % number)])
            evidence = Evidence(signed, TlogProof(12, (), padded, None)).to_bytes()
            assert contradiction.evidence_head(trusted, evidence, "here") is not None
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 3_000_000


# -- many pieces ---------------------------------------------------------------------------------------------------


@pytest.mark.attacks
def test_both_pieces_are_equivocation_in_a_batch(world: Forked, auditor: Auditor) -> None:
    """Wherever they are, file or line of an export: verdicts, counts and exit code say so, and both are named."""
    for number in (10, 11, 12):
        auditor.add(f"{number}", world.genuine(number))
    export = auditor.write("b.evidence.jsonl", to_line(world.genuine(13)) + to_line(world.evidence(*world.twice)))
    run = auditor.verify("--json", auditor.evidence, export)
    assert run.code == 1
    assert run.codes() == {
        "10.tlog-proof": "VALID_KEY_ACTIVE",
        "11.tlog-proof": "VALID_KEY_ACTIVE",
        "12.tlog-proof": "EQUIVOCATION",
        "b.evidence.jsonl:1": "VALID_KEY_ACTIVE",
        "b.evidence.jsonl:2": "EQUIVOCATION",
    }
    assert run.summary["codes"] == {"VALID_KEY_ACTIVE": "3", "EQUIVOCATION": "2"}
    assert (run.summary["VALID"], run.summary["INVALID"], run.summary["equivocations"]) == ("3", "2", "1")
    (finding,) = run.findings("equivocation")
    assert (finding["stream"], finding["sequence"]) == ("orders", "12")
    assert [Path(side["source"]).name for side in finding["evidence"]] == ["12.tlog-proof", "b.evidence.jsonl:2"]
    assert [side["event_hash"] for side in finding["evidence"]] == [event_hash("orders", 12), OTHER_HASH]
    contradicted = {line["contradicted_by"] for line in run.lines if "contradicted_by" in line}
    assert contradicted == {f"{export}:2", str(auditor.evidence / "12.tlog-proof")}


@pytest.mark.attacks
def test_an_equivocation_is_shown_as_text(world: Forked, auditor: Auditor) -> None:
    """Both files and both hashes, for people."""
    paths = [auditor.add("a", world.genuine(12)), auditor.add("b", world.evidence(*world.twice))]
    run = auditor.verify(*paths)
    assert run.code == 1
    assert "INVALID  EQUIVOCATION  place 12 of orders: expected one event hash" in run.out
    for fact in (*map(str, paths), event_hash("orders", 12), OTHER_HASH, "2 judged: 0 VALID, 2 INVALID"):
        assert fact in run.out


@pytest.mark.attacks
def test_an_event_is_not_witnessed_by_what_is_contradicted(world: Forked, auditor: Auditor) -> None:
    """A list of events does not take a forked log's word: the event counts as missing."""
    auditor.add("a", world.early(10, 13))
    auditor.add("b", world.aside(13))
    listed = auditor.write("events", f"orders\t10\t{event_hash('orders', 10)}\n".encode())
    run = auditor.verify("--json", "--events", listed, auditor.evidence)
    assert run.codes() == {"a.tlog-proof": "LOG_FORK", "b.tlog-proof": "LOG_FORK"}
    assert [finding["sequence"] for finding in run.findings("missing")] == ["10"]


def test_more_than_two_pieces_of_one_place(world: Forked, auditor: Auditor) -> None:
    """Copies count as what they are; three hashes for a place make all of its pieces EQUIVOCATION, and one finding."""
    auditor.add("a", world.genuine(12))
    auditor.add("b", world.genuine(12))
    assert auditor.verify("--json", auditor.evidence).code == 0
    again = Forked()
    third = again.attest(again.b, 12, event_hash=event_hash("orders", 998))
    (auditor.path / "bundle.json").write_bytes(again.bundle().to_json())
    auditor.add("c", again.evidence(*again.twice))
    auditor.add("d", again.evidence(*third))
    run = auditor.verify("--json", auditor.evidence)
    assert set(run.codes().values()) == {"EQUIVOCATION"}
    assert len(run.findings("equivocation")) == 1


@pytest.mark.attacks
def test_a_fork_between_files(world: Forked, auditor: Auditor) -> None:
    """Where the bundle knows no root, nobody can say which side is true: both are LOG_FORK, and both notes shown."""
    auditor.add("a", world.early(10, 13))
    auditor.add("b", world.aside(13))
    auditor.add("c", world.genuine(14))
    run = auditor.verify("--json", auditor.evidence)
    assert run.code == 1
    assert run.codes() == {"a.tlog-proof": "LOG_FORK", "b.tlog-proof": "LOG_FORK", "c.tlog-proof": "VALID_KEY_ACTIVE"}
    (fork,) = run.findings("fork")
    assert (fork["log"], fork["size"]) == ("statements", "13")
    assert {head["root"] for head in fork["checkpoints"]} == {
        world.statements.root(13).hex(),
        world.second.root(13).hex(),
    }
    text = auditor.verify(auditor.evidence).out
    assert "INVALID  LOG_FORK  expected one root of the statement log at size 13" in text
    assert text.count(f"      {world.statements.origin}\n      13\n") == 2


@pytest.mark.attacks
def test_a_fork_from_the_bundle_leaves_what_agrees_with_it(world: Forked, auditor: Auditor) -> None:
    """A thief with the log's key cannot make evidence invalid that agrees with the registry's own records."""
    size = world.statements.size
    auditor.add("a", world.genuine(12))
    auditor.add("b", world.aside(size))
    run = auditor.verify("--json", auditor.evidence)
    assert run.code == 1
    assert run.codes() == {"a.tlog-proof": "VALID_KEY_ACTIVE", "b.tlog-proof": "LOG_FORK"}
    (fork,) = run.findings("fork")
    assert [head["source"].rpartition("/")[2] for head in fork["checkpoints"]] == [
        "bundle.json, coverage",
        "b.tlog-proof",
    ]
    alone = auditor.verify("--json", auditor.evidence / "b.tlog-proof")
    assert alone.code == 1
    assert len(alone.findings("fork")) == 1


@pytest.mark.attacks
def test_a_fork_beyond_the_bundle(world: Forked, auditor: Auditor) -> None:
    """Evidence too new to be judged still proves a fork."""
    (auditor.path / "bundle.json").write_bytes(world.old_bundle.to_json())
    auditor.add("a", world.early(9, 13))
    assert auditor.verify("--json", auditor.evidence).codes() == {"a.tlog-proof": "BUNDLE_TOO_OLD"}
    signed = world.attested[9]
    proof = TlogProof(9, world.second.proof(9, 13), world.second.checkpoint(13), None)
    auditor.add("b", Evidence(signed[1], proof).to_bytes())
    run = auditor.verify("--json", auditor.evidence)
    assert (run.code, set(run.codes().values())) == (1, {"LOG_FORK"})


def test_contradictions_across_processes(world: Forked, auditor: Auditor) -> None:
    """First and last of many pieces, judged by different processes, are compared all the same."""
    lines = [to_line(world.genuine(number % 15)) for number in range(600)]
    lines = [line for number, line in enumerate(lines) if number % 15 != 12]
    lines = [to_line(world.genuine(12)), *lines, to_line(world.evidence(*world.twice))]
    export = auditor.write("all.evidence.jsonl", b"".join(lines))
    command = [sys.executable, "-m", "key_registry.verify", *auditor.arguments("--json", export)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stderr) == (1, "")
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    equivocations = [line["line"] for line in verdicts if line.get("code") == "EQUIVOCATION"]
    assert equivocations == ["1", str(len(lines))]
    assert [line["line"] for line in verdicts if "code" in line] == [str(number + 1) for number in range(len(lines))]


# -- copies and checkpoints from elsewhere ---------------------------------------------------------------------------


@pytest.mark.attacks
@pytest.mark.parametrize("log", ["registry", "statements"])
def test_a_checkpoint_from_elsewhere_that_contradicts_the_bundle(world: Forked, auditor: Auditor, log: str) -> None:
    """A cosigner saw another history: nothing can be judged by the bundle, and both heads are shown."""
    origin = world.registry_log if log == "registry" else world.second
    root = bytes(32) if log == "registry" else world.second.root()
    seen = auditor.write("seen", origin.checkpoint(None, root))
    run = auditor.verify("--json", "--checkpoint", seen, auditor.add("a", world.genuine(12)))
    assert (run.code, [line["code"] for line in run.lines if "code" in line]) == (1, ["LOG_FORK"])
    (fork,) = run.findings("fork")
    assert fork["log"] == log
    assert str(seen) in [head["source"] for head in fork["checkpoints"]]


@pytest.mark.attacks
def test_a_checkpoint_from_elsewhere_that_contradicts_evidence(world: Forked, auditor: Auditor) -> None:
    """Of a size that the bundle does not know: the evidence is LOG_FORK, alone and among others."""
    seen = auditor.write("seen", world.statements.checkpoint(13))
    forged, honest = auditor.add("b", world.aside(13)), auditor.add("a", world.early(10, 13))
    assert auditor.verify("--json", "--checkpoint", seen, forged).codes() == {"b.tlog-proof": "LOG_FORK"}
    assert auditor.verify("--json", "--checkpoint", seen, honest).code == 0
    run = auditor.verify("--json", "--checkpoint", seen, auditor.evidence)
    assert run.codes() == {"a.tlog-proof": "VALID_KEY_ACTIVE", "b.tlog-proof": "LOG_FORK"}


def test_checkpoints_that_agree_or_are_none(world: Forked, auditor: Auditor) -> None:
    """What agrees changes nothing; what is no checkpoint of this registry is the caller's error, never a verdict."""
    evidence = auditor.add("a", world.genuine(12))
    agreeing = [world.statements.checkpoint(5), world.registry_log.checkpoint(4), world.registry_log.checkpoint()]
    paths = [auditor.write(f"c{number}", data) for number, data in enumerate(agreeing)]
    given = [argument for path in paths for argument in ("--checkpoint", path)]
    assert auditor.verify(*given, evidence).code == 0
    stranger = MemoryLog("other.example/log", SoftwareKey("other"))
    thief = MemoryLog(world.statements.origin, SoftwareKey("other"))
    for number, log in enumerate((stranger, thief)):
        log.leaf_hashes = [bytes(32)]
        run = auditor.verify("--checkpoint", auditor.write(f"x{number}", log.checkpoint()), evidence)
        assert (run.code, run.out) == (3, "")
    run = auditor.verify("--checkpoint", auditor.write("x", b"x" * 100), evidence)
    assert (run.code, len(run.err.splitlines())) == (3, 1)


@pytest.mark.attacks
def test_two_registry_histories(auditor: Auditor) -> None:
    """An operator who shows two auditors two rotations is found out when they compare their bundles."""
    world = Forked()
    before, size = world.registry, world.registry.size
    world.rotate(witness(1), opens=world.never)
    ours, ours_root = world.bundle(), world.registry.root()
    world.registry = before
    del world.registry_log.leaf_hashes[size:]
    world.rotate(witness(1), closes=world.b)
    other, other_root = world.bundle(), world.registry.root()
    (auditor.path / "id").write_text(world.registry_id)
    (auditor.path / "bundle.json").write_bytes(ours.to_json())
    copy = auditor.write("copy.json", other.to_json())
    run = auditor.verify("--json", "--also-bundle", copy, auditor.add("a", world.genuine(12)))
    assert (run.code, [line["code"] for line in run.lines if "code" in line]) == (1, ["LOG_FORK"])
    (fork,) = run.findings("fork")
    assert (fork["log"], fork["size"]) == ("registry", "9")
    assert [", record 8 (rotate" in head["source"] for head in fork["checkpoints"]] == [True, True]
    log = world.registry_log
    for head, root in zip(fork["checkpoints"], (ours_root, other_root), strict=True):
        assert open_checkpoint(head["signed"].encode(), log.origin, log.key.public).root == root
    assert "INVALID  LOG_FORK" in auditor.verify("--also-bundle", copy, auditor.evidence).out


@pytest.mark.attacks
def test_a_copy_that_no_cosigner_confirms_is_compared_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cosigners refuse a second history, so the copy that proves it lacks them; where it agrees it changes nothing."""
    cosigner = SoftwareCosigner("bystander")
    world = SoftwareRegistry()
    key = world.new_witness()
    world.change_policy(policy_of(cosigner), cosigned_by=[cosigner])
    evidence = world.evidence(*world.attest(key, 0), cosigned_by=[cosigner])
    before, size = world.registry, world.registry.size
    agreeing = world.bundle()
    auditor = Auditor.of(world, tmp_path, capsys)
    world.add_key(SoftwareKey("a"), witness(1))
    (auditor.path / "bundle.json").write_bytes(world.bundle(cosigned_by=[cosigner]).to_json())
    world.registry = before
    del world.registry_log.leaf_hashes[size:]
    world.add_key(SoftwareKey("b"), witness(1))
    hidden = auditor.write("hidden.json", world.bundle().to_json())
    path = auditor.add("a", evidence)
    assert auditor.verify("--also-bundle", auditor.write("old.json", agreeing.to_json()), path).code == 0
    run = auditor.verify("--json", "--also-bundle", hidden, path)
    assert (run.code, [line["code"] for line in run.lines if "code" in line]) == (1, ["LOG_FORK"])


def test_an_older_copy_and_a_newer_one_agree(world: Forked, auditor: Auditor) -> None:
    """A copy that the bundle continues, or that continues it, changes nothing; a broken one is not hidden."""
    evidence = auditor.add("a", world.genuine(12))
    old = auditor.write("old.json", world.old_bundle.to_json())
    assert auditor.verify("--also-bundle", old, evidence).code == 0
    (auditor.path / "bundle.json").rename(auditor.path / "new.json")
    (auditor.path / "bundle.json").write_bytes(world.old_bundle.to_json())
    run = auditor.verify("--json", "--also-bundle", auditor.path / "new.json", evidence)
    assert [line["code"] for line in run.lines if "code" in line] == ["BUNDLE_TOO_OLD"]
    broken = auditor.write("broken.json", b"{}")
    assert "REGISTRY_INVALID" in auditor.verify("--also-bundle", broken, evidence).out


def test_an_envelope_that_is_no_proof_has_no_head(world: Forked) -> None:
    """Only a proof file holds a checkpoint, and only one by the log's key counts."""
    trusted = world.open()
    signed: Envelope = world.attested[3][1]
    for data in (
        signed.to_json(),
        b"c2sp.org/tlog-proof@v1\n\n",
        world.proven(signed, checkpoint="x\n\n\u2014 y z\n".encode()),
    ):
        assert contradiction.evidence_head(trusted, data, "x") is None
