"""DSSE envelopes, and the bytes that are signed and logged (docs/format.md, "Envelope" and "Log entry")."""

from __future__ import annotations

import hashlib
from typing import Any

from .forms import base64_either, hex32, listed, require, shape, text

STATEMENT = "application/vnd.witness-service.statement.v1+json"
RECORD = "application/vnd.witness-service.key-registry.v1+json"
COVERAGE = "application/vnd.witness-service.coverage.v1+json"

Envelope = dict[str, Any]
"""`type` (text), `body` (bytes) and `signatures` (bytes by key id)."""


def pae(payload_type: str, body: bytes) -> bytes:
    """Return the pre-authentication encoding."""
    named = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(named), named, len(body), body)


def read_envelope(value: Any) -> Envelope:
    """Read an envelope from what JSON made of it."""
    signature = {"keyid": hex32, "sig": base64_either}

    def signed(item: Any) -> tuple[str, bytes]:
        members = shape(item, signature)
        require(1 <= len(members["sig"]) <= 65_535, "a signature of 1 to 65,535 bytes")
        return members["keyid"], members["sig"]

    members = shape(value, {"payload": base64_either, "payloadType": text, "signatures": listed(signed)})
    signatures = dict(members["signatures"])
    require(signatures and len(signatures) == len(members["signatures"]), "signatures, one for each key id")
    require(members["payloadType"], "a payload type")
    return {"type": members["payloadType"], "body": members["payload"], "signatures": signatures}


def signed_bytes(envelope: Envelope) -> bytes:
    """Return what the signatures cover."""
    return pae(envelope["type"], envelope["body"])


def record_hash(envelope: Envelope) -> str:
    """Return the hex hash of what is signed."""
    return hashlib.sha256(signed_bytes(envelope)).hexdigest()


def entry(envelope: Envelope) -> bytes:
    """Return the log entry."""
    return signed_bytes(envelope) + b"".join(
        bytes.fromhex(key_id) + len(signature).to_bytes(2, "big") + signature
        for key_id, signature in sorted(envelope["signatures"].items())
    )
