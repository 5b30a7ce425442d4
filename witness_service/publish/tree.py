"""One log in the folder: its checkpoint, tiles and entry bundles (C2SP tlog-tiles), and how they grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from key_registry import note, tlog_tiles
from key_registry.checkpoint import Checkpoint
from key_registry.errors import FormatError
from key_registry.merkle import EMPTY_ROOT, TILE_HEIGHT, TILE_WIDTH, leaf_hash
from key_registry.store import Edge
from key_registry.tlog_tiles import Tile
from witness_service.publish.folder import Contradicted, Folder, FolderProblem

Entries = Callable[[int, int], Iterator[bytes]]
"""Takes first and end, yields the entries first to end - 1 of the log."""

Advance = Callable[[int], None]
"""Takes note of so many entries done."""


class Unfaithful(Exception):
    """What the service gave does not hold; nothing of it was published."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How a published tree grows. files: tiles and bundles that were not there before."""

    old_size: int
    checkpoint: Checkpoint
    files: int

    def tiles(self) -> Iterator[Tile]:
        """Yield every tile and bundle of the grown tree that the old one did not have whole."""
        for level in range(tlog_tiles.MAX_LEVEL + 1):
            hashes = self.checkpoint.size >> TILE_HEIGHT * level
            for index in range((self.old_size >> TILE_HEIGHT * level) // TILE_WIDTH, -(-hashes // TILE_WIDTH)):
                width = min(TILE_WIDTH, hashes - index * TILE_WIDTH)
                yield Tile(level, index, width)
                if level == 0:
                    yield Tile(None, index, width)

    def outgrown(self) -> Iterator[Tile]:
        """Yield the partial tiles and bundles of the old tree whose places now hold full ones."""
        for tile in tlog_tiles.partial_tiles(self.old_size):
            assert tile.level is not None
            if self.checkpoint.size >> TILE_HEIGHT * (tile.level + 1) > tile.index:
                yield tile
                if tile.level == 0:
                    yield Tile(None, tile.index, tile.width)


class Tree:
    """The tree of one log. name: of its folder, "registry" or "statements"."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self._name = name

    def published(self) -> Checkpoint | None:
        """Return the published checkpoint, None before the first; raises FolderProblem."""
        content = self._folder.read(self._path(tlog_tiles.CHECKPOINT))
        if content is None:
            return None
        try:
            return Checkpoint.parse(note.parse(content).text)
        except FormatError as error:
            raise FolderProblem(f"{self._where(tlog_tiles.CHECKPOINT)}: expected a checkpoint: {error}") from error

    def begin(self, target: Checkpoint) -> Checkpoint:
        """Return the published checkpoint, or that of the empty tree, if the target can continue it.

        Raises Contradicted for a smaller target or another root, FolderProblem for a folder of another log.
        """
        old = self.published() or Checkpoint(target.origin, 0, EMPTY_ROOT)
        where = self._where(tlog_tiles.CHECKPOINT)
        if old.origin != target.origin:
            raise FolderProblem(
                f"{where}: expected the log {target.origin}, got {old.origin}; publish another log in another folder"
            )
        if target.size < old.size:
            raise Contradicted(
                "LOG_ROLLED_BACK",
                f"expected a log of at least {old.size} entries, as {where} says, got one of {target.size}: the "
                "service works on a restored backup or on another database; stop it before it signs anything else",
            )
        if target.size == old.size and target.root != old.root:
            raise Contradicted(
                "LOG_FORK",
                f"expected the root of {where}, got another for the same {target.size} entries: the log has forked; "
                "keep both checkpoints as evidence",
            )
        return old

    def grow(self, target: Checkpoint, entries: Entries, advance: Advance) -> Growth:
        """Make ready what the tree needs to reach the target, and check that it is a continuation.

        Memory does not grow with the log. Raises Contradicted, Unfaithful, FolderProblem, and what entries raises.
        """
        old = self.begin(target)
        edge = self._edge(old)
        files = 0
        if target.size > old.size:
            known = edge.rows[0] if edge.rows else ()
            # The last bundle is not full: it is made again, from its first entry.
            edge = Edge.from_rows(old.size - len(known), [(), *edge.rows[1:]])
            for bundle in self._bundles(edge.size, target.size, entries):
                edge, added = self._extended(edge, bundle, known)
                files += added
                known = ()
                advance(len(bundle))
            for tile in tlog_tiles.partial_tiles(edge.size):
                assert tile.level is not None
                files += self._stage(tile, tlog_tiles.encode_hashes(edge.rows[tile.level]))
        if (edge.size, edge.root()) != (target.size, target.root):
            self._refuse(old, target)
        return Growth(old.size, target, files)

    def publish(self, growth: Growth) -> None:
        """Give the tiles and bundles that were made ready their names."""
        self._folder.publish(self._path(tile.path) for tile in growth.tiles())

    def finish(self, growth: Growth, checkpoint: bytes) -> None:
        """Replace the checkpoint, once everything under it is on disk, and remove the partial tiles it outgrew."""
        self._folder.replace(self._path(tlog_tiles.CHECKPOINT), checkpoint)
        for tile in growth.outgrown():
            self._folder.remove(self._path(tile.path.rpartition("/")[0]))

    def _extended(self, edge: Edge, bundle: list[bytes], known: tuple[bytes, ...]) -> tuple[Edge, int]:
        """Return the edge with a bundle more, and how many new files were made ready."""
        hashes = [leaf_hash(entry) for entry in bundle]
        if tuple(hashes[: len(known)]) != known:
            raise Contradicted(
                "LOG_FORK",
                f"expected the {len(known)} entries from {edge.size} on as they were published in {self._where('')}, "
                "got others: the log has forked, or its database was changed; keep the folder as evidence",
            )
        try:
            content = tlog_tiles.encode_entries(bundle)
        except FormatError as error:
            raise Unfaithful(f"entries from {edge.size} on cannot be published as tlog-tiles: {error}") from error
        files = self._stage(Tile(None, edge.size // TILE_WIDTH, len(bundle)), content)
        edge, filled = edge.extended(hashes)
        return edge, files + sum(self._stage(Tile(tile.level, tile.tile_index), tile.hashes) for tile in filled)

    def _bundles(self, first: int, end: int, entries: Entries) -> Iterator[list[bytes]]:
        """Yield the entries from first to end in bundles; those an interrupted publication left are not asked for."""
        while first + TILE_WIDTH <= end and (left := self._left(first // TILE_WIDTH)):
            yield left
            first += TILE_WIDTH
        asked = islice(entries(first, end), end - first)
        while bundle := list(islice(asked, TILE_WIDTH)):
            yield bundle

    def _left(self, index: int) -> list[bytes] | None:
        content = self._folder.incoming(self._path(Tile(None, index).path))
        try:
            return None if content is None else tlog_tiles.decode_entries(content, TILE_WIDTH)
        except FormatError:
            return None

    def _edge(self, checkpoint: Checkpoint) -> Edge:
        """Return the right edge of the published tree, which must have the published root."""
        rows: list[list[bytes]] = []
        try:
            while hashes := checkpoint.size >> TILE_HEIGHT * len(rows):
                rows.append(self._row(len(rows), hashes))
            edge = Edge.from_rows(checkpoint.size, rows)
        except FormatError as error:
            raise self._damaged() from error
        if edge.root() != checkpoint.root:
            raise self._damaged()
        return edge

    def _row(self, level: int, hashes: int) -> list[bytes]:
        width = hashes % TILE_WIDTH
        if not width:
            return []
        content = self._folder.read(self._path(Tile(level, hashes // TILE_WIDTH, width).path))
        if content is None:
            raise self._damaged()
        return tlog_tiles.decode_hashes(content, width)

    def _damaged(self) -> FolderProblem:
        return FolderProblem(
            f"{self._where('tile')}: expected the tiles that the checkpoint beside them speaks of, got others; put the "
            "folder back from a copy, or publish in an empty one"
        )

    def _refuse(self, old: Checkpoint, target: Checkpoint) -> None:
        message = (
            f"expected entries that give the root in the service's checkpoint of {target.size} entries, got others: "
            "its database was changed, or the log has forked"
        )
        if old.size:
            raise Contradicted("LOG_FORK", f"{message}; keep {self._where('')} as evidence")
        raise Unfaithful(message)

    def _stage(self, tile: Tile, content: bytes) -> bool:
        return self._folder.stage(self._path(tile.path), content)

    def _path(self, path: str) -> str:
        return f"{self._name}/{path}"

    def _where(self, path: str) -> str:
        return str(self._folder.path / self._name / path)
