"""Reading the two logs: entries as they were hashed, and checkpoints over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from key_registry import dsse
from key_registry.statement import STATEMENT_TYPE
from key_registry.store import Store, StoredClaim
from witness_service.cosigning.handing_out import HandingOut
from witness_service.log_signer import LogSigner
from witness_service.registry_view import RegistryView

Log = Literal["registry", "statements"]

PAGE = 256
"""Entries read at once."""


@dataclass(frozen=True, slots=True)
class ReadCheckpoint:
    """A checkpoint as it is handed out. note: with cosignature lines. token: RFC 3161, over its text, or None."""

    note: bytes
    size: int
    token: bytes | None


class LogReading:
    """Reads both logs for whoever copies them."""

    def __init__(self, store: Store, view: RegistryView, signer: LogSigner, handing_out: HandingOut) -> None:
        self._store = store
        self._view = view
        self._signer = signer
        self._handing_out = handing_out

    async def checkpoint(self, log: Log, at_least: int) -> ReadCheckpoint:
        """Return the largest checkpoint of a log that a quorum has cosigned.

        Where there is none, or it is over fewer entries than at_least: one over the whole log. Raises Refused,
        StoreError, HsmError.
        """
        if log == "registry":
            bundle = await self._signer.bundle()
            return ReadCheckpoint(bundle.checkpoint, len(bundle.records), None)
        found = await self._handing_out.newest()
        if found.size < at_least:
            found = await self._handing_out.head()
        return ReadCheckpoint(found.note, found.size, found.token)

    async def entries(self, log: Log, first: int, limit: int) -> AsyncIterator[list[bytes]]:
        """Give entries of a log from index first on, in pages. limit: how many at most, 0 for all there are."""
        if log == "registry":
            registry = await self._view.refresh()
            records = islice(registry.envelopes, first, first + limit if limit else None)
            while page := [envelope.entry() for envelope in islice(records, PAGE)]:
                yield page
            return
        end = first + limit if limit else None
        while page := await self._attested(first, end):
            yield page
            first += len(page)

    async def _attested(self, first: int, end: int | None) -> list[bytes]:
        limit = PAGE if end is None else min(PAGE, end - first)
        return [_entry(claim) for claim in await self._store.attestations_from(first, limit)] if limit else []


def _entry(claim: StoredClaim) -> bytes:
    assert claim.signature is not None, "what is read by leaf index is sealed"
    return dsse.Envelope(STATEMENT_TYPE, claim.statement, (dsse.Signature(claim.key_id, claim.signature),)).entry()
