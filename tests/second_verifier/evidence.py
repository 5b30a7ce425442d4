"""Statements and the files that carry them (docs/format.md, "Statement" and "Evidence")."""

from __future__ import annotations

from typing import Any

from . import forms
from .envelope import STATEMENT, read_envelope
from .forms import Malformed, require, shape

LARGEST = 1_048_576
MOST_HASHES = 63

STATEMENT_MEMBERS: dict[str, forms.Form] = {
    "environment": forms.environment,
    "event_hash": forms.event_hash,
    "event_id": forms.name,
    "event_type": forms.name,
    "key_id": forms.hex32,
    "previous_event_hash": forms.optional(forms.event_hash),
    "registry_id": forms.hex32,
    "registry_root": forms.hex32,
    "registry_size": forms.number,
    "round": forms.number,
    "sequence": forms.number,
    "signed_at": forms.moment,
    "stream": forms.name,
    "witness_id": forms.witness_id,
}


def read_evidence(data: bytes) -> dict[str, Any]:
    """Read evidence: its `envelope`, `statement` and `proof` (None, or `index`, `path` and `checkpoint`, unread)."""
    require(len(data) <= LARGEST, f"evidence of at most {LARGEST} bytes")
    attestation, proof = _read_proof(data) if data.startswith(b"c2sp.org/tlog-proof@") else (data, None)
    envelope = read_envelope(forms.read_json(attestation))
    require(envelope["type"] == STATEMENT, "an envelope of a statement")
    require(len(envelope["signatures"]) == 1, "exactly one signature")
    statement = shape(forms.read_body(envelope["body"]), STATEMENT_MEMBERS)
    return {"envelope": envelope, "statement": statement, "proof": proof}


def _read_proof(data: bytes) -> tuple[bytes, dict[str, Any]]:
    above, blank, checkpoint = data.partition(b"\n\n")
    # Whatever it is, its form is a matter of step 11.
    require(blank and checkpoint, "a blank line and a checkpoint")
    try:
        lines = above.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise Malformed("expected UTF-8") from error
    require(len(lines) >= 3 and lines[0] == "c2sp.org/tlog-proof@v1", "a tlog-proof of version 1")
    require(lines[1].startswith("extra ") and lines[2].startswith("index "), "the lines extra and index")
    path = [forms.base64(line) for line in lines[3:]]
    require(len(path) <= MOST_HASHES and all(len(step) == 32 for step in path), "at most 63 hashes of 32 bytes")
    index = forms.number(lines[2].removeprefix("index "))
    return forms.base64(lines[1].removeprefix("extra ")), {"index": index, "path": path, "checkpoint": checkpoint}
