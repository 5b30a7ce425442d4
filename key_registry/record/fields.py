"""The forms of fields that only records have."""

import re
from collections.abc import Mapping

from key_registry import base64_strict
from key_registry.canonical_json import JSONValue
from key_registry.errors import FormatError
from key_registry.public_key import PublicKey
from key_registry.statement import check_name, read_text

_HEX = re.compile("(?:[0-9a-f]{2})+")


def read_list(field: str, value: JSONValue) -> list[JSONValue]:
    """Return `value` if it is a list; raises FormatError otherwise."""
    if not isinstance(value, list):
        raise FormatError(f"{field}: expected a list, got something else")
    return value


def read_bytes(field: str, value: JSONValue) -> bytes:
    """Return the bytes of a base64 string; raises FormatError."""
    return base64_strict.decode(read_text(field, value))


def read_public_key(field: str, value: JSONValue) -> PublicKey:
    """Return the key in base64 of its DER SubjectPublicKeyInfo; raises FormatError or UnsupportedAlgorithm."""
    return PublicKey.from_spki(read_bytes(field, value))


def read_cka_id(value: JSONValue) -> bytes:
    """Return the CKA_ID of a lower-case hex string; raises FormatError."""
    text = read_text("cka_id", value)
    if not _HEX.fullmatch(text):
        raise FormatError("cka_id: expected lower-case hex, got something else")
    return bytes.fromhex(text)


def read_optional_text(field: str, body: Mapping[str, JSONValue]) -> str | None:
    """Return the string of a member that may be null; raises FormatError for anything else."""
    value = body[field]
    return None if value is None else read_text(field, value)


def check_token_place(cka_id: bytes, token_serial: str) -> None:
    """Raise FormatError unless these can say where in a token a key is: 1 to 64 bytes, and a name."""
    if not 1 <= len(cka_id) <= 64:
        raise FormatError(f"cka_id: expected 1 to 64 bytes, got {len(cka_id)}")
    check_name("token_serial", token_serial)
