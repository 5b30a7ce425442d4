"""A security lead's key, wherever it is: in a file of the lead's own, or on the lead's own PKCS#11 token.

Leads sign on their own machines; the service never sees one of these keys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from key_registry import dsse
from key_registry.public_key import PublicKey
from key_registry.record import RECORD_TYPE

PKCS11_SCHEME = "pkcs11:"


class LeadKeyError(Exception):
    """A lead's key cannot be used; the message says why and names where it is, never its content."""


class LeadTokenError(LeadKeyError):
    """The lead's token refuses or does not answer; after a refused PIN nobody tries again by program."""


class LeadSigner(ABC):
    """Signs as one lead; closed after use, best by `with`.

    Attributes:
        name: what the key is called where it lies; empty when nothing says so.
        remarks: what the lead should know about the key, one sentence each.
    """

    name: str
    remarks: tuple[str, ...]

    @property
    @abstractmethod
    def public_key(self) -> PublicKey:
        """The public half."""

    @abstractmethod
    def sign(self, payload_type: str, body: bytes) -> dsse.Signature:
        """Return a DSSE signature over a body of a type; raises LeadKeyError when the key does not sign."""

    def sign_record(self, body: bytes) -> dsse.Signature:
        """Return a signature over a registry record, its canonical JSON; raises LeadKeyError."""
        return self.sign(RECORD_TYPE, body)

    @abstractmethod
    def close(self) -> None:
        """Let go of what the key needs; does nothing the second time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_lead(where: str | Path, *, passphrase_file: Path | None = None) -> LeadSigner:
    """Open a lead's key.

    Args:
        where: path of a PKCS#8 PEM file, or a PKCS#11 URI (RFC 7512) that begins with "pkcs11:".
        passphrase_file: holds the file's passphrase or the token's PIN, which is otherwise asked for on the
            terminal when one is needed. A pin-source in the URI comes first.

    Raises:
        LeadKeyError: the key cannot be used.
    """
    if isinstance(where, str) and where[: len(PKCS11_SCHEME)].lower() == PKCS11_SCHEME:
        from witness_service.lead_token import TokenLead
        from witness_service.pkcs11_uri import Pkcs11Uri

        return TokenLead.open(Pkcs11Uri.parse(where), pin_file=passphrase_file)
    from witness_service.lead_key import LeadKey
    from witness_service.secret_input import passphrase

    return LeadKey.load(Path(where), lambda: passphrase(passphrase_file, f"Passphrase of {where}: "))
