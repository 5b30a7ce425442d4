"""The commands against a running service, with a real token and a real database."""

import hashlib
import json
import os
import pty
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from key_registry import verify
from tests.fix_service import DevService
from witness_service.cli.app import app
from witness_service.lead_key import LeadKey
from witness_service.refusal import Refused
from witness_service.wire.client import WitnessClient


class Commands:
    """Runs `witness` commands against one service."""

    def __init__(self, service: DevService) -> None:
        self.service = service

    def run(self, *arguments: str, exit_code: int = 0, place: bool = True) -> Result:
        at = ["--state", str(self.service.state)] if place else []
        result = CliRunner().invoke(app, [*arguments, *at])
        assert result.exit_code == exit_code, result.stderr
        return result

    def json(self, *arguments: str) -> dict[str, object]:
        output: dict[str, object] = json.loads(self.run(*arguments, "--json").stdout)
        return output

    def refused(self, *arguments: str) -> str:
        """Return the reason why a command was refused."""
        reason: str = json.loads(self.run(*arguments, "--json", exit_code=1).stderr)["error"]["reason"]
        return reason


@pytest.fixture
def commands(dev_service: DevService) -> Commands:
    """Commands against the shared service."""
    return Commands(dev_service)


@pytest.fixture
def stream() -> str:
    """A stream nobody else writes to."""
    return f"orders/{uuid.uuid4()}"


def event_hash(sequence: int) -> str:
    return "sha256:" + hashlib.sha256(b"%d" % sequence).hexdigest()


def event_lines(stream: str, sequences: range) -> str:
    """Return a chain of events as JSON lines."""
    lines = []
    for sequence in sequences:
        previous = event_hash(sequence - 1) if sequence else None
        line = {"sequence": sequence, "event_hash": event_hash(sequence), "previous_event_hash": previous}
        lines.append(json.dumps({"stream": stream, **line}) + "\n")
    return "".join(lines)


def _keys(commands: Commands) -> list[dict[str, str]]:
    return [json.loads(line) for line in commands.run("keys", "list", "--json").stdout.splitlines()]


def test_a_file_is_signed_and_judged_offline(commands: Commands, stream: str, tmp_path: Path) -> None:
    """From a file to a verdict: sign its hash, fetch evidence and bundle, judge them without the service."""
    document, evidence, bundle = (
        tmp_path / "order.json",
        tmp_path / "order.tlog-proof",
        tmp_path / "bundle.json",
    )
    document.write_text('{"order": 1}')
    signed = commands.json("sign", "--stream", stream, "--sequence", "0", "--file", str(document))
    content_hash = "sha256:" + hashlib.sha256(document.read_bytes()).hexdigest()
    assert (signed["event_hash"], signed["checked"]) == (content_hash, True)
    commands.run("evidence", stream, "0", "--output", str(evidence))
    commands.run("bundle", "--output", str(bundle))
    trust = ["--bundle", str(bundle), "--registry-id", commands.service.registry_id]
    accept = ["--accept-environment", "development"]
    assert verify.main([*trust, *accept, "--event-hash", content_hash, str(evidence)]) == 0
    assert verify.main([*trust, *accept, "--event-hash", event_hash(0), str(evidence)]) == 1


def test_the_same_event_again_gives_the_same_attestation(commands: Commands, stream: str) -> None:
    """Signing is idempotent, and `get` shows what `sign` gave."""
    arguments = ["--stream", stream, "--sequence", "5", "--hash", event_hash(5)]
    signed = commands.json("sign", *arguments)
    assert commands.json("sign", *arguments) == signed
    assert commands.json("get", stream, "5") == signed


def test_another_hash_for_a_place_is_refused_with_the_evidence(commands: Commands, stream: str) -> None:
    """Equivocation is exit code 1, and the attestation that stands there comes with the refusal."""
    signed = commands.json("sign", "--stream", stream, "--sequence", "0", "--hash", event_hash(0))
    other = ["sign", "--stream", stream, "--sequence", "0", "--hash", event_hash(1)]
    error = json.loads(commands.run(*other, "--json", exit_code=1).stderr)["error"]
    assert (error["code"], error["reason"]) == ("ALREADY_EXISTS", "EQUIVOCATION")
    assert error["existing"] == signed["attestations"]
    assert "stands there" in commands.run(*other, exit_code=1).stderr


def test_events_from_a_file_are_signed_in_order(commands: Commands, stream: str, tmp_path: Path) -> None:
    """A file of events gives a line per event in its order, and its evidence is judged as a whole."""
    events, folder, bundle = tmp_path / "events.jsonl", tmp_path / "evidence", tmp_path / "bundle.json"
    events.write_text(event_lines(stream, range(600)))
    lines = commands.run("sign", "--events", str(events), "--json").stdout.splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == list(range(600))
    written = commands.json("evidence", stream, "--from", "10", "--to", "599", "--output", str(folder))
    files = sorted(Path(str(written["path"])).iterdir())
    assert [file.name for file in files] == [f"{sequence:012d}.tlog-proof" for sequence in range(10, 600)]
    assert Path(str(written["path"])).parent == folder
    commands.run("bundle", "--output", str(bundle))
    expected = tmp_path / "events.tsv"
    expected.write_text("".join(f"{stream}\t{number}\t{event_hash(number)}\n" for number in range(10, 600)))
    trust = ["--bundle", str(bundle), "--registry-id", commands.service.registry_id]
    arguments = [*trust, "--accept-environment", "development", "--events", str(expected)]
    assert verify.main([*arguments, str(folder)]) == 0
    export = tmp_path / "all.evidence.jsonl"
    written = commands.json("evidence", stream, "--from", "10", "--to", "599", "--export", str(export))
    assert written == {"stream": stream, "path": str(export), "files": 1, "places": 590}
    assert len(export.read_bytes().splitlines()) == 590
    assert verify.main([*arguments, str(export)]) == 0


def test_a_refused_line_ends_the_reading(commands: Commands, stream: str, tmp_path: Path) -> None:
    """A gap is shown in its line with its reason, exit code 1; the lines before it are signed."""
    events = tmp_path / "events.jsonl"
    events.write_text(event_lines(stream, range(3)) + event_lines(stream, range(7, 8)))
    result = commands.run("sign", "--events", str(events), "--json", exit_code=1)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["sequence"] for line in lines] == [0, 1, 2, 7]
    assert lines[3]["error"]["reason"] == "SEQUENCE_GAP"


def test_a_place_never_signed_is_refused(commands: Commands, stream: str, tmp_path: Path) -> None:
    """What was not attested is not found, by `get` and by `evidence`, and nothing is written."""
    assert commands.refused("get", stream, "0") == "NOT_ATTESTED"
    assert commands.refused("evidence", stream, "0", "--output", str(tmp_path / "one")) == "NOT_ATTESTED"
    assert commands.refused("evidence", stream, "--from", "0", "--output", str(tmp_path / "all")) == "NOT_ATTESTED"
    assert commands.refused("evidence", stream, "0", "--export", str(tmp_path / "export")) == "NOT_ATTESTED"
    assert list(tmp_path.iterdir()) == []


def test_status_shows_a_ready_service(commands: Commands) -> None:
    """Status is exit code 0 while the tokens are ready, for people and for programs."""
    assert commands.service.registry_id in commands.run("status").stdout
    status = commands.json("status")
    assert (status["environment"], status["registry_id"]) == ("development", commands.service.registry_id)


def test_another_registry_than_the_pinned_one_is_a_finding(commands: Commands, stream: str) -> None:
    """A service of another registry than the caller trusts is exit code 1, whatever it answers."""
    pin = ["--registry-id", "00" * 32]
    assert commands.refused("status", *pin) == "OTHER_REGISTRY"
    sign = ["sign", "--stream", stream, "--sequence", "0", "--hash", event_hash(0)]
    assert commands.refused(*sign, *pin) == "CHECK_FAILED"
    assert commands.refused("bundle", "--output", "never-written.json", *pin) == "CHECK_FAILED"


def test_an_address_alone_is_enough(commands: Commands, stream: str) -> None:
    """Without a pinned registry a command works, and says that nothing was checked."""
    at = ["--address", commands.service.address]
    sign = ["sign", "--stream", stream, "--sequence", "0", "--hash", event_hash(0)]
    assert json.loads(commands.run(*sign, *at, "--json", place=False).stdout)["checked"] is False
    assert "no registry id is known here" in commands.run("get", stream, "0", *at, place=False).stdout


def test_a_rotation_replaces_the_key_and_keeps_its_history(commands: Commands, stream: str) -> None:
    """After a rotation the witness signs with the new key, and the old one keeps its positions for ever."""
    old = next(key for key in _keys(commands) if key["state"] == "open")
    plan = commands.json("keys", "rotate", old["witness_id"], "--dry-run")
    assert (plan["old_key_id"], plan["is_lead"]) == (old["key_id"], True)
    rotated = commands.json("keys", "rotate", old["witness_id"].removeprefix("WITNESS:")[:12], "--yes")
    new_key, old_key = rotated["new_key"], rotated["old_key"]
    assert isinstance(new_key, dict)
    assert isinstance(old_key, dict)
    assert rotated["state"] == "done"
    assert (old_key["key_id"], old_key["state"]) == (old["key_id"], "closed")
    assert (new_key["state"], new_key["algorithm"]) == ("open", old["algorithm"])
    history = commands.json("keys", "history", "--witness", old["witness_id"])
    states = {key["key_id"]: key["state"] for key in history["keys"]}  # type: ignore[attr-defined]
    assert (states[old_key["key_id"]], states[new_key["key_id"]]) == ("closed", "open")
    before = commands.json("keys", "history", "--at-time", old_key["opened_at"])
    assert new_key["key_id"] not in {key["key_id"] for key in before["keys"]}  # type: ignore[attr-defined]
    assert old_key["key_id"][:16] in commands.run("keys", "list").stdout
    assert "closed after" in commands.run("keys", "history").stdout


def test_a_witness_nobody_knows_is_a_finding(commands: Commands) -> None:
    """A wrong witness id makes no key."""
    before = _keys(commands)
    assert commands.refused("keys", "rotate", "ffffffff-ffff", "--yes") == "UNKNOWN_WITNESS"
    assert _keys(commands) == before


@pytest.mark.parametrize(("answer", "exit_code"), [("n", 1), ("y", 0)])
def test_on_a_terminal_the_lead_is_shown_what_is_signed_and_asked(
    commands: Commands, answer: str, exit_code: int
) -> None:
    """The words name both keys before the question; "no" signs nothing and leaves no proposal behind."""
    old = next(key for key in _keys(commands) if key["state"] == "open")
    leader, follower = pty.openpty()
    state = str(commands.service.state)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "witness_service.cli", "keys", "rotate", old["witness_id"], "--state", state],
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(leader, answer.encode() + b"\n")
        output, _ = process.communicate(timeout=60)
    os.close(leader)
    os.close(follower)
    assert process.returncode == exit_code
    assert old["key_id"] in output
    assert "Sign it with lead key" in output
    closed = {key["key_id"] for key in _keys(commands) if key["state"] == "closed"}
    assert (old["key_id"] in closed) == (answer == "y")
    with WitnessClient(commands.service.address) as client, pytest.raises(Refused, match="UNKNOWN_PROPOSAL"):
        client.proposal()


def test_a_key_that_is_no_leads_makes_no_proposal(commands: Commands, tmp_path: Path) -> None:
    """Somebody else's key is refused before the service makes a key in the token."""
    LeadKey.create(tmp_path / "other.pem")
    before = _keys(commands)
    arguments = ["keys", "rotate", before[0]["witness_id"], "--yes", "--lead-key", str(tmp_path / "other.pem")]
    assert commands.refused(*arguments) == "NOT_A_LEAD"
    assert _keys(commands) == before


def test_without_a_terminal_a_rotation_needs_yes(commands: Commands) -> None:
    """Nobody is there to ask: the command stops before it makes a key."""
    before = _keys(commands)
    commands.run("keys", "rotate", "f", exit_code=2)
    assert _keys(commands) == before
