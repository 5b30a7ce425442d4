"""Timestamp tokens over checkpoints (RFC 3161): a timestamp authority's word that a text existed by a time.

The library that reads them, rfc3161-client, is not needed for judging without tokens, so it is imported on use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509

from key_registry.errors import FormatError, SignatureError

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse, TimeStampTokenInfo

MAX_TOKEN_BYTES = 65_536
MAX_ROOTS_BYTES = 1_048_576

INSTALL = "expected the library rfc3161-client, got none; install witness-service with the extra `timestamps`"

_HASHES: dict[str, Callable[[bytes], bytes]] = {
    "2.16.840.1.101.3.4.2.1": lambda text: hashlib.sha256(text).digest(),
    "2.16.840.1.101.3.4.2.3": lambda text: hashlib.sha512(text).digest(),
}

_SEQUENCE = 0x30
_OBJECT_IDENTIFIER = 0x06
_GRANTED = bytes.fromhex("3003020100")


class LibraryMissing(FormatError):
    """The token may be good, but the library that reads tokens is not installed."""


def verify_token(token: bytes, checkpoint_text: str, roots_pem: bytes) -> str:
    """Return by when a timestamp authority had seen a checkpoint's text: YYYY-MM-DDTHH:MM:SS.ffffffZ.

    That is the end of the second in the token, and the accuracy that it states on top (RFC 3161 section 2.4.2).
    Certificates must have been valid at the token's time; whether they still are does not matter.

    Args:
        token: DER, at most 64 KiB, of a TimeStampToken, or of the TimeStampResp that an authority answers with; with
            the authority's certificate in it, and over the SHA-256 or SHA-512 of the text.
        checkpoint_text: the three lines of the note text, each with its newline.
        roots_pem: certificates, in PEM, that may have issued the authority's.

    Raises:
        FormatError: not such a token, or roots that are no certificates; LibraryMissing without rfc3161-client.
        SignatureError: a token over another text, or one that was not granted; not by an authority under the roots, by
            a certificate that was not valid then, or by one that is not for timestamping.
    """
    response = read_token(token)
    roots = read_roots(roots_pem)
    if response.tst_info.message_imprint.message != _digest(response.tst_info, checkpoint_text.encode()):
        raise SignatureError("expected a timestamp token over this checkpoint, got one over another text")
    # Of two roots with one name OpenSSL tries the first alone; intermediates may be among them, so not one by one only.
    if not any(_is_by(response, some) for some in (roots, *([root] for root in roots))):
        raise SignatureError(
            "expected a token by a timestamp authority under the roots, with a certificate for it that was valid then, "
            "got another"
        )
    return _latest(response.tst_info)


def read_token(token: bytes) -> TimeStampResponse:
    """Return the parts of a token, verifying nothing.

    token: as for verify_token. Raises FormatError for any other bytes, LibraryMissing without rfc3161-client.
    """
    try:
        from rfc3161_client import decode_timestamp_response
    except ImportError:
        raise LibraryMissing(INSTALL) from None
    if len(token) > MAX_TOKEN_BYTES:
        raise FormatError(f"expected a timestamp token of at most {MAX_TOKEN_BYTES} bytes, got {len(token)}")
    try:
        response = decode_timestamp_response(_answer_with(token))
        response.tst_info.gen_time  # noqa: B018  it is parsed when it is asked for
        return response
    except ValueError:
        raise FormatError("expected a granted timestamp token of RFC 3161 in DER, got other bytes") from None


def _is_by(response: TimeStampResponse, roots: list[x509.Certificate]) -> bool:
    """Tell whether the token was granted and signed by an authority under some of the roots."""
    from rfc3161_client import VerificationError, VerifierBuilder

    try:
        VerifierBuilder(roots=roots).build().verify(response, response.tst_info.message_imprint.message)
    except VerificationError:
        return False
    except ValueError:
        raise FormatError("expected a timestamp token that can be read, got other bytes") from None
    return True


def _answer_with(token: bytes) -> bytes:
    """Return the authority's answer: the token itself if it is one, else what it would have been."""
    start = 2 + (token[1] & 0x7F if len(token) > 1 and token[1] & 0x80 else 0)
    if len(token) <= start or token[start] != _OBJECT_IDENTIFIER:
        return token
    content = _GRANTED + token
    length = len(content).to_bytes(3, "big").lstrip(b"\0")
    head = length if len(content) < 0x80 else bytes([0x80 | len(length)]) + length
    return bytes([_SEQUENCE]) + head + content


def read_roots(pem: bytes) -> list[x509.Certificate]:
    """Return the certificates in PEM, at least one; raises FormatError for other bytes."""
    if len(pem) > MAX_ROOTS_BYTES:
        raise FormatError(f"expected certificates of at most {MAX_ROOTS_BYTES} bytes, got {len(pem)}")
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise FormatError("expected certificates in PEM as roots of the timestamp authority, got others") from None


def _digest(info: TimeStampTokenInfo, text: bytes) -> bytes:
    algorithm = info.message_imprint.hash_algorithm.dotted_string
    if algorithm not in _HASHES:
        raise FormatError("expected a token over a SHA-256 or SHA-512, got another algorithm")
    return _HASHES[algorithm](text)


def _latest(info: TimeStampTokenInfo) -> str:
    """Return the latest time that the token can mean; the library drops what it says below a second."""
    accuracy = info.accuracy
    try:
        latest = info.gen_time + timedelta(seconds=1)
        if accuracy is not None:
            latest += timedelta(
                seconds=accuracy.seconds or 0, milliseconds=accuracy.millis or 0, microseconds=accuracy.micros or 0
            )
    except OverflowError:
        raise FormatError("expected a token's time before the year 10000, got a later one") from None
    return latest.isoformat(timespec="microseconds").replace("+00:00", "Z")
