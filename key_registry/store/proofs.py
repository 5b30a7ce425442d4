"""Hashes of the statement log for proofs and for appending: from full tiles, and beside them from leaves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from key_registry.merkle import TILE_HEIGHT, TILE_WIDTH, Node, node_hash, tile_node
from key_registry.store.connection import Connection, Database
from key_registry.store.errors import IntegrityBroken
from key_registry.store.tiles import Edge

CACHED_TILES = 256
"""Full tiles kept in memory, each up to 50 kB with the inner nodes that were asked of it."""

_LEAVES = """
SELECT leaf_hash FROM witness.attestations WHERE leaf_index >= %s AND leaf_index < %s ORDER BY leaf_index
"""
_ROOTS = """
SELECT root FROM witness.tiles WHERE level = %s AND tile_index >= %s AND tile_index < %s ORDER BY tile_index
"""
_TILES = """
SELECT tile.level, tile.tile_index, tile.hashes FROM unnest(%b::smallint[], %b::bigint[]) AS asked (level,
tile_index) JOIN witness.tiles AS tile ON tile.level = asked.level AND tile.tile_index = asked.tile_index
"""

Place = tuple[int, int]
"""Tile level and tile index."""


class Tile:
    """The hashes of a tile, full or not, and the nodes over them, folded when first asked for."""

    def __init__(self, hashes: Iterable[bytes]) -> None:
        self._nodes = {(0, index): value for index, value in enumerate(hashes)}
        self.is_full = len(self._nodes) == TILE_WIDTH

    def node(self, height: int, index: int) -> bytes:
        """Return node `index` of the row `height` above the hashes; KeyError when it is not complete."""
        found = self._nodes.get((height, index))
        if found is None:
            if height == 0:
                raise KeyError(index)
            found = node_hash(self.node(height - 1, 2 * index), self.node(height - 1, 2 * index + 1))
            self._nodes[height, index] = found
        return found


class TileCache:
    """The full tiles used last. Full tiles never change."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tiles: OrderedDict[Place, Tile] = OrderedDict()

    async def nodes(self, coordinates: Iterable[tuple[int, int]]) -> Node:
        """Return a Node that knows the complete subtrees asked for; see Store.nodes."""
        wanted = {_place(level, index) for level, index in coordinates}
        tiles = {place: self._tiles[place] for place in wanted & self._tiles.keys()}
        if missing := sorted(wanted - tiles.keys()):
            async with self._database.connection() as connection:
                tiles |= await _full(connection, missing)
                # Leaves and roots stay when a tile fills meanwhile, so this order misses nothing.
                if missing := sorted(wanted - tiles.keys()):
                    tiles |= await _partial(connection, missing)
        self._keep({place: tile for place, tile in tiles.items() if tile.is_full})

        def node(level: int, index: int) -> bytes:
            tile_level, first, count = tile_node(level, index)
            try:
                tile = tiles[tile_level, first // TILE_WIDTH]
                return tile.node(count.bit_length() - 1, first % TILE_WIDTH // count)
            except KeyError:
                raise IntegrityBroken(
                    f"expected the complete subtree {index} of level {level} in the statement log, got none"
                ) from None

        return node

    def _keep(self, tiles: dict[Place, Tile]) -> None:
        for place, tile in tiles.items():
            self._tiles[place] = tile
            self._tiles.move_to_end(place)
        while len(self._tiles) > CACHED_TILES:
            self._tiles.popitem(last=False)


async def leaf_hashes(database: Database, first: int, last: int) -> list[bytes]:
    """Return leaf hashes; see Store.leaf_hashes."""
    return [value for (value,) in await database.read(_LEAVES, (first, last))]


async def read_edge(connection: Connection, size: int) -> Edge:
    """Return the right edge of the statement log of `size` leaves, in one read for each of its few tile levels."""
    rows: list[list[bytes]] = []
    while hashes := size >> TILE_HEIGHT * len(rows):
        rows.append(await _hashes(connection, len(rows), hashes - hashes % TILE_WIDTH, hashes))
    return Edge.from_rows(size, rows)


async def _full(connection: Connection, places: list[Place]) -> dict[Place, Tile]:
    levels, indices = [level for level, _ in places], [index for _, index in places]
    rows = await connection.rows(_TILES, (levels, indices))
    return {(level, index): Tile(_split(hashes)) for level, index, hashes in rows}


async def _partial(connection: Connection, places: list[Place]) -> dict[Place, Tile]:
    return {
        (level, index): Tile(await _hashes(connection, level, index * TILE_WIDTH, (index + 1) * TILE_WIDTH))
        for level, index in places
    }


async def _hashes(connection: Connection, level: int, first: int, end: int) -> list[bytes]:
    """Return hashes first to end - 1 of a tile level: leaves, or the roots of full tiles of the level below."""
    rows = await (
        connection.rows(_LEAVES, (first, end)) if level == 0 else connection.rows(_ROOTS, (level - 1, first, end))
    )
    return [value for (value,) in rows]


def _place(level: int, index: int) -> Place:
    tile_level, first, _ = tile_node(level, index)
    return tile_level, first // TILE_WIDTH


def _split(hashes: bytes) -> Iterable[bytes]:
    return (hashes[start : start + 32] for start in range(0, len(hashes), 32))
