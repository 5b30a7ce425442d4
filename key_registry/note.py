"""Signed notes (C2SP signed-note): text, a blank line, then one line per signature."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from key_registry import base64_strict
from key_registry.errors import FormatError, SignatureError, UnsupportedAlgorithm
from key_registry.public_key import ED25519, PublicKey

MAX_BYTES = 1_048_576
MAX_SIGNATURES = 100

ED25519_TYPE = 0x01

_KEY_HASH_LENGTH = 4
_DASH = "\N{EM DASH} "
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")
_NOT_IN_NAME = re.compile("[\\s+\x00-\x1f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, not verified.

    Attributes:
        name: of the key.
        key_hash: 4 bytes that tell the keys of one name apart; C2SP calls it key ID.
        signature: at least 1 byte.

    Raises:
        FormatError: another form.
    """

    name: str
    key_hash: bytes
    signature: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.key_hash) != _KEY_HASH_LENGTH or not self.signature:
            raise FormatError("expected a key hash of 4 bytes and a signature, got fewer bytes")

    def to_line(self) -> str:
        """Return the signature line, with its newline."""
        return f"{_DASH}{self.name} {base64_strict.encode(self.key_hash + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note taken apart.

    Attributes:
        text: with its final newline; not to be believed before verify.
        signatures: not verified.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def verify(self, name: str, key: PublicKey) -> None:
        """Check that the key of this name signed the note; other signatures are ignored.

        Raises:
            SignatureError: no signature by the key, more than one, or a bad one.
            UnsupportedAlgorithm: the key is not Ed25519.
        """
        known = key_hash(name, _ed25519_raw(key))
        own = [line.signature for line in self.signatures if (line.name, line.key_hash) == (name, known)]
        if len(own) != 1:
            raise SignatureError(f"expected one note signature by the trusted key, got {len(own)}")
        key.verify(own[0], self.text.encode("utf-8"))


def check_name(name: str) -> None:
    """Raise FormatError unless name can name a key: Unicode text with no space, control character or plus."""
    if not name or _NOT_IN_NAME.search(name):
        raise FormatError("expected a key name without spaces, control characters and plus, got another")


def key_hash(name: str, public_key_raw: bytes, signature_type: int = ED25519_TYPE) -> bytes:
    """Return SHA-256(name || 0x0A || signature type || public key)[:4], 4 bytes.

    Args:
        name: of the key.
        public_key_raw: as the signature type encodes it; 32 bytes for Ed25519.
        signature_type: one byte; 0x01 for Ed25519.

    Raises:
        FormatError: the name cannot name a key.
    """
    check_name(name)
    identity = name.encode("utf-8") + b"\n" + bytes([signature_type]) + public_key_raw
    return sha256(identity).digest()[:_KEY_HASH_LENGTH]


def vkey(name: str, key: PublicKey) -> str:
    """Return the verifier key that other programs for notes take: name+hex key hash+base64(type || key).

    Raises:
        FormatError: the name cannot name a key.
        UnsupportedAlgorithm: the key is not Ed25519.
    """
    raw = _ed25519_raw(key)
    return f"{name}+{key_hash(name, raw).hex()}+{base64_strict.encode(bytes([ED25519_TYPE]) + raw)}"


def _ed25519_raw(key: PublicKey) -> bytes:
    if key.algorithm != ED25519:
        raise UnsupportedAlgorithm("expected an Ed25519 key for notes, got another algorithm")
    return key.raw


def serialize(text: str, signatures: Sequence[NoteSignature]) -> bytes:
    """Return the note.

    Args:
        text: lines that each end in a newline.
        signatures: 1 to 100, written in this order.

    Raises:
        FormatError: another form, or more than 1 MiB.
    """
    _check(text, len(signatures))
    try:
        data = "".join([text, "\n", *(line.to_line() for line in signatures)]).encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError("expected a note in Unicode text, got a lone surrogate") from None
    _check_length(data)
    return data


def parse(data: bytes) -> Note:
    """Return the parts of a note, verifying nothing.

    Args:
        data: at most 1 MiB and 100 signatures.

    Raises:
        FormatError: any other bytes.
    """
    note = _decode(data)
    # The text may hold blank lines of its own, so the last one separates.
    head, blank, block = note.rpartition("\n\n")
    if not blank or not block.endswith("\n"):
        raise FormatError("expected note text, a blank line and signature lines, got other lines")
    text = head + "\n"
    _check(text, block.count("\n"))
    return Note(text, tuple(map(_signature, block[:-1].split("\n"))))


def parse_signatures(data: bytes) -> tuple[NoteSignature, ...]:
    """Return the signatures of signature lines that stand without a note, as a cosigner answers them.

    Args:
        data: 1 to 100 lines that each end in a newline, at most 1 MiB.

    Raises:
        FormatError: any other bytes.
    """
    block = _decode(data)
    if not block.endswith("\n"):
        raise FormatError("expected note signature lines, got other text")
    _check_count(block.count("\n"))
    return tuple(map(_signature, block[:-1].split("\n")))


def _decode(data: bytes) -> str:
    _check_length(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("expected a note in UTF-8, got other bytes") from None


def _signature(line: str) -> NoteSignature:
    if not line.startswith(_DASH):
        raise FormatError("expected a note signature line, got another line")
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    signature = base64_strict.decode(encoded)
    return NoteSignature(name, signature[:_KEY_HASH_LENGTH], signature[_KEY_HASH_LENGTH:])


def _check(text: str, signatures: int) -> None:
    if not text.endswith("\n") or _CONTROL.search(text):
        raise FormatError("expected note text in lines without control characters, got other text")
    _check_count(signatures)


def _check_count(signatures: int) -> None:
    if not 1 <= signatures <= MAX_SIGNATURES:
        raise FormatError(f"expected 1 to {MAX_SIGNATURES} note signatures, got {signatures}")


def _check_length(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise FormatError(f"expected a note of at most {MAX_BYTES} bytes, got {len(data)}")
