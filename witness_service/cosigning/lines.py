"""Cosignature lines, put under the log's own line when a checkpoint is handed out.

A checkpoint is stored as the log signed it. Of the registry log each cosigner's newest cosignature is handed out,
because it says how fresh a bundle is. Of the statement log it is the first one, because it says since when the
signatures below have existed, and because a bundle has to be as fresh as it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from key_registry.cosignature import Cosigner
from key_registry.store import Store, StoredCosignature
from witness_service.cosigning.asking import cosigner_id


async def cosignatures_of(store: Store, log: str, size: int, cosigners: Iterable[Cosigner]) -> list[StoredCosignature]:
    """Return the cosignatures that are handed out with a checkpoint, at most one by each cosigner."""
    ids = list(dict.fromkeys(cosigner_id(cosigner) for cosigner in cosigners))
    if not ids:
        return []
    if log == "registry":
        return await store.newest_cosignatures(log, size, ids)
    return (await store.first_cosignatures([size], ids))[size]


def attached(note: bytes, cosignatures: Sequence[StoredCosignature]) -> bytes:
    """Return a note with cosignature lines after its own."""
    return note + "".join(found.line for found in cosignatures).encode()


async def with_cosignatures(store: Store, log: str, size: int, note: bytes, cosigners: Iterable[Cosigner]) -> bytes:
    """Return a checkpoint with the lines of the cosigners given, as far as they have cosigned it."""
    return attached(note, await cosignatures_of(store, log, size, cosigners))
