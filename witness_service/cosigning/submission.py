"""The HTTP of tlog-witness: one POST, bounded in time and bytes, whatever the other side does."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

import httpx

from key_registry.tlog_witness import ADD_CHECKPOINT, MAX_ANSWER_BYTES

_CONNECTIONS = httpx.Limits(max_connections=128, max_keepalive_connections=64, keepalive_expiry=60.0)


class Unanswered(Exception):
    """No answer that could be read; the message says why in words, without address or content."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. body: at most 64 KiB."""

    status: int
    content_type: str
    body: bytes


class Submissions:
    """Sends add-checkpoint requests; any number at the same time."""

    def __init__(self, seconds: float) -> None:
        """seconds: from the first packet to the last byte of the answer, of one request."""
        self._seconds = seconds
        # Compressed answers could unfold to any size, and a redirection could lead anywhere.
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            timeout=httpx.Timeout(seconds),
            limits=_CONNECTIONS,
            headers={"Accept-Encoding": "identity", "User-Agent": "witness-service"},
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def add_checkpoint(self, prefix: str, body: bytes) -> Answer:
        """POST a request body below a cosigner's submission prefix and return the answer; raises Unanswered."""
        url = f"{prefix.rstrip('/')}/{ADD_CHECKPOINT}"
        try:
            async with asyncio.timeout(self._seconds):
                return await self._post(url, body)
        except (TimeoutError, httpx.TimeoutException):
            raise Unanswered(f"no answer within {self._seconds:g} s") from None
        except httpx.ConnectError as error:
            reason = "no connection over TLS" if isinstance(error.__cause__, ssl.SSLError) else "no connection"
            raise Unanswered(reason) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise Unanswered(f"no HTTP answer ({type(error).__name__})") from None

    async def _post(self, url: str, body: bytes) -> Answer:
        async with self._client.stream("POST", url, content=body) as response:
            received = bytearray()
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) > MAX_ANSWER_BYTES:
                    raise Unanswered(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
            return Answer(response.status_code, response.headers.get("Content-Type", ""), bytes(received))
