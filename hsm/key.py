"""A signing key in a token: how it is named, what it is compared with, what is known of a generated one."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

CKA_ID_LENGTH = 16
"""Bytes of the random CKA_ID that every generated key gets."""

SIGNATURE_LENGTH = 64
"""Bytes of a raw signature: Ed25519 as in RFC 8032, P-256 as r || s in 32 bytes each."""


class Algorithm(enum.StrEnum):
    """The signature algorithms."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"


@dataclass(frozen=True, slots=True)
class KeyRef:
    """A key that should be in a token: its CKA_ID, and the public key it must turn out to have."""

    cka_id: bytes
    algorithm: Algorithm
    public_key: bytes
    """DER SubjectPublicKeyInfo."""


@dataclass(frozen=True, slots=True)
class GeneratedKey:
    """A key just generated in a token, with the attributes that were read back from it."""

    cka_id: bytes
    algorithm: Algorithm
    public_key: bytes
    """DER SubjectPublicKeyInfo."""
    attributes: Mapping[str, str]
    """Name in lower case to "true", "false" or the name of a mechanism, for example "CKM_EC_KEY_PAIR_GEN"."""


@dataclass(frozen=True, slots=True)
class KeySearch:
    """Words for a key that was not made here, as its owner knows it; what is empty fits every key."""

    cka_id: bytes = b""
    label: str = ""
    """CKA_LABEL of the private key."""

    def __str__(self) -> str:
        words = [f"CKA_ID {self.cka_id.hex()}"] if self.cka_id else []
        return ", ".join([*words, f"label {self.label!r}"] if self.label else words) or "the only private key"


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key that was found by a search, with the attributes it has."""

    cka_id: bytes
    """CKA_ID; empty when it has none."""
    algorithm: Algorithm
    public_key: bytes
    """DER SubjectPublicKeyInfo."""
    attributes: Mapping[str, str]
    """As of GeneratedKey, and "unavailable" for what the token does not say."""
