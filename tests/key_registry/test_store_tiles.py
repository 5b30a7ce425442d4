"""The right edge of the log grows as the whole log would, and fills the tiles that the whole log has."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from key_registry import merkle
from key_registry.errors import FormatError
from key_registry.merkle import CompactRange
from key_registry.store.tiles import Edge, NewTile

EMPTY = Edge(0, (), CompactRange())


def leaves(first: int, last: int) -> list[bytes]:
    return [hashlib.sha256(index.to_bytes(8, "big")).digest() for index in range(first, last)]


def all_tiles(hashes: list[bytes]) -> list[NewTile]:
    """The full tiles of a whole tree, by level and index, computed from the definition."""
    tiles: list[NewTile] = []
    level = 0
    while len(hashes) >= 256:
        rows = [hashes[start : start + 256] for start in range(0, len(hashes) - 255, 256)]
        roots = [merkle.root(row) for row in rows]
        tiles += [NewTile(level, index, roots[index], b"".join(row)) for index, row in enumerate(rows)]
        hashes, level = roots, level + 1
    return tiles


@given(st.lists(st.integers(0, 700), max_size=5))
def test_growing_in_any_steps_gives_the_same_tree(steps: list[int]) -> None:
    """However the leaves come, root, range and tiles are those of the whole tree."""
    edge, filled, size = EMPTY, [], 0
    for step in steps:
        edge, tiles = edge.extended(leaves(size, size + step))
        filled += tiles
        size += step
    assert edge.size == edge.range.size == size
    assert edge.root() == merkle.root(leaves(0, size))
    assert sorted(filled, key=lambda tile: (tile.level, tile.tile_index)) == all_tiles(leaves(0, size))


@given(st.lists(st.integers(0, 700), max_size=5))
def test_an_edge_is_made_again_from_its_rows(steps: list[int]) -> None:
    """Size and rows are all there is to an edge: the range follows from them."""
    edge = EMPTY
    for step in steps:
        edge, _ = edge.extended(leaves(edge.size, edge.size + step))
    again = Edge.from_rows(edge.size, edge.rows)
    assert again.range.hashes == edge.range.hashes
    assert again.root() == edge.root()


def test_a_tile_of_the_second_level_fills() -> None:
    """At 65,536 leaves the 256 roots of full tiles fill a tile of their own."""
    edge, _ = EMPTY.extended(leaves(0, 65_535))
    edge, tiles = edge.extended(leaves(65_535, 65_537))
    assert [(tile.level, tile.tile_index) for tile in tiles] == [(0, 255), (1, 0)]
    assert tiles[1].root == merkle.root(leaves(0, 65_536))
    assert [len(row) for row in edge.rows] == [1, 0, 1]
    assert edge.root() == merkle.root(leaves(0, 65_537))


def test_rows_that_do_not_fit_the_size_are_refused() -> None:
    """A missing hash is noticed before anything is appended to it."""
    edge, _ = EMPTY.extended(leaves(0, 300))
    with pytest.raises(FormatError):
        Edge.from_rows(300, [edge.rows[0][:-1], edge.rows[1]])
