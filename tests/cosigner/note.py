"""Signed notes and timestamped Ed25519 cosignatures, from C2SP signed-note, tlog-checkpoint and tlog-cosignature."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ED25519 = 0x01
COSIGNATURE = 0x04

_DECIMAL = re.compile("0|[1-9][0-9]*")
_SIGNATURE_LINE = re.compile("\u2014 ([^\\s+]+) ([A-Za-z0-9+/]+={0,2})")


class Malformed(ValueError):
    """The bytes are not of the specified form."""


@dataclass(frozen=True)
class VerifierKey:
    """A key that signs notes: "<name>+<hex key id>+<base64 of type and key>"."""

    name: str
    key_id: bytes
    public_key: bytes

    @classmethod
    def parse(cls, vkey: str) -> VerifierKey:
        """Read the vkey of a log: Ed25519, signature type 0x01."""
        name, hex_id, encoded = vkey.split("+", 2)
        material = decode_base64(encoded)
        if material[0] != ED25519 or len(material) != 33:
            raise Malformed("the vkey is not that of an Ed25519 log key")
        if bytes.fromhex(hex_id) != key_id(name, ED25519, material[1:]):
            raise Malformed("the key id in the vkey is not that of the key")
        return cls(name, bytes.fromhex(hex_id), material[1:])

    def signed(self, text: str, signature: bytes) -> bool:
        """Tell whether a signature of this key over a text is good."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint note taken apart. signatures: name, key id and signature of each line."""

    text: str
    origin: str
    size: int
    root: bytes
    signatures: tuple[tuple[str, bytes, bytes], ...]

    @classmethod
    def parse(cls, note: str) -> Checkpoint:
        """Read a checkpoint; raises Malformed."""
        head, blank, tail = note.rpartition("\n\n")
        if not blank or not tail.endswith("\n") or re.search("[\x00-\x09\x0b-\x1f]", note):
            raise Malformed("not a signed note")
        lines = head.split("\n")
        if len(lines) < 3 or "" in lines:
            raise Malformed("a checkpoint has at least three lines, none of them empty")
        signatures = tuple(_signature(line) for line in tail[:-1].split("\n"))
        return cls(head + "\n", lines[0], decimal(lines[1]), hash_of(lines[2]), signatures)


def _signature(line: str) -> tuple[str, bytes, bytes]:
    match = _SIGNATURE_LINE.fullmatch(line)
    if match is None:
        raise Malformed("not a signature line")
    data = decode_base64(match[2])
    if len(data) < 5:
        raise Malformed("a signature line without a signature")
    return match[1], data[:4], data[4:]


def decimal(text: str) -> int:
    """Read a decimal number without leading zeros."""
    if not _DECIMAL.fullmatch(text):
        raise Malformed("not a decimal number without leading zeros")
    return int(text)


def hash_of(text: str) -> bytes:
    """Read a hash of 32 bytes in base64."""
    data = decode_base64(text)
    if len(data) != 32:
        raise Malformed("not a hash of 32 bytes")
    return data


def decode_base64(text: str) -> bytes:
    """Read padded base64 of the standard alphabet."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Malformed("not base64") from None


def key_id(name: str, signature_type: int, material: bytes) -> bytes:
    """Return the four bytes that tell keys of one name apart."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([signature_type]) + material).digest()[:4]


def raw(key: Ed25519PrivateKey) -> bytes:
    """Return the 32 bytes of a private key's public key."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def cosigner_vkey(name: str, key: Ed25519PrivateKey) -> str:
    """Return the vkey of a cosigner: signature type 0x04."""
    public = raw(key)
    material = base64.b64encode(bytes([COSIGNATURE]) + public).decode()
    return f"{name}+{key_id(name, COSIGNATURE, public).hex()}+{material}"


def cosignature(name: str, key: Ed25519PrivateKey, text: str, time: int) -> str:
    """Return the signature line of a cosigner over a checkpoint's text at a POSIX time."""
    signature = key.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
    return line(name, key_id(name, COSIGNATURE, raw(key)), struct.pack(">Q", time) + signature)


def line(name: str, key_id: bytes, signature: bytes) -> str:
    """Return a signature line."""
    return f"\u2014 {name} {base64.b64encode(key_id + signature).decode()}\n"
