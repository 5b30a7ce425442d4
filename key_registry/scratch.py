"""Temporary files, for what could be more than memory holds; they are gone when the program ends, however it ends."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from key_registry.cannot_run import NoRoom


@contextmanager
def room() -> Iterator[None]:
    """Let a full disk come out as NoRoom."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NoRoom(f"no room for temporary files: {reason}; TMPDIR says where they go") from None


def database(*statements: str) -> sqlite3.Connection:
    """Return a database in a temporary file, after the statements, in one transaction that never ends.

    Raises:
        NoRoom: it cannot be made.
    """
    with room():
        # Without a name it is a file that only the connection knows. Nothing is kept, so nothing is synced.
        connection = sqlite3.connect("", isolation_level=None)
        for statement in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", *statements, "BEGIN"):
            connection.execute(statement)
        return connection
