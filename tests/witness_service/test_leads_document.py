"""docs/leads.md: its commands do what it says, in its order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hsm import TokenRef, softhsm
from tests.fix_service import toml
from tests.witness_service.leads import make_key, witness
from tests.witness_service.terminal import on_terminal
from witness_service.lead_key import LeadKey, public_pem

pytestmark = pytest.mark.runbook

DOCUMENT = Path(__file__).parents[2] / "docs" / "leads.md"
PASSPHRASE = "SENTINEL correct horse"


def commands() -> list[list[str]]:
    """Return the commands of the chapters on keys and on founding, in order, without the word witness."""
    text = DOCUMENT.read_text().partition("## Changing keys")[0]
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    found = [shlex.split(block.replace("\\\n", "")) for block in blocks]
    assert {command[0] for command in found} == {"witness"}
    return [command[1:] for command in found]


def test_the_founding_as_it_is_written(token: TokenRef, database: str, tmp_path: Path) -> None:
    """From the first key to a stored registry, typing what is asked for."""
    own = softhsm.create_token(tmp_path / "ben-token", "ben")
    make_key(own, "ed25519", "lead", "01")
    pin = Path(own.pin_file).read_text().strip()
    cleo = LeadKey.create(tmp_path / "cleo.pem")
    (tmp_path / "cleo.pub").write_bytes(public_pem(cleo.public_key))
    section = {"module": token.module, "label": token.label, "serial": token.serial, "pin_file": token.pin_file}
    configuration = {
        "service": {},
        "database": {"dsn": database},
        "tokens": [{**section, "environment": dict(token.environment)}],
    }
    (tmp_path / "witness.toml").write_text(toml(configuration))

    keygen, show, draft, sign, store = commands()
    asked = {
        "keygen": (keygen, [("Passphrase for the new key", PASSPHRASE), ("The same again", PASSPHRASE)]),
        "show": (show, [("PIN of the token ben", pin)]),
        "draft": (draft, []),
        "sign": (sign, [("Sign it?", "y"), ("Passphrase of", PASSPHRASE)]),
    }
    for command, dialogue in asked.values():
        ended = on_terminal(command, dialogue, own.environment, tmp_path)
        assert ended.exit_code == 0, ended.shown
        assert "SENTINEL" not in ended.shown
        assert pin not in ended.shown
    genesis = str(tmp_path / "genesis.json")
    for name, lead in (("ben", f"{show[3]}&pin-source=file:{own.pin_file}"), ("cleo", str(tmp_path / "cleo.pem"))):
        out = str(tmp_path / f"{name}.sig")
        signed = witness("lead", "sign", genesis, "--lead", lead, "--out", out, "--yes", environment=own.environment)
        assert signed.returncode == 0, signed.stderr
    stored = on_terminal(store, [], None, tmp_path)
    assert stored.exit_code == 0, stored.shown
    assert re.search(r'registry_id = "[0-9a-f]{64}"', stored.shown)
