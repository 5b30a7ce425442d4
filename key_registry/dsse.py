"""DSSE version 1: what a signature covers, the JSON envelope, and the envelope as a log entry."""

import re
from dataclasses import dataclass
from typing import Self

from key_registry import base64_strict, canonical_json
from key_registry.canonical_json import JSONValue
from key_registry.errors import FormatError

MAX_SIGNATURE_LENGTH = 65_535

_KEY_ID = re.compile(r"[0-9a-f]{64}")


def pae(payload_type: str, body: bytes) -> bytes:
    """Return the pre-authentication encoding, the bytes that a signature covers (DSSE protocol.md).

    Args:
        payload_type: the media type of the body.
        body: the exact bytes.

    Raises:
        FormatError: payload_type is empty or holds a lone surrogate.
    """
    try:
        kind = payload_type.encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError("expected a payload type in Unicode text, got a lone surrogate") from None
    if not kind:
        raise FormatError("expected a payload type, got an empty one")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of an envelope, not verified.

    Attributes:
        key_id: 64 lower-case hex digits.
        signature: 1 to 65,535 bytes.

    Raises:
        FormatError: another form.
    """

    key_id: str
    signature: bytes

    def __post_init__(self) -> None:
        if _KEY_ID.fullmatch(self.key_id) is None:
            raise FormatError("expected a key id of 64 lower-case hex digits, got other text")
        size = len(self.signature)
        if not 1 <= size <= MAX_SIGNATURE_LENGTH:
            raise FormatError(f"expected a signature of 1 to {MAX_SIGNATURE_LENGTH} bytes, got {size}")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A body, its type, and signatures over both.

    Attributes:
        payload_type: the media type of the body, not empty.
        body: the exact bytes.
        signatures: not verified, one per key id, put in the order of key ids; none before somebody signed.

    Raises:
        FormatError: another form.
    """

    payload_type: str
    body: bytes
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        pae(self.payload_type, b"")
        ordered = tuple(sorted(self.signatures, key=lambda signature: signature.key_id))
        if len({signature.key_id for signature in ordered}) != len(ordered):
            raise FormatError("expected one signature per key id, got two by the same")
        object.__setattr__(self, "signatures", ordered)

    def pae(self) -> bytes:
        """Return the bytes that every signature covers."""
        return pae(self.payload_type, self.body)

    def entry(self) -> bytes:
        """Return the log entry: PAE, then key id (32) || uint16 big-endian length || signature by key id.

        Made from the parts, because the JSON of an envelope can be respelt.

        Raises:
            FormatError: nobody signed.
        """
        if not self.signatures:
            raise FormatError("expected a signed envelope, got one without signatures")
        parts = [self.pae()]
        for signature in self.signatures:
            parts.append(bytes.fromhex(signature.key_id))
            parts.append(len(signature.signature).to_bytes(2, "big"))
            parts.append(signature.signature)
        return b"".join(parts)

    def to_object(self) -> dict[str, JSONValue]:
        """Return the envelope as a JSON object (DSSE envelope.md)."""
        return {
            "payload": base64_strict.encode(self.body),
            "payloadType": self.payload_type,
            "signatures": [
                {"keyid": signature.key_id, "sig": base64_strict.encode(signature.signature)}
                for signature in self.signatures
            ],
        }

    def to_json(self) -> bytes:
        """Return the envelope as canonical JSON."""
        return canonical_json.encode(self.to_object())

    @classmethod
    def from_object(cls, value: JSONValue) -> Self:
        """Return the envelope of a parsed JSON object (DSSE envelope.md).

        Args:
            value: exactly payload, payloadType and signatures, and in each of at least one signature exactly
                keyid and sig. Base64 may be standard or URL-safe.

        Raises:
            FormatError: another form.
        """
        if not isinstance(value, dict) or value.keys() != {"payload", "payloadType", "signatures"}:
            raise FormatError("expected an object of payload, payloadType and signatures, got another value")
        payload, payload_type, signatures = value["payload"], value["payloadType"], value["signatures"]
        if not isinstance(payload, str) or not isinstance(payload_type, str):
            raise FormatError("expected payload and payloadType to be strings, got another type")
        if not isinstance(signatures, list) or not signatures:
            raise FormatError("expected signatures to be an array of at least one, got another value")
        return cls(payload_type, base64_strict.decode_either(payload), tuple(map(_signature, signatures)))

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return the envelope of JSON in any spelling, at most 1 MiB; raises FormatError for other bytes."""
        return cls.from_object(canonical_json.parse(data))


def _signature(value: JSONValue) -> Signature:
    if not isinstance(value, dict) or value.keys() != {"keyid", "sig"}:
        raise FormatError("expected a signature of keyid and sig, got another value")
    key_id, signature = value["keyid"], value["sig"]
    if not isinstance(key_id, str) or not isinstance(signature, str):
        raise FormatError("expected keyid and sig to be strings, got another type")
    return Signature(key_id, base64_strict.decode_either(signature))
