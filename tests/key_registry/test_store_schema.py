"""Migrations bring a database to the version the store works with, and the store refuses any other."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg import sql

from key_registry import migrations
from key_registry.migrations import AUDITOR, EXPECTED_VERSION, OWNER, SERVICE, create_roles, migrate
from key_registry.store import SchemaMismatch, Store, StoreUnavailable
from witness_service.embedded_postgres import SUPERUSER, EmbeddedPostgres


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The name of a database that no migration has seen."""
    postgres.ensure_database("never_migrated")
    yield "never_migrated"
    with psycopg.connect(postgres.dsn(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE never_migrated WITH (FORCE)")


def version(dsn: str) -> list[tuple[str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT version_num FROM witness.alembic_version").fetchall()


def change(dsn: str, *statements: LiteralString) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(sql.SQL(statement))


async def check(dsn: str) -> None:
    store = await Store.open(dsn)
    try:
        await store.check_schema()
    finally:
        await store.close()


def test_the_newest_migration_is_the_expected_version() -> None:
    """The store and the migrations of one release agree."""
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_heads() == [EXPECTED_VERSION]


def test_migrating_again_changes_nothing(postgres: EmbeddedPostgres, empty_database: str) -> None:
    """Any number of runs, at the same time too, make the schema once."""
    owner = postgres.dsn(OWNER, empty_database)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: migrate(owner), range(4)))
    migrate(owner)
    assert version(owner) == [(EXPECTED_VERSION,)]


def test_migrating_needs_no_working_folder(
    postgres: EmbeddedPostgres, empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scripts are found in the package, not where the command is run."""
    monkeypatch.chdir(tmp_path)
    migrate(postgres.dsn(OWNER, empty_database))
    assert list(tmp_path.iterdir()) == []


def test_a_newer_schema_is_left_alone(owner_dsn: str) -> None:
    """An older release refuses what a newer one has made."""
    change(owner_dsn, "UPDATE witness.alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match="9999"):
        migrate(owner_dsn)
    assert version(owner_dsn) == [("9999",)]


def test_the_service_role_cannot_migrate(postgres: EmbeddedPostgres, empty_database: str) -> None:
    """Only the migration role makes a schema."""
    with pytest.raises(SchemaMismatch, match="42501"):
        migrate(postgres.dsn(SERVICE, empty_database))


def test_roles_are_made_once(postgres: EmbeddedPostgres) -> None:
    """Making the roles again, from many sides at once, succeeds and gives nobody more."""
    superuser = postgres.dsn(SUPERUSER, "postgres")
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: create_roles(superuser), range(8)))
    with psycopg.connect(superuser) as connection:
        rows = connection.execute(
            """
            SELECT rolname, rolcanlogin, rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls
            FROM pg_roles WHERE rolname LIKE 'witness%' ORDER BY rolname
            """
        ).fetchall()
    assert rows == [(AUDITOR, True, False), (OWNER, True, False), (SERVICE, True, False)]


def test_nobody_else_gets_in(postgres: EmbeddedPostgres, database_name: str) -> None:
    """PUBLIC may not even connect, and has no function or table of the schema."""
    with psycopg.connect(postgres.dsn(SUPERUSER, database_name)) as connection:
        connection.execute("CREATE ROLE stranger")
        row = connection.execute(
            """
            SELECT has_database_privilege('stranger', current_database(), 'CONNECT'),
                has_schema_privilege('stranger', 'witness', 'USAGE'),
                bool_or(has_table_privilege('stranger', oid, 'SELECT'))
            FROM pg_class WHERE relnamespace = 'witness'::regnamespace AND relkind = 'r'
            """
        ).fetchone()
        connection.rollback()
    assert row == (False, False, False)


async def test_a_fresh_database_is_accepted(postgres: EmbeddedPostgres, database: str, database_name: str) -> None:
    """The service and the auditor both find it in order."""
    await check(database)
    await check(postgres.dsn(AUDITOR, database_name))


async def test_the_auditor_reads_everything_and_changes_nothing(postgres: EmbeddedPostgres, database_name: str) -> None:
    """Every table can be read by the audit role, none written."""
    with psycopg.connect(postgres.dsn(AUDITOR, database_name)) as connection:
        row = connection.execute(
            """
            SELECT bool_and(has_table_privilege(oid, 'SELECT')),
                bool_or(has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER'))
            FROM pg_class WHERE relnamespace = 'witness'::regnamespace AND relkind = 'r'
            """
        ).fetchone()
    assert row == (True, False)


DEFECTS: dict[str, tuple[str, str]] = {
    "missing append-only trigger": ("DROP TRIGGER append_only ON witness.claims", "claims.append_only"),
    "missing contiguity trigger": ("DROP TRIGGER continues ON witness.places", "places.continues"),
    "disabled trigger": ("ALTER TABLE witness.seals DISABLE TRIGGER continues", "seals.continues"),
    "trigger asleep in replica role": (
        "ALTER TABLE witness.attestations ENABLE TRIGGER contiguous",
        "attestations.contiguous",
    ),
    "trigger without truncate": (
        """
        CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE ON witness.tiles
            FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
        ALTER TABLE witness.tiles ENABLE ALWAYS TRIGGER append_only
        """,
        "tiles.append_only",
    ),
    "trigger with a condition": (
        """
        CREATE OR REPLACE TRIGGER follows AFTER INSERT ON witness.registry_records
            FOR EACH ROW WHEN (NEW.seq > 5) EXECUTE FUNCTION witness.check_registry_record();
        ALTER TABLE witness.registry_records ENABLE ALWAYS TRIGGER follows
        """,
        "registry_records.follows",
    ),
    "trigger with another function": (
        """
        CREATE FUNCTION witness.do_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.streams
            FOR EACH STATEMENT EXECUTE FUNCTION witness.do_nothing();
        ALTER TABLE witness.streams ENABLE ALWAYS TRIGGER append_only
        """,
        "streams.append_only",
    ),
    "trigger with a namesake function": (
        """
        CREATE FUNCTION public.refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.streams
            FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
        ALTER TABLE witness.streams ENABLE ALWAYS TRIGGER append_only
        """,
        "streams.append_only",
    ),
    "grant to update": ("GRANT UPDATE ON witness.claims TO witness_service", "may change claims"),
    "grant to update one column": (
        "GRANT UPDATE (envelope) ON witness.registry_records TO witness_service",
        "may change registry_records",
    ),
    "grant to delete": ("GRANT DELETE ON witness.seals TO PUBLIC", "may change seals"),
    "grant to truncate": ("GRANT TRUNCATE ON witness.tiles TO witness_service", "may change tiles"),
    "member of the owner": ("GRANT witness_owner TO witness_service", "may change approvals, attestations"),
    "older version": ("UPDATE witness.alembic_version SET version_num = '0000'", "got 0000"),
    "newer version": ("UPDATE witness.alembic_version SET version_num = '9999'", "got 9999"),
    "no version": ("DELETE FROM witness.alembic_version", "got none"),
    "version table gone": ("DROP TABLE witness.alembic_version", "witness migrate"),
    "schema gone": ("DROP SCHEMA witness CASCADE", "witness migrate"),
    "schema closed": ("REVOKE USAGE ON SCHEMA witness FROM witness_service", "witness migrate"),
}


@pytest.mark.faults
@pytest.mark.parametrize("defect", DEFECTS)
async def test_case_30_a_database_with_a_defect_is_refused(superuser_dsn: str, database: str, defect: str) -> None:
    """Wrong version, missing guard, wide grant: the service does not start, and is told what and where."""
    statement, expected = DEFECTS[defect]
    change(superuser_dsn, statement)  # type: ignore[arg-type]
    try:
        with pytest.raises(SchemaMismatch, match=expected):
            await check(database)
    finally:
        if defect == "member of the owner":
            change(superuser_dsn, "REVOKE witness_owner FROM witness_service")


@pytest.mark.faults
async def test_case_30_the_wrong_role_is_refused(postgres: EmbeddedPostgres, database_name: str) -> None:
    """Owner and superuser can change anything, so the service does not run as either."""
    for role in (OWNER, SUPERUSER):
        with pytest.raises(SchemaMismatch, match="may change"):
            await check(postgres.dsn(role, database_name))


@pytest.mark.faults
async def test_case_30_the_wrong_database_is_refused(postgres: EmbeddedPostgres, empty_database: str) -> None:
    """A database without the schema, or none at all, is named as such."""
    with pytest.raises(SchemaMismatch, match="witness migrate"):
        await check(postgres.dsn(SERVICE, empty_database))
    with pytest.raises(StoreUnavailable, match="no_such_database"):
        await check(postgres.dsn(SERVICE, "no_such_database"))


@pytest.mark.faults
async def test_case_30_a_read_only_node_is_refused(superuser_dsn: str, database: str, database_name: str) -> None:
    """A node that takes no writes cannot be served from, whatever the connection string allows."""
    change(superuser_dsn, "ALTER ROLE witness_service SET default_transaction_read_only = on")
    try:
        with pytest.raises(StoreUnavailable):
            await check(database)
        with pytest.raises(SchemaMismatch, match="read-only"):
            await check(f"{database} target_session_attrs=any")
    finally:
        change(superuser_dsn, "ALTER ROLE witness_service RESET default_transaction_read_only")


async def test_another_encoding_is_refused(postgres: EmbeddedPostgres) -> None:
    """Names are Unicode text, so the database must hold UTF-8."""
    superuser = postgres.dsn(SUPERUSER, "postgres")
    change(superuser, "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' OWNER witness_owner")
    try:
        migrate(postgres.dsn(OWNER, "latin"))
        with pytest.raises(SchemaMismatch, match="UTF8"):
            await check(postgres.dsn(SERVICE, "latin"))
    finally:
        change(superuser, "DROP DATABASE latin WITH (FORCE)")
