"""Cosignatures (C2SP tlog-cosignature, Ed25519): somebody else's timestamped word that a log only ever grew."""

import re
from dataclasses import dataclass

from key_registry import base64_strict, note
from key_registry.errors import FormatError, SignatureError, UnsupportedAlgorithm
from key_registry.public_key import PublicKey

COSIGNATURE_TYPE = 0x04

_ML_DSA_44_TYPE = 0x06
_ML_DSA_44_KEY_LENGTH = 1312
# 0x01 to 0x03 and 0x05 are signatures of other kinds (C2SP signed-note, "Signature types").
_NO_COSIGNATURE_TYPES = frozenset({0x01, 0x02, 0x03, 0x05})
_TIMESTAMP_LENGTH = 8
_SIGNATURE_LENGTH = _TIMESTAMP_LENGTH + 64
_LATEST = 253_402_300_799  # 9999-12-31T23:59:59Z, the last second that can be written
_VKEY = re.compile(r"([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")


@dataclass(frozen=True, slots=True)
class Cosigner:
    """Who cosigns, as a policy names it.

    Args:
        name: in the policy.
        key_name: of its note signatures.
        public_key: Ed25519.
        url: submission prefix (C2SP tlog-witness), None where it is not known.
    """

    name: str
    key_name: str
    public_key: PublicKey
    url: str | None = None

    @property
    def key_hash(self) -> bytes:
        """The 4 bytes that tell its note signatures from those of other keys of the name."""
        return note.key_hash(self.key_name, self.public_key.raw, COSIGNATURE_TYPE)

    def cosigned_at(self, opened: note.Note) -> int | None:
        """Return when this cosigner cosigned the checkpoint, in POSIX seconds, or None where it did not.

        Raises:
            SignatureError: a line of this cosigner that is no good cosignature of this checkpoint, or two lines.
        """
        line_of_own = (self.key_name, self.key_hash)
        own = [line.signature for line in opened.signatures if (line.name, line.key_hash) == line_of_own]
        if not own:
            return None
        if len(own) > 1:
            raise SignatureError(f"expected one cosignature by {self.key_name}, got {len(own)}")
        return self._verified(own[0], opened.text)

    def _verified(self, signature: bytes, text: str) -> int:
        if len(signature) != _SIGNATURE_LENGTH:
            expected = f"expected {_SIGNATURE_LENGTH} bytes of cosignature by {self.key_name}"
            raise SignatureError(f"{expected}, got {len(signature)}")
        time = int.from_bytes(signature[:_TIMESTAMP_LENGTH], "big")
        if time > _LATEST:
            raise SignatureError(f"expected a cosignature by {self.key_name} before the year 10000, got a later one")
        try:
            self.public_key.verify(signature[_TIMESTAMP_LENGTH:], message(text, time))
        except SignatureError:
            raise SignatureError(f"expected a cosignature of this checkpoint by {self.key_name}, got another") from None
        return time


def message(text: str, time: int) -> bytes:
    """Return the bytes a cosigner signs (C2SP tlog-cosignature, "Ed25519 signed message").

    Args:
        text: of the checkpoint's note, with its final newline.
        time: POSIX seconds.
    """
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def parse_vkey(text: str) -> tuple[str, PublicKey]:
    """Return key name and key of a cosigner's verifier key (C2SP signed-note, "Verifier keys").

    Raises:
        FormatError: not a verifier key, one whose key hash is of another key, or the key of no cosigner.
        UnsupportedAlgorithm: an ML-DSA-44 cosigner (type 0x06), or a signature type not assigned yet.
    """
    found = _VKEY.fullmatch(text)
    if found is None:
        raise FormatError("expected a verifier key of the form name+hash+base64, got something else")
    key_name, key_hash, encoded = found.groups()
    material = base64_strict.decode(encoded)
    kind, raw = material[0], material[1:]
    if key_hash != note.key_hash(key_name, raw, kind).hex():
        raise FormatError(f"expected the key hash of {key_name!a} and its key, got another")
    if kind in _NO_COSIGNATURE_TYPES:
        raise FormatError(f"expected a cosigner's verifier key of type 0x04, got {key_name!a} with type 0x{kind:02x}")
    if kind == _ML_DSA_44_TYPE and len(raw) != _ML_DSA_44_KEY_LENGTH:
        raise FormatError(f"expected an ML-DSA-44 key of {_ML_DSA_44_KEY_LENGTH} bytes, got {len(raw)}")
    if kind != COSIGNATURE_TYPE:
        raise UnsupportedAlgorithm(f"expected an Ed25519 cosigner, got {key_name!a} with type 0x{kind:02x}")
    return key_name, PublicKey.from_ed25519(raw)


def vkey(cosigner: Cosigner) -> str:
    """Return the verifier key that parse_vkey reads."""
    material = base64_strict.encode(bytes([COSIGNATURE_TYPE]) + cosigner.public_key.raw)
    return f"{cosigner.key_name}+{cosigner.key_hash.hex()}+{material}"
