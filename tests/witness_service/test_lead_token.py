"""Lead keys on the lead's own token: found by URI, checked, and a PIN that is typed once and written nowhere."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm import HsmError
from key_registry import dsse
from key_registry.record import RECORD_TYPE
from tests.fix_softhsm import LABEL, FaultyToken, run_on_token
from tests.hsm.signing import signer_pids
from tests.witness_service.leads import LeadToken, lead_token, make_key
from tests.witness_service.terminal import on_terminal
from witness_service.lead_key import LeadKey, load_public
from witness_service.lead_signer import LeadKeyError, LeadTokenError, open_lead

WRONG_PIN = "SENTINEL-not-the-pin"
COUNT_LOW, FINAL_TRY = 0x10000, 0x20000


@pytest.fixture
def own(softhsm_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LeadToken:
    """A lead's token, with the environment its module needs in this process, as on the lead's machine."""
    made = lead_token(softhsm_template, tmp_path / "own")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Whatever happened, the signer process has ended."""
    yield
    assert signer_pids() == []


def refusal(own: LeadToken, path: str = "", kind: type[LeadKeyError] = LeadKeyError) -> str:
    with pytest.raises(LeadKeyError) as caught:
        open_lead(own.uri(path, own.pin_source))
    assert type(caught.value) is kind
    assert own.pin not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("algorithm", ["ed25519", "ecdsa-p256"])
def test_a_key_that_the_token_made_signs(own: LeadToken, algorithm: str) -> None:
    """Another program's template is good enough, when the key cannot be read out; its signature verifies."""
    make_key(own.ref, algorithm, "lead", "c0de")
    with open_lead(own.uri(";object=lead;id=%C0%DE", own.pin_source)) as lead:
        assert (lead.public_key.algorithm, lead.name, lead.remarks) == (algorithm, "lead", ())
        for body in (b"", b"{}", b"x" * 100_000):
            signature = lead.sign_record(body)
            lead.public_key.verify(signature.signature, dsse.pae(RECORD_TYPE, body))
            assert signature.key_id == lead.public_key.key_id
        lead.close()
        lead.close()


@pytest.mark.parametrize("algorithm", ["ed25519", "ecdsa-p256"])
def test_an_imported_key_signs_and_is_remarked_on(own: LeadToken, tmp_path: Path, algorithm: str) -> None:
    """The same key as in the file; that a copy may be elsewhere is said."""
    file = tmp_path / "lead.pem"
    made = LeadKey.create(file, algorithm=algorithm)
    subprocess.run(
        [
            "softhsm2-util",
            "--import",
            file,
            "--token",
            LABEL,
            "--label",
            "imported",
            "--id",
            "0badc0de",
            "--pin",
            own.pin,
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    with open_lead(own.uri(";object=imported", own.pin_source)) as lead:
        assert lead.public_key == made.public_key
        made.public_key.verify(lead.sign_record(b"{}").signature, dsse.pae(RECORD_TYPE, b"{}"))
        assert "a copy of it may be elsewhere" in lead.remarks[0]


@pytest.mark.parametrize("flags", [("extractable",), ("open",), ("extractable", "open")], ids="-".join)
def test_a_key_that_can_be_read_out_is_refused(own: LeadToken, flags: tuple[str, ...]) -> None:
    """Such a key is no better than a file without a passphrase."""
    make_key(own.ref, "ed25519", "lead", "c0de", *flags)
    assert "use a key that cannot be read out of its token" in refusal(own)


def test_which_key_is_meant_must_be_said(own: LeadToken) -> None:
    """None, several and those of another kind are refused; label and CKA_ID each tell keys apart."""
    assert "expected one private key, got none" in refusal(own)
    make_key(own.ref, "ed25519", "lead", "01")
    make_key(own.ref, "ecdsa-p256", "lead", "02")
    make_key(own.ref, "ed25519", "other", "03")
    assert "expected one private key that fits, got 3" in refusal(own)
    assert "got 2" in refusal(own, ";object=lead")
    assert "label 'none'" in refusal(own, ";object=none")
    found = {}
    for path in (";object=lead;id=%01", ";id=%02", ";object=other", ";id=%01"):
        with open_lead(own.uri(path, own.pin_source)) as lead:
            found[path] = lead.public_key
    assert [key.algorithm for key in found.values()] == ["ed25519", "ecdsa-p256", "ed25519", "ed25519"]
    assert found[";object=lead;id=%01"] == found[";id=%01"] != found[";object=other"]
    run_on_token(own.ref, "session.generate_keypair(KeyType.RSA, 2048, id=b'r', label='rsa', store=True)")
    assert "got another kind" in refusal(own, ";object=rsa")


def test_a_key_without_its_public_half_is_refused(own: LeadToken) -> None:
    """The private key alone does not say which lead it is."""
    make_key(own.ref, "ed25519", "lead", "01")
    run_on_token(own.ref, "[key.destroy() for key in session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY})]")
    assert "expected one public key" in refusal(own)


def test_the_token_must_be_the_one_that_is_meant(own: LeadToken) -> None:
    """Serial, manufacturer, model and slot are compared before the PIN is offered."""
    make_key(own.ref, "ed25519", "lead", "01")
    with open_lead(
        own.uri(f";serial={own.ref.serial};manufacturer=SoftHSM%20project;model=SoftHSM%20v2", own.pin_source)
    ) as lead:
        assert lead.public_key.algorithm == "ed25519"
    for path in (";serial=00", ";manufacturer=Acme", ";model=M", ";slot-id=0"):
        assert "expected one token" in refusal(own, path)
    with pytest.raises(LeadTokenError, match="expected a token labelled 'other'"):
        open_lead(f"pkcs11:token=other?module-path={own.ref.module}{own.pin_source}")


def behind(own: LeadToken, fault_module: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> FaultyToken:
    folder.mkdir()
    monkeypatch.setenv("FAULT_MODULE", own.ref.module)
    monkeypatch.setenv("FAULT_FOLDER", str(folder))
    return FaultyToken(own.ref, folder)


def test_a_wrong_pin_is_tried_once(
    own: LeadToken, fault_module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One login, an error that names the file and not the PIN, and no login at all while the token warns."""
    make_key(own.ref, "ed25519", "lead", "01")
    faulty = behind(own, fault_module, tmp_path / "faults", monkeypatch)
    uri = f"pkcs11:token=witness%20test?module-path={fault_module}{own.pin_source}"
    pin = own.pin
    Path(own.ref.pin_file).write_text(WRONG_PIN)
    with pytest.raises(LeadTokenError) as caught:
        open_lead(uri)
    assert own.ref.pin_file in str(caught.value)
    assert WRONG_PIN not in str(caught.value)
    assert faulty.calls("C_Login") == 1
    Path(own.ref.pin_file).write_text(pin)
    with pytest.raises(LeadTokenError, match="CKF_USER_PIN_COUNT_LOW"):
        open_lead(uri)
    assert faulty.calls("C_Login") == 1


def test_a_typed_pin(own: LeadToken, fault_module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for without an echo, tried once; whoever mistyped it may try again, but never for the last time."""
    make_key(own.ref, "ed25519", "lead", "01")
    faulty = behind(own, fault_module, tmp_path / "faults", monkeypatch)
    show = [
        "lead",
        "show",
        "--lead",
        f"pkcs11:token=witness%20test?module-path={fault_module}",
        "--out",
        str(tmp_path / "lead.pub"),
    ]
    wrong = on_terminal(show, [("PIN of the token", WRONG_PIN)])
    assert (wrong.exit_code, faulty.calls("C_Login")) == (1, 1)
    assert "refused the PIN" in wrong.shown
    assert WRONG_PIN not in wrong.shown
    assert "/proc" not in wrong.shown

    right = on_terminal(show, [("PIN of the token", own.pin)])
    assert (right.exit_code, faulty.calls("C_Login")) == (0, 2), right.shown
    assert own.pin not in right.shown
    public_key, _ = load_public(tmp_path / "lead.pub")
    assert public_key.key_id in right.shown

    faulty.order("C_GetTokenInfo", "flags", FINAL_TRY)
    last = on_terminal(show[:-2], [("PIN of the token", own.pin)])
    assert (last.exit_code, faulty.calls("C_Login")) == (1, 2)
    assert "CKF_USER_PIN_FINAL_TRY" in last.shown


def test_a_typed_pin_is_in_memory_only(own: LeadToken, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the token is open the PIN is in no file, argument list or environment, and in no descriptor afterwards."""
    make_key(own.ref, "ed25519", "lead", "01")
    pin = own.pin.encode()
    monkeypatch.setattr("witness_service.lead_token.ask", lambda prompt: pin)
    before = set(os.listdir("/proc/self/fd"))
    with open_lead(own.uri()) as lead:
        (signer,) = signer_pids()
        for name in ("cmdline", "environ"):
            for process in (signer, os.getpid()):
                assert pin not in Path(f"/proc/{process}/{name}").read_bytes()
        assert lead.sign_record(b"{}").key_id == lead.public_key.key_id
    assert set(os.listdir("/proc/self/fd")) == before


def test_without_a_terminal_nobody_is_asked(own: LeadToken, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what else gives the PIN."""
    make_key(own.ref, "ed25519", "lead", "01")

    def no_terminal(path: str, flags: int) -> int:
        raise OSError(6, "No such device or address")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_terminal)
        with pytest.raises(LeadKeyError, match="--passphrase-file"):
            open_lead(own.uri())
    with open_lead(own.uri(), passphrase_file=Path(own.ref.pin_file)) as lead:
        assert lead.public_key.algorithm == "ed25519"


def test_a_token_that_fails_while_signing(
    own: LeadToken, fault_module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device error and a signature that does not verify are both refusals of the token."""
    make_key(own.ref, "ed25519", "lead", "01")
    faulty = behind(own, fault_module, tmp_path / "faults", monkeypatch)
    uri = f"pkcs11:token=witness%20test?module-path={fault_module}{own.pin_source}"
    with open_lead(uri) as lead:
        faulty.order("C_Sign", "flip", 3, 2)  # the first call only asks for the length
        with pytest.raises(LeadTokenError, match="does not verify"):
            lead.sign_record(b"{}")
        faulty.order("C_Sign", "return", 0x30)
        with pytest.raises(LeadTokenError) as caught:
            lead.sign_record(b"{}")
        assert isinstance(caught.value.__cause__, HsmError)
