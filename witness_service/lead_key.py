"""A security lead's key file, used on the lead's own machine only; the service never reads one.

The file is PKCS#8 in PEM (RFC 7468), and may begin with a line `Name: ...`, which PEM readers skip.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import wrap

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from key_registry import dsse
from key_registry.errors import FormatError
from key_registry.public_key import ECDSA_P256, ED25519, PublicKey
from key_registry.statement import check_name
from witness_service import pkcs8
from witness_service.durable_file import write_new
from witness_service.lead_signer import LeadKeyError as LeadKeyError
from witness_service.lead_signer import LeadSigner

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey

LONGEST = 65_536
"""Bytes of a key file."""

_LABEL = re.compile(rb"^-----BEGIN (ENCRYPTED )?PRIVATE KEY-----\r?$", re.MULTILINE)
_PUBLIC_LABEL = re.compile(rb"^-----BEGIN PUBLIC KEY-----\r?$", re.MULTILINE)
_NAME = re.compile(rb"^Name: (.*?)\r?$", re.MULTILINE)


class LeadKey(LeadSigner):
    """A lead's private key and its public half."""

    def __init__(self, private_key: PrivateKey, name: str = "", remarks: tuple[str, ...] = ()) -> None:
        self._private_key = private_key
        self._public_key = _public(private_key)
        self.name = name
        self.remarks = remarks

    @property
    def public_key(self) -> PublicKey:
        return self._public_key

    @classmethod
    def load(cls, path: Path, passphrase: Callable[[], bytes] | None = None) -> LeadKey:
        """Read an Ed25519 or P-256 key from a PKCS#8 PEM file that only its owner can read.

        passphrase: called for an encrypted key; None where only an open one is expected. Raises LeadKeyError.
        """
        content = _read(path, private=True)
        label = _LABEL.search(content)
        if label is None:
            raise LeadKeyError(f"expected a PKCS#8 PEM private key in {path}, got something else")
        if label[1] and passphrase is None:
            raise LeadKeyError(f"expected an unencrypted PKCS#8 PEM key in {path}, got an encrypted one")
        private_key = _load(path, content, passphrase() if label[1] and passphrase else None)
        remarks = () if label[1] else (f"{path} is not encrypted: whoever reads it is this lead",)
        return cls(private_key, _name(path, content[: label.start()]), remarks)

    @classmethod
    def create(
        cls, path: Path, *, algorithm: str = ED25519, name: str = "", passphrase: bytes | None = None
    ) -> LeadKey:
        """Make a key and write it, for its owner only, to a new PKCS#8 PEM file.

        algorithm: "ed25519" or "ecdsa-p256". passphrase: encrypts the file; None leaves it open. Raises
        LeadKeyError, also when the file exists.
        """
        private_key: PrivateKey
        if algorithm == ED25519:
            private_key = ed25519.Ed25519PrivateKey.generate()
        elif algorithm == ECDSA_P256:
            private_key = ec.generate_private_key(ec.SECP256R1())
        else:
            raise LeadKeyError(f"expected {ED25519} or {ECDSA_P256}, got another algorithm")
        der = private_key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        if passphrase is None:
            content = _pem("PRIVATE KEY", der, name)
        else:
            content = _pem("ENCRYPTED PRIVATE KEY", pkcs8.encrypt(der, passphrase), name)
        _load(path, content, passphrase)  # a key that could not be read again would be lost
        write_key_file(path, content, mode=0o600)
        return cls(private_key, name)

    def sign(self, payload_type: str, body: bytes) -> dsse.Signature:
        message = dsse.pae(payload_type, body)
        if isinstance(self._private_key, ed25519.Ed25519PrivateKey):
            return dsse.Signature(self.public_key.key_id, self._private_key.sign(message))
        r, s = decode_dss_signature(self._private_key.sign(message, ec.ECDSA(hashes.SHA256())))
        return dsse.Signature(self.public_key.key_id, r.to_bytes(32) + s.to_bytes(32))

    def close(self) -> None:
        """Do nothing: the file was closed when it had been read."""


def public_pem(public_key: PublicKey, name: str = "") -> bytes:
    """Return a public key as PEM SubjectPublicKeyInfo, under a line with its name."""
    return _pem("PUBLIC KEY", public_key.spki, name)


def load_public(path: Path) -> tuple[PublicKey, str]:
    """Return the public key in a PEM file and its name, "" when it has none; raises LeadKeyError."""
    content = _read(path, private=False)
    label = _PUBLIC_LABEL.search(content)
    if label is None:
        raise LeadKeyError(f"expected a PEM public key in {path}, got something else")
    try:
        loaded = serialization.load_pem_public_key(content)
        spki = loaded.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return PublicKey.from_spki(spki), _name(path, content[: label.start()])
    except (ValueError, UnsupportedAlgorithm) as error:
        why = f": {error}" if isinstance(error, FormatError) else ""
        raise LeadKeyError(f"expected an Ed25519 or P-256 public key in {path}{why}") from None


def check_lead_name(name: str) -> str:
    """Return a name that can stand in a key file and in a record; raises LeadKeyError for another one."""
    try:
        check_name("name", name)
    except FormatError as error:
        raise LeadKeyError(str(error)) from error
    if not name.isprintable() or name != name.strip():
        raise LeadKeyError("expected a name of printable characters without blanks at its ends, got another")
    return name


def write_key_file(path: Path, content: bytes, *, mode: int) -> None:
    """Write a new file of a key; raises LeadKeyError, also when one with its name exists."""
    try:
        write_new(path, content, mode=mode)
    except FileExistsError:
        raise LeadKeyError(f"expected no file {path}, got one; keep it, and choose another name") from None
    except OSError as error:
        raise LeadKeyError(f"cannot write {path}: {error.strerror}") from error


def _read(path: Path, *, private: bool) -> bytes:
    try:
        with open(path, "rb") as file:
            if private and os.fstat(file.fileno()).st_mode & 0o077:
                raise LeadKeyError(f"expected the lead key {path} to be closed to others; run: chmod 600 {path}")
            content = file.read(LONGEST + 1)
    except OSError as error:
        raise LeadKeyError(f"cannot read the key {path}: {error.strerror}") from error
    if len(content) > LONGEST:
        raise LeadKeyError(f"expected a key of at most {LONGEST} bytes in {path}, got a longer file")
    return content


def _load(path: Path, content: bytes, passphrase: bytes | None) -> PrivateKey:
    try:
        private_key = serialization.load_pem_private_key(content, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if passphrase is not None:
            raise LeadKeyError(f"the passphrase does not open {path}, or the file is damaged") from None
        raise LeadKeyError(f"expected a PKCS#8 PEM private key in {path}, got something else") from None
    p256 = isinstance(private_key, ec.EllipticCurvePrivateKey) and isinstance(private_key.curve, ec.SECP256R1)
    if not p256 and not isinstance(private_key, ed25519.Ed25519PrivateKey):
        raise LeadKeyError(f"expected an Ed25519 or P-256 key in {path}, got another algorithm")
    assert isinstance(private_key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey)
    return private_key


def _name(path: Path, before: bytes) -> str:
    found = _NAME.search(before)
    if found is None:
        return ""
    try:
        return check_lead_name(found[1].decode())
    except (UnicodeDecodeError, LeadKeyError):
        raise LeadKeyError(f"expected a printable name in the line `Name:` of {path}, got another") from None


def _pem(label: str, der: bytes, name: str) -> bytes:
    lines = [f"-----BEGIN {label}-----", *wrap(base64.b64encode(der).decode(), 64), f"-----END {label}-----"]
    if name:
        lines.insert(0, f"Name: {check_lead_name(name)}")
    return "".join(f"{line}\n" for line in lines).encode()


def _public(private_key: PrivateKey) -> PublicKey:
    spki = private_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return PublicKey.from_spki(spki)
