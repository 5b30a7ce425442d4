"""Published logs lie where C2SP tlog-tiles says, in the bytes that it says, and in no other spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from key_registry import tlog_tiles
from key_registry.errors import FormatError
from key_registry.tlog_tiles import Tile

TILES = st.builds(
    Tile, st.none() | st.integers(0, 63), st.integers(0, 2**63 - 1) | st.integers(0, 3000), st.integers(1, 256)
)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1_234_067), "tile/0/x001/x234/067"),
        (Tile(0, 999), "tile/0/999"),
        (Tile(1, 1000), "tile/1/x001/000"),
        (Tile(2, 0, 1), "tile/2/000.p/1"),
        (Tile(0, 273, 112), "tile/0/273.p/112"),
        (Tile(63, 5, 255), "tile/63/005.p/255"),
        (Tile(None, 1_000_000), "tile/entries/x001/x000/000"),
        (Tile(None, 273, 112), "tile/entries/273.p/112"),
    ],
)
def test_paths_of_the_specification(tile: Tile, path: str) -> None:
    assert (tile.path, Tile.parse(path)) == (path, tile)


@given(TILES)
def test_every_tile_has_one_path(tile: Tile) -> None:
    assert Tile.parse(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/x000/x001/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/x001/x000",
        "tile/00/000",
        "tile/01/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/000\n",
        "tile/0/\u0660\u0660\u0660",
        "tile/entry/000",
        "tile/0/../000",
        "tile/0/x009/x223/x372/x036/x854/x775/808",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(FormatError):
        Tile.parse(path)


@pytest.mark.parametrize("arguments", [(64, 0), (-1, 0), (0, -1), (0, 2**63), (0, 0, 0), (0, 0, 257)])
def test_no_tile_outside_the_limits(arguments: tuple[int, ...]) -> None:
    with pytest.raises(FormatError):
        Tile(*arguments)


def test_the_tree_of_70000_of_the_specification() -> None:
    """273 full tiles and one of 112 at level 0; one full and one of 17 at level 1; one of 1 at level 2."""
    found = list(tlog_tiles.tiles(70_000))
    level_0 = [tile for tile in found if tile.level == 0]
    assert [tile.width for tile in level_0] == [256] * 273 + [112]
    assert [tile for tile in found if tile.level is None] == [Tile(None, tile.index, tile.width) for tile in level_0]
    assert [tile for tile in found if tile.level not in (0, None)] == [Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert list(tlog_tiles.partial_tiles(70_000)) == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]


def test_a_full_tile_of_256_needs_one_hash_above() -> None:
    assert list(tlog_tiles.tiles(256)) == [Tile(0, 0), Tile(None, 0), Tile(1, 0, 1)]
    assert list(tlog_tiles.tiles(0)) == list(tlog_tiles.partial_tiles(0)) == []


@given(st.integers(0, 2**40))
def test_partial_tiles_are_what_the_formula_says(size: int) -> None:
    """At level l there are floor(s / 256**l) mod 256 hashes, and no tile where that is zero."""
    expected = {level: size // 256**level % 256 for level in range(8)}
    assert {tile.level: tile.width for tile in tlog_tiles.partial_tiles(size)} == {
        level: width for level, width in expected.items() if width
    }


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_a_bundle_gives_its_entries_back(entries: list[bytes]) -> None:
    data = tlog_tiles.encode_entries(entries)
    assert data == b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
    assert tlog_tiles.decode_entries(data, len(entries)) == entries


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=20), st.data())
def test_a_bundle_of_another_length_or_width_is_refused(entries: list[bytes], data: st.DataObject) -> None:
    bundle = tlog_tiles.encode_entries(entries)
    cut = data.draw(st.integers(0, len(bundle) - 1))
    for wrong in (bundle[:cut], bundle + b"\0", bundle + b"\0\0"):
        with pytest.raises(FormatError):
            tlog_tiles.decode_entries(wrong, len(entries))
    for width in (len(entries) - 1, len(entries) + 1):
        with pytest.raises(FormatError):
            tlog_tiles.decode_entries(bundle, width)


def test_the_longest_entry() -> None:
    longest = bytes(65_535)
    assert tlog_tiles.decode_entries(tlog_tiles.encode_entries([longest]), 1) == [longest]
    for entries in ([longest + b"\0"], [], [b""] * 257):
        with pytest.raises(FormatError):
            tlog_tiles.encode_entries(entries)


def test_tiles_hold_whole_hashes() -> None:
    hashes = [bytes([number]) * 32 for number in range(3)]
    assert tlog_tiles.decode_hashes(tlog_tiles.encode_hashes(hashes), 3) == hashes
    for width, data in ((2, bytes(96)), (3, bytes(95)), (3, bytes(97)), (1, b"")):
        with pytest.raises(FormatError):
            tlog_tiles.decode_hashes(data, width)
    for wrong in ([], [bytes(31)], [bytes(32)] * 257):
        with pytest.raises(FormatError):
            tlog_tiles.encode_hashes(wrong)
