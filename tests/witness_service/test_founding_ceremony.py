"""Founding a production registry: leads who sign elsewhere, a service that never sees their keys."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hsm import TokenRef
from key_registry.cosignature import Cosigner, vkey
from tests.fix_service import ServeService, toml
from tests.fix_softhsm import run_on_token
from tests.witness_service.chain import Chain, sign_at_once
from tests.witness_service.leads import LeadToken, lead_token, make_key, witness
from tests.witness_service.test_health import serving
from witness_service.genesis_files import sign_draft
from witness_service.lead_key import LeadKey, load_public, public_pem
from witness_service.lead_signer import open_lead
from witness_service.refusal import Code, Refused
from witness_service.wire.client import WitnessClient

ORIGIN = "witness.test.invalid/2026"
PASSPHRASE = "SENTINEL correct horse"


@dataclass
class Ceremony:
    """A service that has no registry yet, and three leads: a file, a token, a P-256 file."""

    folder: Path
    configuration: dict[str, Any]
    token: LeadToken
    said: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        file = self.folder / "witness.toml"
        file.write_text(toml(self.configuration))
        return file

    @property
    def draft_file(self) -> Path:
        return self.folder / "genesis.json"

    @property
    def passphrase_file(self) -> Path:
        file = self.folder / "passphrase"
        file.write_text(PASSPHRASE + "\n")
        file.chmod(0o600)
        return file

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        ended = witness(*command, environment=environment)
        self.said.append(ended.stdout + ended.stderr)
        return ended

    def done(self, *command: str, **environment: str) -> dict[str, Any]:
        """Run a command that must succeed, and return the JSON object it writes."""
        ended = self.run(*command, "--json", **environment)
        assert ended.returncode == 0, ended.stderr
        answer = json.loads(ended.stdout)
        assert isinstance(answer, dict)
        return answer

    def refused(self, exit_code: int, *command: str) -> str:
        """Run a command that must fail, and return what it says."""
        ended = self.run(*command)
        assert (ended.returncode, ended.stdout) == (exit_code, ""), ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stderr

    def leads(self) -> None:
        """Make the three leads' keys; how the commands make them is the matter of other tests."""
        anna = LeadKey.create(self.folder / "anna.pem", name="anna")
        Path(self.path("anna.pub")).write_bytes(public_pem(anna.public_key, "anna"))
        make_key(self.token.ref, "ed25519", "lead", "beef")
        self.done(
            *("lead", "show", "--lead", self.token.uri("", self.token.pin_source)),
            *("--name", "ben", "--out", self.path("ben.pub")),
            **self.token.environment,
        )
        passphrase = self.passphrase_file.read_bytes().strip()
        cleo = LeadKey.create(self.folder / "cleo.pem", algorithm="ecdsa-p256", passphrase=passphrase)
        Path(self.path("cleo.pub")).write_bytes(public_pem(cleo.public_key))

    def draft_command(self, *options: str, threshold: int = 2, origin: str = ORIGIN) -> list[str]:
        leads = [self.path("anna.pub"), self.path("ben.pub"), f"cleo={self.path('cleo.pub')}"]
        return [
            "genesis",
            "draft",
            "--config",
            str(self.config),
            "--origin",
            origin,
            "--threshold",
            str(threshold),
            *(part for lead in leads for part in ("--lead", lead)),
            "--out",
            str(self.draft_file),
            *options,
        ]

    def sign(self) -> list[str]:
        """Have all leads sign; returns the files."""
        sign = ["lead", "sign", str(self.draft_file), "--yes"]
        self.done(*sign, "--lead", self.path("anna.pem"), "--out", self.path("anna.sig"))
        self.done(
            *sign,
            "--lead",
            self.token.uri("", self.token.pin_source),
            "--out",
            self.path("ben.sig"),
            **self.token.environment,
        )
        self.done(
            *sign,
            "--lead",
            self.path("cleo.pem"),
            "--passphrase-file",
            str(self.passphrase_file),
            "--out",
            self.path("cleo.sig"),
        )
        return [self.path(f"{name}.sig") for name in ("anna", "ben", "cleo")]

    def sign_here(self) -> list[str]:
        """Have all leads sign in this process, which is quicker; returns the files."""
        body = self.draft_file.read_bytes()
        files = []
        for name, where in (
            ("anna", self.path("anna.pem")),
            ("ben", self.token.uri("", self.token.pin_source)),
            ("cleo", self.path("cleo.pem")),
        ):
            with pytest.MonkeyPatch.context() as patch:
                for variable, value in self.token.environment.items():
                    patch.setenv(variable, value)
                with open_lead(where, passphrase_file=self.passphrase_file) as lead:
                    Path(self.path(f"{name}.sig")).write_bytes(sign_draft(lead, body))
            files.append(self.path(f"{name}.sig"))
        return files

    def store_command(self, *files: str) -> list[str]:
        return ["genesis", "store", "--config", str(self.config), str(self.draft_file), *files]

    def path(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture
def ceremony(token: TokenRef, softhsm_template: Path, database: str, tmp_path: Path) -> Ceremony:
    """A service over an empty database and an empty token, and leads with their keys."""
    folder = tmp_path / "ceremony"
    folder.mkdir()
    made = Ceremony(
        folder,
        {
            "service": {"listen": "127.0.0.1:0", "environment": "production"},
            "database": {"dsn": database},
            "tokens": [
                {
                    "module": token.module,
                    "label": token.label,
                    "serial": token.serial,
                    "pin_file": token.pin_file,
                    "processes": 1,
                    "environment": dict(token.environment),
                }
            ],
        },
        lead_token(softhsm_template, tmp_path / "ben-token"),
    )
    made.leads()
    return made


def log_keys(ceremony: Ceremony) -> int:
    """Count the private keys in the service's token."""
    section = ceremony.configuration["tokens"][0]
    ref = TokenRef(section["module"], section["label"], section["serial"], section["pin_file"], section["environment"])
    count = "print(len(list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY}))))"
    return int(run_on_token(ref, count))


def test_a_registry_is_founded_by_leads_who_sign_elsewhere(ceremony: Ceremony, superuser_dsn: str) -> None:
    """Draft, three signatures, store: then the service serves a registry that has no witness yet.

    It says that it cannot sign and why, and no secret of a lead has been seen on the way.
    """
    planned = ceremony.done(*ceremony.draft_command("--dry-run"))
    assert (planned["dry_run"], planned["threshold"], ceremony.draft_file.exists()) == (True, 2, False)
    assert log_keys(ceremony) == 0

    drafted = ceremony.done(*ceremony.draft_command())
    assert [lead["name"] for lead in drafted["leads"]] != []
    assert {lead["name"]: lead["algorithm"] for lead in drafted["leads"]} == {
        "anna": "ed25519",
        "ben": "ed25519",
        "cleo": "ecdsa-p256",
    }
    assert log_keys(ceremony) == 2
    anna, ben, cleo = ceremony.sign()

    assert "none by cleo" in ceremony.refused(1, *ceremony.store_command(anna, ben))
    dry = ceremony.done(*ceremony.store_command(anna, ben, cleo, "--dry-run"))
    assert (dry["stored"], dry["registry_id"]) == (False, drafted["registry_id"])
    stored = ceremony.done(*ceremony.store_command(anna, ben, cleo))
    assert (stored["stored"], stored["registry_id"]) == (True, drafted["registry_id"])
    again = ceremony.done(*ceremony.store_command(cleo, anna, ben))
    assert (again["stored"], again["registry_id"]) == (False, drafted["registry_id"])
    assert "holds one registry only" in ceremony.refused(
        1, *ceremony.draft_command("--out", ceremony.path("second.json"))
    )

    service = ServeService(ceremony.folder / "service", configuration=ceremony.configuration)
    service.folder.mkdir()
    ended = service.refuses()
    assert ended.returncode == 5
    assert "witness genesis store" in ended.stderr
    ceremony.configuration["service"]["registry_id"] = stored["registry_id"]
    assert ceremony.done(*ceremony.store_command(anna, ben, cleo))["stored"] is False
    try:
        service.start()
        check_that_it_cannot_sign_yet(service, stored["registry_id"])
        assert service.stop() == 0
    finally:
        service.clean()
    for secret in (ceremony.token.pin, PASSPHRASE, "SENTINEL"):
        assert secret not in "".join(ceremony.said)
        assert secret not in service.said()


def check_that_it_cannot_sign_yet(service: ServeService, registry_id: str) -> None:
    with WitnessClient(service.address) as client:
        status = client.status()
        assert (status.registry_id, status.registry_size, status.environment) == (registry_id, 1, "production")
        (answer,) = sign_at_once(service.address, [Chain().event(0)], timeout=5)
        assert isinstance(answer, Refused)
        assert (answer.code, answer.reason) == (Code.FAILED_PRECONDITION, "NO_WITNESS_AVAILABLE")
        assert client.keys().keys == ()
    assert not serving(service.address)
    shown = witness("status", "--address", service.address)
    assert shown.returncode == 1
    assert "none open" in shown.stdout
    assert "no witness can sign yet" in service.said()


def test_an_interrupted_draft_is_gone_on_with(ceremony: Ceremony) -> None:
    """What the first run made in the token, the second takes up; what it may have lost, it says."""
    drafted = ceremony.done(*ceremony.draft_command())
    genesis = json.loads(ceremony.draft_file.read_bytes())
    # As a run leaves it that is killed while it makes the second key.
    notes = Path(ceremony.path("genesis.json.keys"))
    assert not notes.exists()
    registry_log = genesis["logs"]["registry"]
    notes.write_text(json.dumps({"made": [registry_log], "making": f"{ORIGIN}/statements"}))
    ceremony.draft_file.unlink()

    assert "another" in ceremony.refused(4, *ceremony.draft_command(origin="elsewhere.test.invalid"))
    again = ceremony.done(*ceremony.draft_command())
    assert again["logs"]["registry"] == drafted["logs"]["registry"]
    assert again["logs"]["statements"]["key_id"] != drafted["logs"]["statements"]["key_id"]
    assert "may hold one key labelled log" in again["remark"]
    assert not notes.exists()
    assert log_keys(ceremony) == 3


def test_a_draft_that_stands_is_shown_and_replaced_only_when_asked(ceremony: Ceremony) -> None:
    """The same terms give the same draft; others are refused, or with --replace written over the same log keys."""
    first = ceremony.done(*ceremony.draft_command())
    body = ceremony.draft_file.read_bytes()
    assert ceremony.done(*ceremony.draft_command()) == first
    assert ceremony.draft_file.read_bytes() == body

    assert "--replace" in ceremony.refused(4, *ceremony.draft_command(threshold=3))
    assert ceremony.draft_file.read_bytes() == body
    signed = ceremony.sign_here()
    replaced = ceremony.done(*ceremony.draft_command("--replace", threshold=3))
    assert replaced["registry_id"] != first["registry_id"]
    assert replaced["logs"] == first["logs"]
    assert log_keys(ceremony) == 2
    assert "under another" in ceremony.refused(4, *ceremony.store_command(*signed))


def test_what_is_not_signed_by_every_lead_is_not_stored(ceremony: Ceremony, tmp_path: Path) -> None:
    """A changed draft, a flipped signature, a stranger, a respelt draft: each refused, and nothing is stored."""
    ceremony.done(*ceremony.draft_command())
    body = ceremony.draft_file.read_bytes()
    anna, ben, cleo = ceremony.sign_here()

    LeadKey.create(ceremony.folder / "eve.pem")
    sign = ["lead", "sign", str(ceremony.draft_file), "--yes", "--lead", ceremony.path("eve.pem")]
    assert "NOT_A_LEAD" in ceremony.run(*sign, "--out", ceremony.path("eve.sig")).stderr
    assert not Path(ceremony.path("eve.sig")).exists()

    envelope = json.loads(Path(anna).read_bytes())
    flipped = Path(ceremony.path("flipped.sig"))
    signature = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
    signature[0] ^= 1
    envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    flipped.write_text(json.dumps(envelope))
    assert "signature" in ceremony.refused(4, *ceremony.store_command(str(flipped), ben, cleo))

    ceremony.draft_file.write_bytes(body.replace(b'"threshold":"2"', b'"threshold":"1"'))
    assert "under another" in ceremony.refused(4, *ceremony.store_command(anna, ben, cleo))
    ceremony.draft_file.write_bytes(body + b"\n")
    assert "expected a genesis record" in ceremony.refused(4, *ceremony.store_command(anna, ben, cleo))
    ceremony.draft_file.write_bytes(body)
    ceremony.configuration["service"]["environment"] = "development"
    assert "OTHER_ENVIRONMENT" in ceremony.refused(1, *ceremony.store_command(anna, ben, cleo))
    ceremony.configuration["service"]["environment"] = "production"
    ceremony.configuration["service"]["registry_id"] = "ab" * 32
    assert "OTHER_REGISTRY" in ceremony.refused(1, *ceremony.store_command(anna, ben, cleo))
    del ceremony.configuration["service"]["registry_id"]
    assert ceremony.done(*ceremony.store_command(anna, ben, cleo))["stored"] is True


TERMS = {
    "more leads asked for than there are": (["--threshold", "4"], "threshold: expected 1 to 3 leads"),
    "an origin that no note can have": (["--origin", "white space"], "expected"),
    "a public key that is none": (["--lead", "dora={folder}/anna.sig"], "cannot read the key"),
    "a private key": (["--lead", "dora={folder}/anna.pem"], "expected a PEM public key"),
    "a name twice": (["--lead", "anna={folder}/dora.pub"], "no name or key twice"),
    "a key twice": (["--lead", "dora={folder}/anna.pub"], "no name or key twice"),
    "a policy that is none": (["--policy", "{folder}/anna.pub"], "policy"),
    "a cosigner who is a lead": (["--policy", "{folder}/policy"], "expected cosigners that are no leads"),
}


def test_terms_that_cannot_be_make_no_key(ceremony: Ceremony) -> None:
    """What is wrong with the terms is said before anything is made in the token."""
    dora = LeadKey.create(ceremony.folder / "dora.pem")
    Path(ceremony.path("dora.pub")).write_bytes(public_pem(dora.public_key))
    anna, _ = load_public(Path(ceremony.path("anna.pub")))
    cosigner = vkey(Cosigner("anna", "anna.invalid", anna, None))
    Path(ceremony.path("policy")).write_text(f"witness anna {cosigner}\nquorum anna\n")
    for options, expected in TERMS.values():
        options = [option.format(folder=ceremony.folder) for option in options]
        assert expected in ceremony.refused(4, *ceremony.draft_command(), *options), options
    assert log_keys(ceremony) == 0
    assert not ceremony.draft_file.exists()
    assert not Path(ceremony.path("genesis.json.keys")).exists()
