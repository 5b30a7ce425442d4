"""The files that go between the service and its leads: the draft of a genesis record, and a lead's signature.

The draft is the body of the record, byte for byte. A signature is a DSSE envelope with the draft and that one
signature.
"""

from __future__ import annotations

from pathlib import Path

from key_registry import dsse
from key_registry.errors import FormatError, SignatureError
from key_registry.record import RECORD_TYPE, Genesis, decode
from witness_service.lead_signer import LeadSigner

LONGEST_DRAFT = 1_048_576
"""Bytes of a draft."""

LONGEST_SIGNATURE = 2_097_152
"""Bytes of a signature file, which holds the draft in base64."""


class BadDraft(Exception):
    """A file of the ceremony cannot be used; the message names it and says what to do."""


def read_draft(path: Path) -> tuple[bytes, Genesis]:
    """Return the bytes of a draft and what they say; raises BadDraft."""
    try:
        with open(path, "rb") as file:
            body = file.read(LONGEST_DRAFT + 1)
    except OSError as error:
        raise BadDraft(f"cannot read {path}: {error.strerror}") from error
    try:
        record = decode(body)
    except FormatError as error:
        raise BadDraft(f"{path}: expected a genesis record as `witness genesis draft` writes it: {error}") from None
    if not isinstance(record, Genesis):
        raise BadDraft(
            f"{path}: expected a genesis record, got one of type {record.TYPE}; those are approved at the service"
        )
    return body, record


def sign_draft(lead: LeadSigner, body: bytes) -> bytes:
    """Return the content of a signature file; raises LeadKeyError."""
    return dsse.Envelope(RECORD_TYPE, body, (lead.sign_record(body),)).to_json() + b"\n"


def read_signature(path: Path, body: bytes, genesis: Genesis) -> tuple[str, dsse.Signature]:
    """Return the key id of a lead and the lead's good signature under a draft.

    body, genesis: the draft, its bytes and what they say. Raises BadDraft for a file of another draft, of nobody
    who is a lead, or with a bad signature.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LONGEST_SIGNATURE)
    except OSError as error:
        raise BadDraft(f"cannot read {path}: {error.strerror}") from error
    try:
        envelope = dsse.Envelope.from_json(content)
    except FormatError as error:
        raise BadDraft(f"{path}: expected what `witness lead sign` wrote: {error}") from None
    if (envelope.payload_type, envelope.body) != (RECORD_TYPE, body):
        raise BadDraft(f"{path}: expected a signature under this draft, got one under another; have it signed again")
    leads = {lead.public_key.key_id: lead.public_key for lead in genesis.leads}
    (signature, *others) = envelope.signatures
    if others or signature.key_id not in leads:
        raise BadDraft(f"{path}: expected the signature of one lead of the draft, got another's or several")
    try:
        leads[signature.key_id].verify(signature.signature, envelope.pae())
    except SignatureError as error:
        raise BadDraft(f"{path}: {error}") from None
    return signature.key_id, signature
