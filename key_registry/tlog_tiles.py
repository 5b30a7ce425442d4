"""The resources of a published log (C2SP tlog-tiles): where tiles and entry bundles are, and what is in them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from key_registry import decimal_strict
from key_registry.errors import FormatError
from key_registry.merkle import HASH_LENGTH, TILE_HEIGHT, TILE_WIDTH

CHECKPOINT = "checkpoint"
"""Where the checkpoint is, below the log's prefix."""

MAX_LEVEL = 63
MAX_ENTRY_BYTES = 65_535
"""An entry's length is written in two bytes."""

_LENGTH_BYTES = 2
_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True)
class Tile:
    """A resource of the tree: a tile of hashes, or a bundle of entries.

    Attributes:
        level: 0 to 63; None for a bundle of entries, which goes with the tile of level 0.
        index: in the level, from the left.
        width: hashes or entries in it, 1 to 256; below 256 it is partial.

    Raises:
        FormatError: a number outside.
    """

    level: int | None
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        decimal_strict.check(self.index, "tile index")
        if not 0 <= (self.level or 0) <= MAX_LEVEL or not 1 <= self.width <= TILE_WIDTH:
            raise FormatError(f"expected a level up to {MAX_LEVEL} and a width of 1 to {TILE_WIDTH}, got others")

    @property
    def is_full(self) -> bool:
        """Whether no tree, however large, has more in this place."""
        return self.width == TILE_WIDTH

    @property
    def path(self) -> str:
        """The path below the log's prefix: tile/<L>/<N>[.p/<W>]."""
        groups = [f"{self.index % 1000:03d}"]
        rest = self.index // 1000
        while rest:
            groups.append(f"x{rest % 1000:03d}")
            rest //= 1000
        kind = "entries" if self.level is None else self.level
        partial = "" if self.is_full else f".p/{self.width}"
        return f"tile/{kind}/{'/'.join(reversed(groups))}{partial}"

    @classmethod
    def parse(cls, path: str) -> Self:
        """Return the resource at a path below the log's prefix; raises FormatError for any other path."""
        found = _PATH.fullmatch(path)
        if found is None or not path.isascii():
            raise FormatError("expected a path of the form tile/<L>/<N>[.p/<W>], got another")
        kind, groups, width = found.groups()
        index = decimal_strict.decode(groups.replace("/", "").replace("x", "").lstrip("0") or "0", "tile index")
        tile = cls(None if kind == "entries" else int(kind), index, int(width or TILE_WIDTH))
        if tile.path != path:
            raise FormatError("expected the one path of a tile, got another spelling")
        return tile


def partial_tiles(size: int) -> Iterator[Tile]:
    """Yield the partial tiles of hashes of a tree of size leaves, lowest level first; none is empty."""
    for level in range(MAX_LEVEL + 1):
        hashes = size >> TILE_HEIGHT * level
        if not hashes:
            return
        if width := hashes % TILE_WIDTH:
            yield Tile(level, hashes // TILE_WIDTH, width)


def tiles(size: int) -> Iterator[Tile]:
    """Yield every resource of a tree of size leaves: tiles from the lowest level up, with level 0 the bundles."""
    for level in range(MAX_LEVEL + 1):
        hashes = size >> TILE_HEIGHT * level
        if not hashes:
            return
        for first in range(0, hashes, TILE_WIDTH):
            width = min(TILE_WIDTH, hashes - first)
            yield Tile(level, first // TILE_WIDTH, width)
            if level == 0:
                yield Tile(None, first // TILE_WIDTH, width)


def encode_hashes(hashes: Sequence[bytes]) -> bytes:
    """Return the content of a tile of 1 to 256 hashes of 32 bytes; raises FormatError for others."""
    if not 1 <= len(hashes) <= TILE_WIDTH or any(len(value) != HASH_LENGTH for value in hashes):
        raise FormatError(f"expected 1 to {TILE_WIDTH} hashes of {HASH_LENGTH} bytes, got others")
    return b"".join(hashes)


def decode_hashes(data: bytes, width: int) -> list[bytes]:
    """Return the hashes in a tile of this width; raises FormatError for another length."""
    if len(data) != width * HASH_LENGTH:
        raise FormatError(f"expected a tile of {width} hashes of {HASH_LENGTH} bytes, got {len(data)} bytes")
    return [data[start : start + HASH_LENGTH] for start in range(0, len(data), HASH_LENGTH)]


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """Return the bundle of 1 to 256 entries, each with its length before it; raises FormatError for others."""
    if not 1 <= len(entries) <= TILE_WIDTH or any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise FormatError(f"expected 1 to {TILE_WIDTH} entries of at most {MAX_ENTRY_BYTES} bytes, got others")
    return b"".join(len(entry).to_bytes(_LENGTH_BYTES, "big") + entry for entry in entries)


def decode_entries(data: bytes, width: int) -> list[bytes]:
    """Return the entries in a bundle of this width; raises FormatError for any other bytes."""
    entries: list[bytes] = []
    start = 0
    while start < len(data) and len(entries) < width:
        begin = start + _LENGTH_BYTES
        start = begin + int.from_bytes(data[start:begin], "big")
        entries.append(data[begin:start])
    if len(entries) != width or start != len(data):
        raise FormatError(f"expected a bundle of exactly {width} entries, got other bytes")
    return entries
