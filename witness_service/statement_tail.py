"""The right edge of the statement log in memory, so that a seal reads nothing it wrote itself."""

from __future__ import annotations

from collections.abc import Sequence

from key_registry.store import Edge, IntegrityBroken, NewTile, SealTransaction


class StatementTail:
    """The edge after the last seal of this instance; read anew when another instance has sealed since."""

    def __init__(self) -> None:
        self._edge: Edge | None = None
        self._grown: Edge | None = None

    async def extend(self, transaction: SealTransaction, leaf_hashes: Sequence[bytes]) -> tuple[bytes, list[NewTile]]:
        """Return the root after more leaves and the tiles they fill; nothing is kept until `commit`.

        leaf_hashes: 32 bytes each. Raises IntegrityBroken when the stored hashes do not give the stored root.
        """
        head = transaction.head
        edge = self._edge
        if edge is None or (edge.size, edge.root()) != (head.size, head.root):
            edge = await transaction.edge()
            if edge.root() != head.root:
                raise IntegrityBroken(
                    f"expected the hashes of the statement log to give the root it had at size {head.size}, "
                    "got another root; compare the database with a backup before anything else is signed"
                )
        self._grown, tiles = edge.extended(leaf_hashes)
        return self._grown.root(), tiles

    def commit(self) -> None:
        """Keep what the last `extend` made: its transaction is committed."""
        self._edge, self._grown = self._grown or self._edge, None

    def forget(self) -> None:
        """Drop everything: the last transaction failed, or nobody knows whether it did."""
        self._edge = self._grown = None
