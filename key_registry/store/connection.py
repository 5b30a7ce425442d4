"""Connections, transactions, and what a commit is worth.

Connections are in autocommit mode: a read is one round trip, and a transaction says BEGIN in the same round
trip as its first statements. Every wait has an end. On the server's side lock waits and idle transactions are
limited, but statements are not: cancelling a COMMIT that waits for a synchronous standby makes it succeed
without the standby. On this side a connection that is held for too long has its socket shut down, which ends
any wait as a lost connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import Diagnostic
from psycopg_pool import AsyncConnectionPool

from key_registry.store.errors import StoreError, StoreUnavailable, translated

Row = tuple[Any, ...]
Statement = tuple[LiteralString, Sequence[object] | Mapping[str, object]]

BEGIN: LiteralString = "BEGIN ISOLATION LEVEL READ COMMITTED"
RECONNECT_SECONDS = 1.0
"""How long a lost connection is tried again before the next user's demand starts afresh; longer ones back off
for minutes, and a database that is back is found late."""

_DOUBTFUL_COMMIT = ("01000", "57P01")
"""SQLSTATEs of the warnings by which a COMMIT says that it did not wait for the synchronous standby."""


class Connection(AsyncConnection[Row]):
    """A connection whose statements raise StoreError, and which notes what makes a commit doubtful."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.doubts: list[str] = []
        self.add_notice_handler(self._note)

    def _note(self, diagnostic: Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING" and diagnostic.sqlstate in _DOUBTFUL_COMMIT:
            self.doubts.append(diagnostic.sqlstate)

    async def rows(self, query: LiteralString, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[Row]:
        """Run one statement and return its rows."""
        with translated():
            cursor = await self.execute(query, parameters, binary=True)
            return await cursor.fetchall() if cursor.description else []

    async def begin(self, *queries: LiteralString) -> list[list[Row]]:
        """Begin a transaction, run queries without parameters in it, and return the rows of each.

        One round trip, as one simple query and not as a pipeline: psycopg ends a pipeline with a message that
        disarms the server's limit on idle transactions, and that limit frees the locks of a client that is
        stopped while it waits for one.
        """
        with translated():
            cursor = await self.execute("; ".join((BEGIN, *queries)), prepare=False)
            answers = [await result.fetchall() if result.description else [] async for result in cursor.results()]
        return answers[1:]

    async def commit_surely(self) -> None:
        """Commit; StoreUnavailable unless the server says that it did, as durably as it is set up to."""
        self.doubts.clear()
        with translated():
            cursor = await self.execute("COMMIT")
        if cursor.statusmessage != "COMMIT":
            # A transaction with a failed statement in it answers COMMIT with a silent ROLLBACK.
            raise StoreError("expected a transaction to commit, got a rollback: a statement in it had failed")
        if self.doubts:
            raise StoreUnavailable(f"a commit did not wait for the synchronous standby ({self.doubts[0]})")


class Database:
    """A pool of connections to one database. timeout: seconds that one use of a connection may take."""

    def __init__(self, pool: AsyncConnectionPool[Connection], timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout

    @classmethod
    async def open(cls, dsn: str, *, max_connections: int, timeout: float) -> Database:
        """Connect once, to say at once what is wrong, and return a pool that grows on demand.

        Raises StoreUnavailable with the server's reason, StoreError when dsn is no connection string.
        """
        try:
            given = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            raise StoreError(
                "expected a libpq connection string, got something else; check the configuration"
            ) from None
        settings: dict[str, Any] = {
            "autocommit": True,
            "prepare_threshold": 0,
            "connect_timeout": max(2, round(timeout)),
            "tcp_user_timeout": round(timeout * 1000),
            "fallback_application_name": "witness-service",
        }
        if "target_session_attrs" not in given:
            settings["target_session_attrs"] = "read-write"  # of several hosts, the one that is primary

        async def configure(connection: Connection) -> None:
            with severed_after(connection, timeout):
                await connection.execute(_CONFIGURE, (f"{round(timeout * 1000)}ms", f"{round(timeout * 800)}ms"))

        async def check(connection: Connection) -> None:
            try:
                with severed_after(connection, timeout):
                    await AsyncConnectionPool.check_connection(connection)
            except psycopg.Error:
                # The others are as likely to be dead, and the pool pauses for seconds after each it finds so.
                await pool.drain()
                raise

        with translated():
            async with await Connection.connect(dsn, **settings) as first:
                await configure(first)
            pool = AsyncConnectionPool(
                dsn,
                connection_class=Connection,
                kwargs=settings,
                min_size=0,
                max_size=max_connections,
                open=False,
                configure=configure,
                check=check,
                timeout=timeout,
                reconnect_timeout=RECONNECT_SECONDS,
                name="witness",
            )
            await pool.open()
        return cls(pool, timeout)

    async def close(self) -> None:
        """Close every connection; those in use when they come back."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection for reads, each in a transaction of its own."""
        with translated():
            async with self._pool.connection() as connection:
                with severed_after(connection, self._timeout + 1):
                    try:
                        yield connection
                    except BaseException:
                        # The pool would do it too, but without an end to its wait.
                        with contextlib.suppress(psycopg.Error):
                            await connection.rollback()
                        raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection on which the caller begins with BEGIN; commit on exit, roll back on an exception.

        StoreUnavailable on exit means that the outcome is unknown.
        """
        async with self.connection() as connection:
            yield connection
            await connection.commit_surely()

    async def read(self, query: LiteralString, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one read and return its rows."""
        async with self.connection() as connection:
            return await connection.rows(query, parameters)

    async def write(self, *statements: Statement) -> list[list[Row]]:
        """Run statements in one transaction and return the rows of each."""
        async with self.transaction() as connection:
            await connection.begin()
            return [await connection.rows(query, parameters) for query, parameters in statements]


_CONFIGURE = """
SELECT set_config('lock_timeout', %s, false),
    set_config('idle_in_transaction_session_timeout', %s, false),
    set_config('TimeZone', 'UTC', false),
    set_config('search_path', 'pg_catalog, pg_temp', false),
    set_config('jit', 'off', false),
    set_config('enable_seqscan', 'off', false),
    set_config('enable_hashjoin', 'off', false),
    set_config('enable_mergejoin', 'off', false),
    set_config('join_collapse_limit', '1', false),
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false)
    END
"""
"""Every query is a row of index look-ups in the order it is written in. The planner settings hold it to that:
the plan of a prepared statement is kept, and may have been made while the tables were empty. A client that
stalls inside a transaction loses it before those who wait for its locks give up. A role or database set to
commit asynchronously is overruled: what is released must be durable."""


@contextmanager
def severed_after(connection: AsyncConnection[Any], seconds: float) -> Iterator[None]:
    """Shut the connection's socket down when the block takes longer.

    Cancelling the task instead would not do: psycopg then waits, without end, for the server to confirm the
    cancel.
    """
    timer = asyncio.get_running_loop().call_later(seconds, _sever, connection)
    try:
        yield
    finally:
        timer.cancel()


def _sever(connection: AsyncConnection[Any]) -> None:
    with (
        contextlib.suppress(OSError, psycopg.OperationalError),
        socket.socket(fileno=os.dup(connection.fileno())) as duplicate,
    ):
        duplicate.shutdown(socket.SHUT_RDWR)
