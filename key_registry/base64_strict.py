"""Base64 with exactly one spelling for every byte string (RFC 4648 sections 3.5, 4 and 5)."""

import binascii

from key_registry.errors import FormatError

_URL_SAFE_TO_STANDARD = str.maketrans("-_", "+/")


def encode(data: bytes) -> str:
    """Return data in the standard alphabet, padded and on one line."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes that text spells in the standard alphabet.

    Raises:
        FormatError: any other spelling: padding missing, white space, characters outside the alphabet, or
            trailing bits that are not zero.
    """
    try:
        data = binascii.a2b_base64(text)
    except ValueError:
        raise FormatError("expected base64 in the standard alphabet with padding, got other text") from None
    # The decoder skips what it does not know and drops trailing bits; comparing spellings catches all of it.
    if encode(data) != text:
        raise FormatError("expected base64 in its one canonical spelling, got another spelling")
    return data


def decode_either(text: str) -> bytes:
    """Return the bytes that text spells in the standard or in the URL-safe alphabet, with padding.

    A DSSE signer may use either alphabet, and a verifier must accept either (DSSE protocol.md).

    Raises:
        FormatError: as for decode, and for a mix of the two alphabets.
    """
    if "-" in text or "_" in text:
        if "+" in text or "/" in text:
            raise FormatError("expected base64 in one alphabet, got a mix of standard and URL-safe")
        text = text.translate(_URL_SAFE_TO_STANDARD)
    return decode(text)
