"""A PostgreSQL cluster for the session and a database with the schema for each test that asks for one.

Under pytest-xdist each worker has a cluster of its own: it starts in about a second, and nothing is shared
that a test could disturb.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from key_registry.migrations import OWNER, SERVICE, create_database, migrate
from key_registry.store import Store
from witness_service.embedded_postgres import SUPERUSER, EmbeddedPostgres

TEMPLATE = "witness_template"
MEMORY = Path("/dev/shm")
"""Where making a database costs 12 ms; it is hundreds of small files."""
ROOM = 4 * 2**30
"""Bytes that a cluster may grow to, with its write-ahead log, and some more."""

_numbers = itertools.count()


@pytest.fixture(scope="session")
def reachable_folder() -> Iterator[Path]:
    """A folder that the server's account can reach; those of tmp_path it cannot, when root runs the tests."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    folder = Path(tempfile.mkdtemp(prefix="witness-test-", dir=MEMORY if in_memory else None))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(reachable_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A running cluster, without fsync: no test of the session crashes the machine."""
    cluster = EmbeddedPostgres(reachable_folder / "postgres", fsync=False)
    cluster.start()
    try:
        cluster.ensure_database(TEMPLATE)
        migrate(cluster.dsn(OWNER, TEMPLATE))
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def database_name(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The name of a fresh database with the schema and nothing in it."""
    name = f"witness_{next(_numbers)}"
    create_database(postgres.dsn(SUPERUSER, "postgres"), name, template=TEMPLATE)
    yield name
    with psycopg.connect(postgres.dsn(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database(postgres: EmbeddedPostgres, database_name: str) -> str:
    """The service role's connection string to a fresh database."""
    return postgres.dsn(SERVICE, database_name)


@pytest.fixture
def owner_dsn(postgres: EmbeddedPostgres, database_name: str) -> str:
    """The migration role's connection string to the same database."""
    return postgres.dsn(OWNER, database_name)


@pytest.fixture
def superuser_dsn(postgres: EmbeddedPostgres, database_name: str) -> str:
    """A superuser's connection string to the same database."""
    return postgres.dsn(SUPERUSER, database_name)


@pytest_asyncio.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """An open store on a fresh database."""
    opened = await Store.open(database)
    yield opened
    await opened.close()
