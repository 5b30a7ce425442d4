"""Sorting the names in a folder, on disk where there are too many to hold."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

HELD = 10_000
"""Names kept in memory; with more, all of them go to a temporary file."""


class SortedNames:
    """File names, given in any order and each once, that come out sorted by their bytes.

    Raises scratch.NoRoom when the disk is full.
    """

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._database: sqlite3.Connection | None = None

    def add(self, name: str) -> None:
        """Add a name."""
        self._held.append(os.fsencode(name))
        if len(self._held) > HELD:
            self._spill()

    def __iter__(self) -> Iterator[str]:
        if self._database is None:
            yield from map(os.fsdecode, sorted(self._held))
            return
        self._spill()
        for (name,) in self._database.execute("SELECT name FROM name ORDER BY name"):
            yield os.fsdecode(name)
        self._database.close()

    def _spill(self) -> None:
        from key_registry import scratch  # here, because few folders need it

        if self._database is None:
            self._database = scratch.database("CREATE TABLE name (name BLOB PRIMARY KEY) WITHOUT ROWID")
        self._held.sort()
        with scratch.room():
            self._database.executemany("INSERT OR IGNORE INTO name VALUES (?)", [(name,) for name in self._held])
        self._held.clear()
