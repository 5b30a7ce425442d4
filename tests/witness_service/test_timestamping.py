"""A token is kept only when an authority gave it for this question, in time, and it holds."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from key_registry.checkpoint import Checkpoint
from key_registry.timestamp import verify_token
from tests.fix_timestamp_authority import AuthorityServer, TimestampAuthority, make_authority
from witness_service.timestamping import REPLY_TYPE, NoToken, timestamp

TEXT = Checkpoint("log.example/statements", 7, bytes(range(32))).text()


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client that no proxy of the environment gets in the way of."""
    async with httpx.AsyncClient(trust_env=False) as opened:
        yield opened


async def test_the_answer_is_a_token_over_the_text(
    client: httpx.AsyncClient, authority_server: AuthorityServer, timestamp_authority: TimestampAuthority
) -> None:
    roots = timestamp_authority.roots_pem
    token = await timestamp(client, authority_server.url, TEXT, roots)
    assert verify_token(token, TEXT, roots)


async def test_two_questions_differ(
    client: httpx.AsyncClient, authority_server: AuthorityServer, timestamp_authority: TimestampAuthority
) -> None:
    """Each has a nonce of its own, so that an old answer cannot be played again."""
    queries: list[bytes] = []
    answers = authority_server.answers

    def noting(query: bytes) -> tuple[int, str, bytes]:
        queries.append(query)
        return answers(query)

    authority_server.answers = noting
    for _ in range(2):
        await timestamp(client, authority_server.url, TEXT, timestamp_authority.roots_pem)
    assert queries[0] != queries[1]
    first = timestamp_authority.answer(queries[0])
    authority_server.answers = lambda query: (200, REPLY_TYPE, first)
    with pytest.raises(NoToken, match="nonce"):
        await timestamp(client, authority_server.url, TEXT, timestamp_authority.roots_pem)


async def test_an_authority_that_is_not_trusted_gives_no_token(
    client: httpx.AsyncClient, authority_server: AuthorityServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = make_authority(tmp_path_factory.mktemp("other") / "authority")
    with pytest.raises(NoToken, match="under the roots"):
        await timestamp(client, authority_server.url, TEXT, other.roots_pem)


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (200, REPLY_TYPE, b""),
        (200, REPLY_TYPE, b"garbage"),
        (200, REPLY_TYPE, bytes(1_000_000)),
        (200, "text/html", b"<html>"),
        (500, REPLY_TYPE, b""),
        (404, "text/plain", b"no such page"),
        (307, REPLY_TYPE, b""),
    ],
)
async def test_what_is_no_answer_of_an_authority(
    client: httpx.AsyncClient,
    authority_server: AuthorityServer,
    timestamp_authority: TimestampAuthority,
    status: int,
    content_type: str,
    body: bytes,
) -> None:
    authority_server.answers = lambda query: (status, content_type, body)
    with pytest.raises(NoToken):
        await timestamp(client, authority_server.url, TEXT, timestamp_authority.roots_pem)


async def test_an_authority_that_hangs_is_left(
    client: httpx.AsyncClient, authority_server: AuthorityServer, timestamp_authority: TimestampAuthority
) -> None:
    def hang(query: bytes) -> tuple[int, str, bytes]:
        authority_server.released.wait(30)
        return 503, "", b""

    authority_server.answers = hang
    started = time.monotonic()
    with pytest.raises(NoToken, match=r"within 0\.3 s"):
        await timestamp(client, authority_server.url, TEXT, timestamp_authority.roots_pem, seconds=0.3)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "ftp://127.0.0.1/", "http://[", "nonsense", ""])
async def test_an_authority_that_cannot_be_reached(
    client: httpx.AsyncClient, timestamp_authority: TimestampAuthority, url: str
) -> None:
    with pytest.raises(NoToken):
        await timestamp(client, url, TEXT, timestamp_authority.roots_pem, seconds=5)
