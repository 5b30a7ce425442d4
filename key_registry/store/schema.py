"""What the database must be before the service works with it."""

from __future__ import annotations

from key_registry.store.connection import Connection, Database
from key_registry.store.errors import SchemaMismatch

EXPECTED_VERSION = "0002"
"""The newest version in key_registry/migrations, and the only one that this release works with."""

OLDEST_POSTGRESQL = 14

RECORD_TABLES = (
    "registry_records",
    "checkpoints",
    "cosignatures",
    "timestamps",
    "streams",
    "places",
    "claims",
    "seals",
    "attestations",
    "tiles",
    "proposal_documents",
    "approvals",
    "rejections",
    "key_orders",
)

# Bits of pg_trigger.tgtype.
_ROW, _BEFORE, _INSERT, _DELETE, _UPDATE, _TRUNCATE = 1, 2, 4, 8, 16, 32
_CHANGE = _BEFORE | _DELETE | _UPDATE | _TRUNCATE

GUARDS = {
    **{(table, "append_only"): ("refuse_change", _CHANGE) for table in RECORD_TABLES},
    ("registry_records", "follows"): ("check_registry_record", _ROW | _INSERT),
    ("places", "continues"): ("check_places", _INSERT),
    ("seals", "continues"): ("check_seal", _ROW | _INSERT),
    ("attestations", "contiguous"): ("check_attestations", _INSERT),
    ("key_orders", "follows"): ("check_key_order", _ROW | _INSERT),
    ("proposals", "never_reopens"): ("check_proposal", _ROW | _BEFORE | _UPDATE),
}
"""Table and trigger: the function it runs and when."""

_SERVER = """
SELECT current_setting('server_version_num')::integer / 10000, current_setting('server_encoding'),
    pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
    has_schema_privilege(space.oid, 'USAGE'),
    EXISTS (SELECT FROM pg_class WHERE relnamespace = space.oid AND relname = 'alembic_version')
FROM pg_namespace AS space WHERE space.nspname = 'witness'
"""
_VERSION = "SELECT version_num FROM witness.alembic_version"
# tgenabled A: also fires under session_replication_role = replica. tgqual: a condition would let some rows
# pass.
_GUARDS = """
SELECT class.relname, trigger.tgname, function.proname, trigger.tgtype
FROM pg_trigger AS trigger
JOIN pg_class AS class ON class.oid = trigger.tgrelid
JOIN pg_proc AS function ON function.oid = trigger.tgfoid AND function.pronamespace = class.relnamespace
WHERE class.relnamespace = 'witness'::regnamespace AND trigger.tgenabled = 'A' AND trigger.tgqual IS NULL
"""
_TOO_WIDE = """
SELECT class.relname FROM pg_class AS class
WHERE class.relnamespace = 'witness'::regnamespace AND class.relname = ANY(%s::text[]) AND (
    has_table_privilege(class.oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER')
    OR has_any_column_privilege(class.oid, 'UPDATE')
    OR pg_has_role(class.relowner, 'MEMBER'))
ORDER BY class.relname
"""


async def check_schema(database: Database) -> None:
    """Raise SchemaMismatch unless the database is safe to work with; see Store.check_schema."""
    async with database.connection() as connection:
        await _check_server(connection)
        await _check_guards(connection)
        await _check_grants(connection)


async def _check_server(connection: Connection) -> None:
    rows = await connection.rows(_SERVER)
    if not rows or not rows[0][3] or not rows[0][4]:
        raise SchemaMismatch(
            "expected the schema witness in this database, got none that this role may use; check which "
            "database and role the connection string names, then run: witness migrate"
        )
    ((server, encoding, read_only, _, _),) = rows
    if server < OLDEST_POSTGRESQL:
        raise SchemaMismatch(f"expected PostgreSQL {OLDEST_POSTGRESQL} or newer, got {server}")
    if encoding != "UTF8":
        raise SchemaMismatch(f"expected a database with encoding UTF8, got {encoding}; make a new one")
    if read_only:
        raise SchemaMismatch("expected a node that takes writes, got a read-only one; connect to the primary")
    versions = [version for (version,) in await connection.rows(_VERSION)]
    if versions != [EXPECTED_VERSION]:
        raise SchemaMismatch(
            f"expected schema version {EXPECTED_VERSION}, got {', '.join(versions) or 'none'}; "
            "run witness migrate, or the release that fits the schema"
        )


async def _check_guards(connection: Connection) -> None:
    rows = await connection.rows(_GUARDS)
    found = {(table, trigger): (function, kind) for table, trigger, function, kind in rows}
    if wrong := [
        f"{table}.{trigger}" for (table, trigger), guard in GUARDS.items() if found.get((table, trigger)) != guard
    ]:
        raise SchemaMismatch(
            f"expected guard triggers that always fire, got some missing, disabled or changed: "
            f"{', '.join(wrong)}; find out who changed them before you restore them"
        )


async def _check_grants(connection: Connection) -> None:
    if wide := [table for (table,) in await connection.rows(_TOO_WIDE, (list(RECORD_TABLES),))]:
        raise SchemaMismatch(
            f"expected a role that may only add to tables of record, got one that may change "
            f"{', '.join(wide)}; connect as witness_service, or revoke the grants"
        )
