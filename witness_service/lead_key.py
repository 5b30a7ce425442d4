"""A security lead's key file, used on the lead's own machine only; the service never reads one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from key_registry import dsse
from key_registry.public_key import PublicKey
from key_registry.record import RECORD_TYPE


class LeadKeyError(Exception):
    """A lead key file cannot be used; the message says why and names the file, never its content."""


@dataclass(frozen=True, repr=False)
class LeadKey:
    """A lead's private key and its public half."""

    private_key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
    public_key: PublicKey

    @classmethod
    def load(cls, path: Path) -> LeadKey:
        """Read an Ed25519 or P-256 key from a PKCS#8 PEM file; raises LeadKeyError."""
        try:
            private_key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise LeadKeyError(f"cannot read the lead key {path}: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise LeadKeyError(f"expected an unencrypted PKCS#8 PEM key in {path}, got something else") from None
        p256 = isinstance(private_key, ec.EllipticCurvePrivateKey) and isinstance(private_key.curve, ec.SECP256R1)
        if not p256 and not isinstance(private_key, ed25519.Ed25519PrivateKey):
            raise LeadKeyError(f"expected an Ed25519 or P-256 key in {path}, got another algorithm")
        assert isinstance(private_key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey)
        return cls(private_key, _public(private_key))

    @classmethod
    def create(cls, path: Path) -> LeadKey:
        """Make an Ed25519 key and write it, for its owner only, to a new PKCS#8 PEM file."""
        private_key = ed25519.Ed25519PrivateKey.generate()
        pem = private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        return cls(private_key, _public(private_key))

    def sign_record(self, body: bytes) -> dsse.Signature:
        """Sign a registry record; body: its canonical JSON."""
        message = dsse.pae(RECORD_TYPE, body)
        if isinstance(self.private_key, ed25519.Ed25519PrivateKey):
            return dsse.Signature(self.public_key.key_id, self.private_key.sign(message))
        r, s = decode_dss_signature(self.private_key.sign(message, ec.ECDSA(hashes.SHA256())))
        return dsse.Signature(self.public_key.key_id, r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def _public(private_key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> PublicKey:
    spki = private_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return PublicKey.from_spki(spki)
