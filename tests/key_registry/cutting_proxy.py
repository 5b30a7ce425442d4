"""A proxy between a store and PostgreSQL that loses the connection at a COMMIT, before or after it took effect."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Cut(Enum):
    """When to lose the connection."""

    BEFORE = "before the COMMIT reaches the server"
    AFTER = "after the server has answered the COMMIT"


class CuttingProxy:
    """Passes on everything until `cut` is set; the next COMMIT loses its connection and sets it back to None.

    It follows the protocol far enough to know a COMMIT: a Bind of a statement whose Parse said so.
    """

    def __init__(self, target: Path) -> None:
        self.cut: Cut | None = None
        self._target = target
        self._serving: set[asyncio.Task[None] | None] = set()

    @classmethod
    @asynccontextmanager
    async def before(cls, dsn: str) -> AsyncIterator[tuple[Self, str]]:
        """Start a proxy in front of a Unix socket; gives the proxy and the connection string that goes through it."""
        given = conninfo_to_dict(dsn)
        socket_name = f".s.PGSQL.{given['port']}"
        proxy = cls(Path(str(given["host"])) / socket_name)
        with tempfile.TemporaryDirectory() as folder:
            server = await asyncio.start_unix_server(proxy._serve, Path(folder) / socket_name)
            try:
                yield proxy, make_conninfo(dsn, host=folder)
            finally:
                server.close()
                async with asyncio.timeout(5):
                    await asyncio.gather(*filter(None, proxy._serving))  # the store has closed its ends

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        back = asyncio.create_task(_copy(server_reader, writer))
        try:
            held = await self._forward(reader, server_writer)
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            if self.cut is Cut.AFTER:
                server_writer.write(held)
                answer = b""
                while b"COMMIT\0" not in answer:
                    answer += await server_reader.read(65536)
            self.cut = None
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            for end in (writer, server_writer):
                end.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Pass on messages up to a COMMIT that is to be cut; return that one and those up to its Sync."""
        commits: set[bytes] = set()
        length = await reader.readexactly(4)
        writer.write(length + await reader.readexactly(int.from_bytes(length, "big") - 4))
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
            first, second, *_ = [*body.split(b"\0", 2), b"", b""]
            if head[:1] == b"P" and second == b"COMMIT":
                commits.add(first)
            if head[:1] == b"B" and second in commits and self.cut is not None:
                return head + body + await _rest_until_sync(reader)
            writer.write(head + body)


async def _rest_until_sync(reader: asyncio.StreamReader) -> bytes:
    rest = b""
    while rest[-5:-4] != b"S":
        head = await reader.readexactly(5)
        rest += head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
    return rest


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
