"""The commands of two-person control, run as programs against a service whose leads decide two of three."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fix_service import ServeService
from tests.witness_service.chain import Chain
from tests.witness_service.judging import codes
from witness_service.lead_key import LeadKey, public_pem
from witness_service.wire.client import WitnessClient


class Commands:
    """Runs `witness keys …` for a service."""

    def __init__(self, service: ServeService) -> None:
        self.service = service

    def run(self, *arguments: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        where = ["--address", self.service.address]
        pins = arguments[0] not in ("proposals", "abort", "list", "history")
        pin = ["--registry-id", self.service.registry_id] if pins else []
        done = subprocess.run(
            [sys.executable, "-P", "-m", "witness_service.cli", "keys", *arguments, *where, *pin],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == exit_code, (done.stdout, done.stderr)
        return done

    def json(self, *arguments: str) -> dict[str, Any]:
        found = json.loads(self.run(*arguments, "--json").stdout)
        assert isinstance(found, dict)
        return found

    def refused(self, *arguments: str) -> str:
        done = self.run(*arguments, "--json", exit_code=1)
        return str(json.loads(done.stderr.splitlines()[-1])["error"]["reason"])

    def listed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run("list", "--json").stdout.splitlines()]


@pytest.fixture
def commands(quorum_service: ServeService) -> Commands:
    """Commands for a service of the test's own, which serves."""
    return Commands(quorum_service.start())


def by(leads: Sequence[Path], number: int) -> list[str]:
    return ["--lead", str(leads[number])]


def test_a_rotation_from_proposal_to_done(commands: Commands, leads: tuple[Path, ...]) -> None:
    """Proposed, shown, dry-run, approved by two, and told at each step how far it is."""
    witness_id = commands.listed()[0]["witness_id"]
    plan = commands.json("propose", "rotate", witness_id, "--dry-run")
    assert (plan["dry_run"], plan["documents"], plan["proposal_id"]) == (True, [], "")
    assert commands.run("proposals").stdout == "no proposal waits\n"
    made = commands.json("propose", "rotate", witness_id, "--reason", "yearly", *by(leads, 0))
    assert (made["state"], made["missing"], len(made["documents"]), len(made["words"])) == ("open", 2, 2, 2)
    shown = commands.run("show", "--bytes").stdout
    for fact in (made["key_id"], "yearly", made["documents"][0]["body"], made["documents"][1]["body"]):
        assert fact in shown
    assert commands.refused("approve", "--yes", *by(leads, 0)) == "PROPOSER_APPROVES"
    dry = commands.json("approve", "--dry-run", *by(leads, 1))
    assert (dry["completes_quorum"], dry["already_signed"]) == (False, False)
    first = commands.json("approve", "--yes", *by(leads, 1))
    assert (first["state"], first["missing"], first["already_signed"]) == ("open", 1, False)
    assert commands.json("approve", "--yes", *by(leads, 1))["already_signed"] is True
    assert commands.json("approve", "--dry-run", *by(leads, 2))["completes_quorum"] is True
    done = commands.json("approve", made["proposal_id"][:8], "--yes", *by(leads, 2))
    assert (done["state"], done["missing"]) == ("done", 0)
    assert {key["key_id"]: key["reason"] for key in commands.listed()}[made["key_id"]] == "yearly"
    assert "yearly" in commands.run("history").stdout
    assert commands.run("proposals").stdout == "no proposal waits\n"
    assert made["proposal_id"] in commands.run("proposals", "--all").stdout


def test_rejected_and_proposed_again(commands: Commands, leads: tuple[Path, ...]) -> None:
    """Two say no, the reasons are shown, and one command makes the proposal anew."""
    witness_id = commands.listed()[0]["witness_id"]
    made = commands.json("propose", "rotate", witness_id)
    assert commands.json("reject", "--reason", "why now", "--dry-run", *by(leads, 0))["dry_run"] is True
    assert commands.json("reject", "--reason", "why now", *by(leads, 0))["state"] == "open"
    ended = commands.json("reject", "--reason", "why at all", *by(leads, 1))
    assert (ended["state"], sorted(ended["rejected_by"].values())) == ("rejected", ["why at all", "why now"])
    again = commands.json("propose", "again", made["proposal_id"])
    assert (again["state"], again["witness_id"]) == ("open", witness_id)
    assert again["proposal_id"] != made["proposal_id"]
    assert commands.refused("propose", "again", again["proposal_id"]) == "PROPOSAL_NOT_OPEN"
    assert commands.json("abort", "--dry-run")["state"] == "open"
    assert commands.json("abort")["state"] == "aborted"


def test_an_emergency(commands: Commands, leads: tuple[Path, ...]) -> None:
    """One lead stops a key at once; two declare it compromised from a time on, with the numbers before them."""
    chain = Chain()
    with WitnessClient(commands.service.address) as client:
        signed = [client.sign(event)[0] for event in chain.events(0, 20)]
    key_id = signed[-1].key_id
    stop = ["stop", key_id[:16], "--reason", "laptop stolen", *by(leads, 2)]
    assert commands.json(*stop, "--dry-run")["stopped_at"] == ""
    stopped = commands.json(*stop)
    assert stopped["was_stopped"] is False
    assert commands.json(*stop) == {**stopped, "was_stopped": True}
    assert "stopped" in commands.run("list").stdout
    assert "laptop stolen" in commands.run("list").stdout
    mine = [item for item in signed if item.key_id == key_id]
    since = ["--suspected-since", "2026-01-01T00:00:00Z", "--reason", "laptop stolen"]
    draft = commands.json("propose", "compromise", key_id[:16], *since, "--dry-run")
    assert draft["facts"]["attestations_from_cut"] == str(len(mine))
    assert commands.run("proposals").stdout == "no proposal waits\n"
    made = commands.run("propose", "compromise", key_id[:16], *since).stdout
    assert f"{len(mine)} from it on, which are distrusted" in made
    commands.json("approve", "--yes", *by(leads, 0))
    assert commands.json("approve", "--yes", *by(leads, 1))["state"] == "done"
    found = codes(commands.service, chain)
    assert found == {"KEY_COMPROMISED": len(mine), "VALID_KEY_ACTIVE": 20 - len(mine)} or len(mine) == 20
    assert {key["key_id"]: key["state"] for key in commands.listed()}[key_id] == "compromised"
    lower = ["propose", "compromise", key_id, "--trusted-size", "0", "--reason", "again"]
    assert commands.refused(*lower) == "CUT_NOT_LOWER"


def test_other_leads_by_command(commands: Commands, leads: tuple[Path, ...], tmp_path: Path) -> None:
    """One joins, one leaves: all three of the new set sign, and the words say who is who."""
    dora = LeadKey.create(tmp_path / "dora.pem", name="dora")
    (tmp_path / "dora.pub").write_bytes(public_pem(dora.public_key, "dora"))
    change = ["propose", "leads", "--add", f"dora={tmp_path / 'dora.pub'}", "--remove", "carla"]
    assert "joins: " not in commands.run(*change, "--dry-run").stdout  # aligned in a table, not in a line
    made = commands.json(*change)
    assert made["words"][0]["joins"].startswith("dora (")
    for file in (tmp_path / "dora.pem", leads[0], leads[1]):
        done = commands.json("approve", made["proposal_id"], "--yes", "--lead", str(file))
    assert done["state"] == "done"
    assert commands.refused("approve", made["proposal_id"], "--yes", *by(leads, 2)) == "BAD_PROPOSAL"


def test_the_drill(commands: Commands, leads: tuple[Path, ...]) -> None:
    """The first drill makes its witness, the second one uses it; keys of production stay as they are."""
    production = commands.listed()
    assert commands.json("drill", "--dry-run", *by(leads, 0), *by(leads, 2))["ok"] is True
    assert commands.listed() == production
    first = commands.json("drill", *by(leads, 0), *by(leads, 2))
    assert (first["ok"], first["verdicts"]) == (True, {"before": "VALID_KEY_ROTATED", "after": "VALID_KEY_ACTIVE"})
    second = commands.run("drill", *by(leads, 1), *by(leads, 2)).stdout
    assert "drill passed" in second
    assert f"went from key {first['new_key_id']}" in second
    keys = {key["key_id"]: key for key in commands.listed()}
    assert [keys[key["key_id"]] for key in production] == production
    drilled = [key for key in keys.values() if key["witness_id"] == first["witness_id"]]
    assert [(key["state"], key["reason"], key["streams"]) for key in drilled] == [
        ("closed", "drill", ["drill/*"]),
        ("closed", "drill", ["drill/*"]),
        ("open", "drill", ["drill/*"]),
    ]
    history = commands.json("history")
    assert [record["reason"] for record in history["records"]].count("drill") == 8


def test_a_drill_that_cannot_pass(commands: Commands, leads: tuple[Path, ...], tmp_path: Path) -> None:
    """Too few leads, or one who is none: exit code 1, a report that says why, and nothing made."""
    LeadKey.create(tmp_path / "stranger.pem")
    before = commands.listed()
    for given in ([*by(leads, 0)], [*by(leads, 0), "--lead", str(tmp_path / "stranger.pem")]):
        done = commands.run("drill", *given, "--json", exit_code=1)
        assert json.loads(done.stdout)["ok"] is False
        assert json.loads(done.stderr.splitlines()[-1])["error"]["reason"] == "DRILL_FAILED"
    assert commands.listed() == before
