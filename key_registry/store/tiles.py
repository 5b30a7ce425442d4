"""The right edge of the statement log, and the tiles that fill as it grows (C2SP tlog-tiles). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from key_registry.merkle import TILE_HEIGHT, TILE_WIDTH, CompactRange, fold


@dataclass(frozen=True, slots=True)
class NewTile:
    """A tile that is full. hashes: 256 of 32 bytes, joined. root: their RFC 9162 root."""

    level: int
    tile_index: int
    root: bytes
    hashes: bytes


@dataclass(frozen=True, slots=True)
class Edge:
    """All that appending needs: at each tile level the hashes of the tile that is not full yet.

    size: leaves. rows: by tile level, 0 to 255 hashes each. range: the compact range of the same tree.
    """

    size: int
    rows: tuple[tuple[bytes, ...], ...]
    range: CompactRange

    @classmethod
    def from_rows(cls, size: int, rows: Sequence[Sequence[bytes]]) -> Edge:
        """Return the edge of a tree of so many leaves; FormatError when the rows do not fit the size."""
        kept = tuple(tuple(row) for row in rows)
        peaks = [peak for row in reversed(kept) for peak in _peaks(row)]
        return cls(size, kept, CompactRange.from_hashes(size, peaks))

    def root(self) -> bytes:
        """Return the Merkle tree hash."""
        return self.range.root()

    def extended(self, leaf_hashes: Iterable[bytes]) -> tuple[Edge, list[NewTile]]:
        """Return the edge after more leaves, and the tiles that they fill, lower levels first."""
        added = list(leaf_hashes)
        grown = self.range.copy()
        grown.extend(added)
        rows: list[tuple[bytes, ...]] = []
        filled: list[NewTile] = []
        level = 0
        while added or level < len(self.rows):
            row = [*self.rows[level], *added] if level < len(self.rows) else added
            tile_index = self.size >> TILE_HEIGHT * (level + 1)
            added = []
            while len(row) >= TILE_WIDTH:
                full, row = row[:TILE_WIDTH], row[TILE_WIDTH:]
                added.append(fold(full))
                filled.append(NewTile(level, tile_index, added[-1], b"".join(full)))
                tile_index += 1
            rows.append(tuple(row))
            level += 1
        return Edge(grown.size, tuple(rows), grown), filled


def _peaks(row: Sequence[bytes]) -> Iterable[bytes]:
    """Yield the roots of the complete subtrees of a row of 0 to 255 hashes, largest first."""
    start = 0
    for height in reversed(range(TILE_HEIGHT)):
        width = 1 << height
        if len(row) & width:
            yield fold(row[start : start + width])
            start += width
