"""`witness lead`: keys made on a terminal that shows no passphrase, and drafts shown before they are signed."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from key_registry.cosignature import Cosigner, vkey
from key_registry.dsse import Envelope
from key_registry.public_key import PublicKey
from key_registry.record import Genesis, Lead, LogKey, Logs
from tests.witness_service.leads import witness
from tests.witness_service.terminal import on_terminal
from witness_service.genesis_files import read_draft
from witness_service.lead_key import LeadKey, load_public

PASSPHRASE = "SENTINEL correct horse"


def log_key(folder: Path, name: str) -> LogKey:
    public_key = LeadKey.create(folder / f"{name}.log").public_key
    return LogKey(f"witness.test.invalid/{name}", public_key, name.encode(), "00")


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    """A draft with anna, whose key is encrypted, and ben, whose key is not."""
    anna = LeadKey.create(tmp_path / "anna.pem", passphrase=PASSPHRASE.encode()).public_key
    ben = LeadKey.create(tmp_path / "ben.pem", algorithm="ecdsa-p256").public_key
    leads = sorted([Lead("anna", anna), Lead("ben", ben)], key=lambda lead: lead.public_key.key_id)
    logs = Logs(log_key(tmp_path, "registry"), log_key(tmp_path, "statements"))
    file = tmp_path / "genesis.json"
    file.write_bytes(Genesis("2026-01-02T03:04:05.000000Z", "production", tuple(leads), 2, logs).encode())
    return file


def test_keygen_asks_twice_and_shows_nothing(tmp_path: Path) -> None:
    """An encrypted key closed to others, its public half, and a key id that both have."""
    out = tmp_path / "anna.pem"
    asked = [("Passphrase for the new key", PASSPHRASE), ("The same again", PASSPHRASE)]
    made = on_terminal(["lead", "keygen", "--out", str(out), "--name", "anna"], asked)
    assert made.exit_code == 0, made.shown
    assert PASSPHRASE not in made.shown
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    public_key, name = load_public(tmp_path / "anna.pub")
    assert name == "anna"
    assert public_key.key_id in made.shown

    shown = on_terminal(["lead", "show", "--lead", str(out)], [("Passphrase of", PASSPHRASE)])
    assert shown.exit_code == 0
    assert public_key.key_id in shown.shown
    wrong = on_terminal(["lead", "show", "--lead", str(out)], [("Passphrase of", "SENTINEL wrong")])
    assert wrong.exit_code == 4
    assert "the passphrase does not open" in wrong.shown
    assert "SENTINEL" not in shown.shown + wrong.shown


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([("for the new key", PASSPHRASE), ("again", "SENTINEL another")], "the same passphrase twice"),
        ([("for the new key", "short"), ("again", "short")], "at least 8 characters"),
        ([("for the new key", "")], "got nothing"),
    ],
)
def test_keygen_makes_no_key_with_a_passphrase_that_will_not_do(
    tmp_path: Path, asked: list[tuple[str, str]], expected: str
) -> None:
    """The reason is said and no file is left."""
    ended = on_terminal(["lead", "keygen", "--out", str(tmp_path / "anna.pem")], asked)
    assert ended.exit_code == 4
    assert expected in ended.shown
    assert "SENTINEL" not in ended.shown
    assert list(tmp_path.iterdir()) == []


def test_keygen_without_a_terminal(tmp_path: Path) -> None:
    """A passphrase file, or --unencrypted said in words: nothing else makes a key, and none is written over."""
    out = str(tmp_path / "anna.pem")
    refused = witness("lead", "keygen", "--out", out)
    assert refused.returncode == 4
    assert "--passphrase-file" in refused.stderr
    assert list(tmp_path.iterdir()) == []

    made = witness("lead", "keygen", "--out", out, "--unencrypted", "--json")
    answer = json.loads(made.stdout)
    assert (answer["encrypted"], answer["algorithm"]) == (False, "ed25519")
    assert load_public(tmp_path / "anna.pub")[0].key_id == answer["key_id"]
    before = Path(out).read_bytes()
    for name in ("anna.pem", "anna.pub"):
        again = witness("lead", "keygen", "--out", str(tmp_path / name), "--unencrypted")
        assert again.returncode == 4
        assert "got one; keep it" in again.stderr
    assert Path(out).read_bytes() == before


def test_a_lead_reads_before_signing(tmp_path: Path, draft: Path) -> None:
    """What the draft says is shown in words, then the lead is asked, then the passphrase; no leaves no file."""
    sign = ["lead", "sign", str(draft), "--lead", str(tmp_path / "anna.pem"), "--out", str(tmp_path / "anna.sig")]
    declined = on_terminal(sign, [("Sign it?", "n")])
    assert declined.exit_code == 1
    assert "NOT_APPROVED" in declined.shown
    assert not (tmp_path / "anna.sig").exists()

    signed = on_terminal(sign, [("Sign it?", "y"), ("Passphrase of", PASSPHRASE)])
    assert signed.exit_code == 0, signed.shown
    assert PASSPHRASE not in signed.shown
    shown = signed.shown.partition("Sign it?")[0]
    for name in ("anna", "ben"):
        key_id = LeadKey.load(tmp_path / f"{name}.pem", PASSPHRASE.encode).public_key.key_id
        assert f"{name}: {key_id}" in shown
    for words in ("2 of 2 leads", "witness.test.invalid/registry", "production", "rests on the operator alone"):
        assert words in shown
    envelope = Envelope.from_json((tmp_path / "anna.sig").read_bytes())
    assert envelope.body == draft.read_bytes()
    (signature,) = envelope.signatures
    anna: PublicKey = LeadKey.load(tmp_path / "anna.pem", PASSPHRASE.encode).public_key
    anna.verify(signature.signature, envelope.pae())


def test_what_is_signed_without_asking_needs_to_be_said(tmp_path: Path, draft: Path) -> None:
    """Without a terminal only --yes signs; --dry-run signs nothing and asks for no key."""
    sign = ["lead", "sign", str(draft), "--lead", str(tmp_path / "ben.pem"), "--out", str(tmp_path / "ben.sig")]
    refused = witness(*sign)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    dry = witness("lead", "sign", str(draft), "--dry-run", "--json")
    assert json.loads(dry.stdout)["threshold"] == 2
    assert not (tmp_path / "ben.sig").exists()
    signed = witness(*sign, "--yes", "--json")
    assert json.loads(signed.stdout)["lead"] == "ben"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected a genesis record"),
        (b'{"type":"rotate"}', "expected a genesis record"),
        (b"\xff", "expected a genesis record"),
        (None, "cannot read"),
    ],
)
def test_only_a_genesis_record_is_signed_from_a_file(tmp_path: Path, content: bytes | None, expected: str) -> None:
    """Anything else is refused before the key is asked for."""
    file = tmp_path / "draft.json"
    if content is not None:
        file.write_bytes(content)
    ended = witness("lead", "sign", str(file), "--yes", "--lead", "nowhere.pem", "--out", str(tmp_path / "x.sig"))
    assert ended.returncode == 4
    assert expected in ended.stderr
    assert not (tmp_path / "x.sig").exists()


def test_a_policy_is_shown_with_every_cosigner_and_group(tmp_path: Path, draft: Path) -> None:
    """Who signs sees who is asked for cosignatures, under which keys, and how many must agree."""
    keys = {name: LeadKey.create(tmp_path / f"{name}.key").public_key for name in ("north", "south")}
    lines = [f"witness {name} {vkey(Cosigner(name, f'{name}.invalid', key, None))}\n" for name, key in keys.items()]
    policy = "".join(lines) + "group both 2 north south\nquorum both\n"
    genesis = replace(read_draft(draft)[1], policy=policy)
    draft.write_bytes(genesis.encode())
    shown = witness("lead", "sign", str(draft), "--dry-run").stdout
    for name, key in keys.items():
        assert f"{name}: {name}.invalid, key {key.key_id}" in shown
    assert "2 of north, south" in shown
    assert "a checkpoint counts when both has cosigned it" in shown
    assert "rests on the operator" not in shown


@pytest.mark.parametrize("command", ["keygen", "show"])
def test_a_crash_leaves_no_key_behind(tmp_path: Path, command: str) -> None:
    """A process that has held a lead's key writes no core file, whatever the limits it was started with."""
    key = tmp_path / "anna.pem"
    if command == "show":
        LeadKey.create(key)
    arguments = {
        "show": ["lead", "show", "--lead", str(key)],
        "keygen": ["lead", "keygen", "--out", str(key), "--unencrypted"],
    }
    script = f"""
import resource
from witness_service.cli.app import app
before = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (before, before))
app({arguments[command]!r}, standalone_mode=False)
print(resource.getrlimit(resource.RLIMIT_CORE))
"""
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "(0, 0)"
