"""Where a publication gets what it publishes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from witness_service.wire.answers import SignedCheckpoint


class Source(Protocol):
    """A service; nothing it gives is believed before it is verified. Logs are "registry" and "statements"."""

    def checkpoint(self, log: str, at_least: int) -> SignedCheckpoint:
        """Return the largest checkpoint of a log that a quorum has cosigned.

        Where there is none, or it is over fewer entries than at_least: one over the whole log.
        """

    def bundle(self) -> bytes:
        """Return the content of bundle.json."""

    def entries(self, log: str, first: int, end: int) -> Iterator[bytes]:
        """Yield the entries first to end - 1 of a log, fewer if it has fewer."""
