"""What this instance itself has seen of the statement log: a database that is put back under it is noticed alone."""

from __future__ import annotations

from key_registry.merkle import Coordinates, tree_root
from key_registry.store import IntegrityBroken, LogHead, Store
from witness_service.cosigning.rollback import THIS_INSTANCE, RollbackGuard


class HighWater:
    """The last head this instance has seen, in memory: it needs no cosigner, and does not outlive the process."""

    def __init__(self, store: Store, guard: RollbackGuard) -> None:
        self._store = store
        self._guard = guard
        self._seen: LogHead | None = None

    async def check(self, head: LogHead) -> None:
        """Compare the log's head with the last one seen; tell the guard when it does not continue that one."""
        seen = self._seen
        if seen is not None and head.size < seen.size:
            self._lacks(seen, head, other_root=False)
        elif seen is not None and head != seen and await self._root_at(seen.size) != seen.root:
            self._lacks(seen, head, other_root=True)
        else:
            self._guard.agreed(THIS_INSTANCE, "statements", head.size)
            self._seen = head

    def _lacks(self, seen: LogHead, head: LogHead, *, other_root: bool) -> None:
        self._guard.contradicted(THIS_INSTANCE, "statements", seen.size, other_root=other_root, ours=head.size)

    async def _root_at(self, size: int) -> bytes | None:
        """Return the root over the first leaves, None when the database does not have them."""
        needed = Coordinates()
        tree_root(size, needed)
        try:
            return tree_root(size, await self._store.nodes(needed.asked))
        except IntegrityBroken:
            return None
