"""The schema `witness` in its versions, the database it lies in, and the three roles that use it.

A superuser makes roles and database once (`create_database`, or sql/roles.sql by hand); everything else is
done by the migration role (`migrate`). The service never migrates: it checks for EXPECTED_VERSION and refuses
another.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from key_registry.store.errors import SchemaMismatch, translate, translated
from key_registry.store.schema import EXPECTED_VERSION

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

OWNER = "witness_owner"
SERVICE = "witness_service"
AUDITOR = "witness_auditor"
ROLES = (OWNER, SERVICE, AUDITOR)
"""Migration, service, read-only audit. They can log in and have no password: pg_hba.conf says how."""

MIGRATION_LOCK = 0x7769_746E_6D69_6772
"""Advisory lock held while migrating: "witnmigr" in ASCII."""

CONNECT_SECONDS = 10
LOCK_SECONDS = 60
"""How long a migration waits for another one, and for the transactions of a service that still runs."""

__all__ = [
    "AUDITOR",
    "EXPECTED_VERSION",
    "OWNER",
    "ROLES",
    "SERVICE",
    "create_database",
    "create_roles",
    "migrate",
]

_HERE = Path(str(resources.files(__name__)))


def create_roles(superuser_dsn: str) -> None:
    """Make the three roles of the cluster unless they exist.

    superuser_dsn: libpq connection string of a role that may create roles. Safe to run again and at the same
    time. Raises StoreError.
    """
    with translated(), psycopg.connect(superuser_dsn, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
        connection.execute((_HERE / "sql" / "roles.sql").read_bytes())


def create_database(superuser_dsn: str, name: str, *, template: str = "template0") -> None:
    """Make the roles and a database that belongs to the migration role, unless they exist.

    superuser_dsn: libpq connection string of a superuser. template: the database to copy. Raises StoreError.
    """
    create_roles(superuser_dsn)
    identifiers = {
        "name": sql.Identifier(name),
        "owner": sql.Identifier(OWNER),
        "template": sql.Identifier(template),
    }
    grantees = sql.SQL(", ").join(map(sql.Identifier, ROLES))
    with translated(), psycopg.connect(superuser_dsn, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            try:
                connection.execute(
                    sql.SQL("CREATE DATABASE {name} OWNER {owner} TEMPLATE {template}").format(**identifiers)
                )
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return  # another run made it in between, and grants as below
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {name} FROM PUBLIC").format(**identifiers))
        connection.execute(
            sql.SQL("GRANT CONNECT ON DATABASE {name} TO {grantees}").format(**identifiers, grantees=grantees)
        )


def migrate(dsn: str) -> None:
    """Bring the schema to EXPECTED_VERSION; without work to do, change nothing.

    dsn: libpq connection string of the migration role, which owns the database. One transaction under an
    advisory lock: two runs at the same time do the work once, and a failed one leaves the schema as it was.
    Raises SchemaMismatch for a version this release does not know, StoreError otherwise.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    def connect() -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS)

    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    try:
        with translated(), engine.begin() as connection:
            _upgrade(connection)
    except DBAPIError as error:
        raise translate(error.orig or error) from None


def _upgrade(connection: Connection) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS witness")
    scripts = ScriptDirectory(str(_HERE))
    try:
        with EnvironmentContext(
            Config(), scripts, fn=lambda found, _: scripts._upgrade_revs(EXPECTED_VERSION, found)
        ) as environment:
            environment.configure(connection=connection, version_table_schema="witness")
            environment.run_migrations()
    except CommandError as error:
        raise SchemaMismatch(f"expected a schema this release can bring to {EXPECTED_VERSION}: {error}") from error


def run_sql(version: str) -> None:
    """Run the SQL files of a version in the order of their names; for the scripts in versions/ alone."""
    from alembic import op

    # Past SQLAlchemy, which would take a colon or a percent sign in SQL text for a parameter.
    driver = op.get_bind().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    for file in sorted((_HERE / "sql" / version).glob("*.sql")):
        driver.execute(file.read_bytes())
