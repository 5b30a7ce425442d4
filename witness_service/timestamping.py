"""Asking a timestamp authority for a token over a checkpoint (RFC 3161 section 3.4, by HTTP)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx

from key_registry.errors import FormatError, SignatureError
from key_registry.timestamp import INSTALL, MAX_TOKEN_BYTES, LibraryMissing, read_token, verify_token

if TYPE_CHECKING:
    from rfc3161_client import TimeStampRequest

QUERY_TYPE = "application/timestamp-query"
REPLY_TYPE = "application/timestamp-reply"


class NoToken(Exception):
    """The authority gave no token that would hold; the message says why, in one line."""


async def timestamp(
    client: httpx.AsyncClient, url: str, checkpoint_text: str, roots_pem: bytes, *, seconds: float = 10.0
) -> bytes:
    """Return a verified token over a checkpoint's text: the authority's whole answer, as verify_token takes it.

    Args:
        client: how to reach it; redirections are not followed.
        url: of the authority, http or https: the token is signed, and nothing in the question is secret.
        checkpoint_text: the three lines of the note text, each with its newline.
        roots_pem: certificates, in PEM, that may have issued the authority's.
        seconds: how long it may take altogether.

    Raises:
        NoToken: no answer in time, not a token, or one that does not hold; asking again later is safe.
        LibraryMissing: rfc3161-client is not installed.
    """
    query = _query(checkpoint_text)
    try:
        async with asyncio.timeout(seconds):
            answer = await _ask(client, url, query.as_bytes())
    except TimeoutError:
        raise NoToken(f"expected an answer of the timestamp authority within {seconds:g} s, got none") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoToken(f"expected an answer of the timestamp authority, got {type(error).__name__}") from None
    try:
        if read_token(answer).tst_info.nonce != query.nonce:
            raise NoToken("expected a token for this very question, got one with another nonce")
        verify_token(answer, checkpoint_text, roots_pem)
    except (FormatError, SignatureError) as error:
        raise NoToken(str(error)) from error
    return answer


def _query(checkpoint_text: str) -> TimeStampRequest:
    try:
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder
    except ImportError:
        raise LibraryMissing(INSTALL) from None
    builder = TimestampRequestBuilder().data(checkpoint_text.encode()).hash_algorithm(HashAlgorithm.SHA256)
    return builder.nonce(nonce=True).cert_request(cert_request=True).build()


async def _ask(client: httpx.AsyncClient, url: str, query: bytes) -> bytes:
    """Return the body of the authority's answer, and read no more of it than a token can have."""
    headers = {"Content-Type": QUERY_TYPE, "Accept": REPLY_TYPE, "Accept-Encoding": "identity"}
    async with client.stream("POST", url, content=query, headers=headers, follow_redirects=False) as answer:
        said = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if answer.status_code != 200 or said != REPLY_TYPE:
            raise NoToken(f"expected status 200 and a timestamp reply, got status {answer.status_code}")
        body = b""
        async for part in answer.aiter_raw():
            body += part
            if len(body) > MAX_TOKEN_BYTES:
                raise NoToken(f"expected a timestamp reply of at most {MAX_TOKEN_BYTES} bytes, got more")
        return body
