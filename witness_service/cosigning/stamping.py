"""Timestamp tokens over checkpoints of the statement log (RFC 3161), asked for beside everything else."""

from __future__ import annotations

import asyncio

import httpx
import structlog

from key_registry import note
from key_registry.errors import FormatError
from key_registry.store import Store, StoreError
from witness_service.config import TimestampsSection
from witness_service.log_signer import SignedHead
from witness_service.timestamping import NoToken, timestamp

log = structlog.get_logger(__name__)


class Stamping:
    """Asks one timestamp authority, one checkpoint at a time."""

    def __init__(self, store: Store, section: TimestampsSection, url: str, roots_pem: bytes) -> None:
        """url: of the authority. roots_pem: certificates that may have issued the authority's."""
        self._store = store
        self._section = section
        self._url = url
        self._roots_pem = roots_pem
        self._client = httpx.AsyncClient(follow_redirects=False)
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")
        self.problem = ""
        """Why the last token did not come, in words; empty when it did."""

    async def is_due(self, size: int) -> bool:
        """Say whether a token over a checkpoint of this size should be asked for now."""
        if size == 0 or (self._asking is not None and not self._asking.done()):
            return False
        if asyncio.get_running_loop().time() < self._asked_at + self._section.interval_seconds:
            return False
        last = await self._store.last_timestamped()
        return last is None or last < size

    def begin(self, head: SignedHead) -> None:
        """Ask for a token over the text of a stored checkpoint; nobody waits for it."""
        self._asked_at = asyncio.get_running_loop().time()
        self._asking = asyncio.create_task(self._ask(head))

    async def close(self) -> None:
        """End a request that runs."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._client.aclose()

    async def _ask(self, head: SignedHead) -> None:
        text = note.parse(head.note).text
        try:
            token = await timestamp(
                self._client, self._url, text, self._roots_pem, seconds=self._section.timeout_seconds
            )
            await self._store.add_timestamp(head.size, token)
        except (NoToken, FormatError, StoreError) as error:
            if str(error) != self.problem:
                log.error("no timestamp token", size=head.size, problem=str(error))
            self.problem = str(error)
        else:
            self.problem = ""
