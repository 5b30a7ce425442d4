"""Consistency proofs of both logs, for cosigners (RFC 9162 section 2.1.4)."""

from __future__ import annotations

from key_registry import merkle
from key_registry.store import Store
from witness_service.registry_view import RegistryView


class ConsistencyProofs:
    """Proves that a log has only grown."""

    def __init__(self, store: Store, view: RegistryView) -> None:
        self._store = store
        self._view = view

    async def proof(self, log: str, old: int, new: int) -> list[bytes]:
        """Return the proof that the tree of `old` entries begins the one of `new`, empty for old 0 or equal sizes.

        log: "registry" or "statements". Raises StoreError.
        """
        if log == "registry":
            return await self._registry_proof(old, new)
        needed = merkle.Coordinates()
        merkle.consistency_proof(old, new, needed)
        return merkle.consistency_proof(old, new, await self._store.nodes(needed.asked))

    async def _registry_proof(self, old: int, new: int) -> list[bytes]:
        registry = await self._view.at_size(new)
        leaves = [merkle.leaf_hash(envelope.entry()) for envelope in registry.envelopes]
        return merkle.consistency_proof(old, new, lambda level, index: merkle.fold(_run(leaves, level, index)))


def _run(leaves: list[bytes], level: int, index: int) -> list[bytes]:
    return leaves[index << level : (index + 1) << level]
