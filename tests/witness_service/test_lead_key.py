"""Lead keys in files: encrypted so that a thief has work, closed to others, and never written over."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from key_registry import dsse
from key_registry.record import RECORD_TYPE
from witness_service import lead_key
from witness_service.lead_key import LeadKey, LeadKeyError, load_public, public_pem
from witness_service.lead_signer import open_lead

PASSPHRASE = b"SENTINEL correct horse"
ALGORITHMS = ["ed25519", "ecdsa-p256"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_signs_after_it_was_read_again(tmp_path: Path, algorithm: str) -> None:
    """What is made is what is read, name and all, and signs records as the registry verifies them."""
    made = LeadKey.create(tmp_path / "lead.pem", algorithm=algorithm, name="Anna \u00c5", passphrase=PASSPHRASE)
    read = LeadKey.load(tmp_path / "lead.pem", lambda: PASSPHRASE)
    assert (read.public_key, read.name, read.remarks) == (made.public_key, "Anna \u00c5", ())
    assert read.public_key.algorithm == algorithm
    signature = read.sign_record(b"{}")
    assert signature.key_id == made.public_key.key_id
    made.public_key.verify(signature.signature, dsse.pae(RECORD_TYPE, b"{}"))
    other = read.sign("text/plain", b"{}")
    made.public_key.verify(other.signature, dsse.pae("text/plain", b"{}"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_file_is_encrypted_pkcs8_that_openssl_reads(tmp_path: Path, algorithm: str) -> None:
    """PBES2 with scrypt and AES-256-CBC, mode 0600, nothing of the key in the clear."""
    path = tmp_path / "lead.pem"
    made = LeadKey.create(path, algorithm=algorithm, passphrase=PASSPHRASE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(tmp_path.iterdir()) == [path]
    structure = subprocess.run(
        ["openssl", "asn1parse", "-in", path], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    assert "PBES2" in structure
    assert "scrypt" in structure
    assert "aes-256-cbc" in structure
    assert ":4000\n" in structure, "16384, scrypt's N, in hexadecimal"
    public = subprocess.run(
        ["openssl", "pkey", "-in", path, "-passin", "stdin", "-pubout", "-outform", "DER"],
        input=PASSPHRASE + b"\n",
        capture_output=True,
        timeout=30,
        check=True,
    ).stdout
    assert public == made.public_key.spki


def test_a_key_that_openssl_encrypted_is_read(tmp_path: Path) -> None:
    """A lead may bring a key of another program's making."""
    path = tmp_path / "lead.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "stdin", "-out", path],
        input=PASSPHRASE + b"\n",
        check=True,
        capture_output=True,
        timeout=30,
    )
    path.chmod(0o600)
    with open_lead(path, passphrase_file=secret(tmp_path)) as lead:
        assert lead.public_key.algorithm == "ed25519"


def secret(folder: Path, content: bytes = PASSPHRASE + b"\n", mode: int = 0o600) -> Path:
    file = folder / "passphrase"
    file.write_bytes(content)
    file.chmod(mode)
    return file


def refusal(path: Path, passphrase: bytes | None = PASSPHRASE) -> str:
    with pytest.raises(LeadKeyError) as caught:
        LeadKey.load(path, (lambda: passphrase) if passphrase is not None else None)
    said = str(caught.value)
    assert str(path) in said
    assert "SENTINEL" not in said
    return said


def test_a_wrong_passphrase_is_said_and_nothing_else(tmp_path: Path) -> None:
    """The error neither repeats a passphrase nor tells about the content."""
    path = tmp_path / "lead.pem"
    LeadKey.create(path, passphrase=PASSPHRASE)
    assert "the passphrase does not open" in refusal(path, b"SENTINEL another one")
    assert "the passphrase does not open" in refusal(path, b"")
    assert "got an encrypted one" in refusal(path, None)
    path.write_bytes(path.read_bytes().replace(b"M", b"N", 1))
    assert "the passphrase does not open" in refusal(path)


def test_an_open_key_is_never_asked_for_a_passphrase_and_says_what_it_is(tmp_path: Path) -> None:
    """An unencrypted key is taken as it is, and remarked on."""
    LeadKey.create(tmp_path / "lead.pem")

    def ask() -> bytes:
        raise AssertionError("asked for the passphrase of a key that has none")

    (remark,) = LeadKey.load(tmp_path / "lead.pem", ask).remarks
    assert "not encrypted" in remark


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """The error says how to mend it."""
    path = tmp_path / "lead.pem"
    LeadKey.create(path)
    path.chmod(mode)
    assert f"chmod 600 {path}" in refusal(path)


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    """Not even one that somebody else has just made; and a link to elsewhere is not followed."""
    path = tmp_path / "lead.pem"
    first = LeadKey.create(path)
    with pytest.raises(LeadKeyError, match="got one; keep it"):
        LeadKey.create(path)
    assert LeadKey.load(path).public_key == first.public_key
    elsewhere = tmp_path / "link.pem"
    elsewhere.symlink_to(tmp_path / "target")
    with pytest.raises(LeadKeyError, match="got one; keep it"):
        LeadKey.create(elsewhere)
    assert not (tmp_path / "target").exists()
    with pytest.raises(LeadKeyError, match="cannot write"):
        LeadKey.create(tmp_path / "no-folder" / "lead.pem")
    assert sorted(it.name for it in tmp_path.iterdir()) == ["lead.pem", "link.pem"]


def test_a_key_whose_writing_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk gives an error and no half of a file under any name."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LeadKeyError, match="No space left"):
        LeadKey.create(tmp_path / "lead.pem")
    assert list(tmp_path.iterdir()) == []


def pem(key: object, form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8) -> bytes:
    assert isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


FILES = {
    "nothing": (b"", "expected a PKCS#8 PEM private key"),
    "no PEM": (b"lead", "expected a PKCS#8 PEM private key"),
    "a public key": (
        ed25519.Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        "expected a PKCS#8 PEM private key",
    ),
    "the traditional form": (
        pem(ec.generate_private_key(ec.SECP256R1()), serialization.PrivateFormat.TraditionalOpenSSL),
        "expected a PKCS#8 PEM private key",
    ),
    "another curve": (pem(ec.generate_private_key(ec.SECP384R1())), "got another algorithm"),
    "RSA": (pem(rsa.generate_private_key(65537, 2048)), "got another algorithm"),
    "half a key": (pem(ed25519.Ed25519PrivateKey.generate())[:60], "expected a PKCS#8 PEM private key"),
    "a name that moves the cursor": (
        b"Name: \x1b[2J\n" + pem(ed25519.Ed25519PrivateKey.generate()),
        "expected a printable name",
    ),
    "a very long file": (b"x" * (lead_key.LONGEST + 1), "at most"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_lead_key(tmp_path: Path, case: str) -> None:
    """The error names the file and says what was expected."""
    content, expected = FILES[case]
    path = tmp_path / "lead.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    assert expected in refusal(path)


def test_the_public_half_has_its_name(tmp_path: Path) -> None:
    """Written and read again, with and without a name; OpenSSL reads it too."""
    made = LeadKey.create(tmp_path / "lead.pem", algorithm="ecdsa-p256")
    for name in ("Anna B.", ""):
        path = tmp_path / "lead.pub"
        path.write_bytes(public_pem(made.public_key, name))
        assert load_public(path) == (made.public_key, name)
        done = subprocess.run(
            ["openssl", "pkey", "-pubin", "-in", path, "-outform", "DER"], capture_output=True, timeout=30, check=True
        )
        assert done.stdout == made.public_key.spki


SECRETS = {
    "open to the group": (PASSPHRASE, 0o640, "chmod 600"),
    "empty": (b"", 0o600, "expected one line"),
    "an empty line": (b"\n", 0o600, "expected one line"),
    "two lines": (b"SENTINEL\nSENTINEL\n", 0o600, "expected one line"),
    "too long": (b"S" * 5000, 0o600, "expected one line"),
    "no text": (b"\xff\xfe", 0o600, "expected UTF-8"),
}


@pytest.mark.parametrize("case", SECRETS)
def test_a_passphrase_file_that_will_not_do(tmp_path: Path, case: str) -> None:
    """It is refused before anything is tried with it."""
    content, mode, expected = SECRETS[case]
    LeadKey.create(tmp_path / "lead.pem", passphrase=PASSPHRASE)
    with pytest.raises(LeadKeyError) as caught:
        open_lead(tmp_path / "lead.pem", passphrase_file=secret(tmp_path, content, mode))
    assert expected in str(caught.value)
    assert "SENTINEL" not in str(caught.value)
