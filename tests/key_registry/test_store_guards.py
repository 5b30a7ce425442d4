"""The database itself refuses what must not be stored, whoever asks and however."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql

from key_registry.store.schema import RECORD_TABLES

HASH = "sha256:" + "a" * 64
OTHER_HASH = "blake3:" + "b" * 64
BYTES_32 = b"\x01" * 32

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def service(database: str) -> Iterator[Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def replica(superuser_dsn: str) -> Iterator[Connection]:
    """A superuser's session for which ordinary triggers and foreign keys do not fire."""
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


def make_stream(connection: Connection, rule: str = "recorded") -> int:
    row = connection.execute(
        "INSERT INTO witness.streams (name, link_rule) VALUES (%s, %s) RETURNING stream_id", (rule, rule)
    ).fetchone()
    assert row is not None
    return int(row[0])


def put_places(connection: Connection, stream_id: int, *rows: tuple[int, bool, str, str | None]) -> None:
    """Insert (sequence, starts, event hash, previous event hash) in one statement."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    connection.execute(
        """
        INSERT INTO witness.places (stream_id, sequence, starts, event_hash, previous_event_hash)
        SELECT %s, * FROM unnest(%s::bigint[], %s::boolean[], %s::text[], %s::text[])
        """,
        (stream_id, *columns),
    )


def put_record(connection: Connection, seq: int, record_hash: bytes, previous_hash: bytes | None) -> None:
    connection.execute(
        """
        INSERT INTO witness.registry_records (seq, envelope, record_hash, previous_hash, leaf_hash)
        VALUES (%s, '', %s, %s, %s)
        """,
        (seq, record_hash, previous_hash, BYTES_32),
    )


def put_claims(connection: Connection, stream_id: int, sequences: list[int]) -> list[int]:
    rows = connection.execute(
        """
        INSERT INTO witness.claims (stream_id, sequence, witness_id, key_id, statement)
        SELECT %s, sequence, 'w', %s, '' FROM unnest(%s::bigint[]) AS sequence RETURNING claim_id
        """,
        (stream_id, BYTES_32, sequences),
    ).fetchall()
    return [claim_id for (claim_id,) in rows]


def put_seal(connection: Connection, size: int, previous_size: int) -> None:
    connection.execute(
        "INSERT INTO witness.seals (size, previous_size, root) VALUES (%s, %s, %s)",
        (size, previous_size, BYTES_32),
    )


def put_leaves(connection: Connection, leaves: dict[int, int]) -> None:
    """Insert claims by leaf index in one statement."""
    connection.execute(
        """
        INSERT INTO witness.attestations (leaf_index, claim_id, signature, leaf_hash)
        SELECT leaf_index, claim_id, 'x', %s FROM unnest(%s::bigint[], %s::bigint[]) AS new (leaf_index, claim_id)
        """,
        (BYTES_32, list(leaves), list(leaves.values())),
    )


@pytest.fixture
def claim_ids(service: Connection) -> list[int]:
    """Eight claims, none sealed."""
    stream_id = make_stream(service)
    put_places(service, stream_id, *((sequence, sequence == 0, HASH, None) for sequence in range(8)))
    return put_claims(service, stream_id, list(range(8)))


class TestAppendOnly:
    """What is recorded stays."""

    CHANGES = ("UPDATE witness.{} SET {} = {}", "DELETE FROM witness.{}", "TRUNCATE witness.{} CASCADE")

    @staticmethod
    def change(connection: Connection, statement: str, table: str) -> None:
        row = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum = 1",
            (f"witness.{table}",),
        ).fetchone()
        assert row is not None
        names = [sql.Identifier(table)] + [sql.Identifier(row[0])] * 2
        connection.execute(sql.SQL(statement).format(*names[: statement.count("{}")]))  # type: ignore[arg-type]

    @pytest.mark.parametrize("table", RECORD_TABLES)
    @pytest.mark.parametrize("statement", CHANGES, ids=["update", "delete", "truncate"])
    def test_even_a_superuser_in_replica_role_cannot_change_a_table_of_record(
        self, replica: Connection, statement: str, table: str
    ) -> None:
        """No row need be touched: the attempt is refused, and says which table and why."""
        if table == "streams" and statement.startswith("UPDATE"):
            statement = "UPDATE witness.{} SET name = name"  # an identity column refuses by itself
        if table == "claims" and statement.startswith("UPDATE"):
            statement = "UPDATE witness.{} SET sequence = sequence"
        with pytest.raises(errors.RestrictViolation, match="expected only INSERT on witness"):
            self.change(replica, statement, table)

    @pytest.mark.parametrize("table", RECORD_TABLES)
    def test_the_service_has_no_right_to_try(self, service: Connection, table: str) -> None:
        """Grants refuse before triggers do."""
        for statement in ("DELETE FROM witness.{}", "TRUNCATE witness.{}"):
            with pytest.raises(errors.InsufficientPrivilege):
                self.change(service, statement, table)

    def test_an_upsert_is_an_update(self, replica: Connection) -> None:
        """ON CONFLICT DO UPDATE does not get around the guard."""
        stream_id = make_stream(replica)
        with pytest.raises(errors.RestrictViolation):
            replica.execute(
                """
                INSERT INTO witness.streams (name, link_rule) VALUES ('recorded', 'none')
                ON CONFLICT (name) DO UPDATE SET link_rule = 'none'
                """
            )
        assert stream_id == 1


class TestRegistryLog:
    """The registry log is one chain from one genesis."""

    def test_a_chain_is_stored(self, service: Connection) -> None:
        """Each record names the one before it."""
        put_record(service, 0, b"\x00" * 32, None)
        put_record(service, 1, b"\x01" * 32, b"\x00" * 32)

    @pytest.mark.parametrize(
        ("seq", "record_hash", "previous_hash"),
        [
            pytest.param(0, b"\x05" * 32, None, id="second genesis"),
            pytest.param(1, b"\x05" * 32, None, id="no previous hash"),
            pytest.param(0, b"\x05" * 32, b"\x00" * 32, id="genesis with a previous hash"),
            pytest.param(1, b"\x05" * 32, b"\x07" * 32, id="another previous hash"),
            pytest.param(2, b"\x05" * 32, b"\x00" * 32, id="gap"),
            pytest.param(-1, b"\x05" * 32, b"\x00" * 32, id="negative"),
            pytest.param(1, b"\x00" * 32, b"\x00" * 32, id="same record again"),
            pytest.param(1, b"\x05" * 31, b"\x00" * 32, id="short hash"),
        ],
    )
    def test_what_does_not_follow_is_refused_in_every_role(
        self, replica: Connection, seq: int, record_hash: bytes, previous_hash: bytes | None
    ) -> None:
        """Forks and gaps cannot be stored."""
        put_record(replica, 0, b"\x00" * 32, None)
        with pytest.raises(psycopg.IntegrityError):
            put_record(replica, seq, record_hash, previous_hash)

    def test_a_fork_is_refused(self, replica: Connection) -> None:
        """Two records cannot follow the same one."""
        put_record(replica, 0, b"\x00" * 32, None)
        put_record(replica, 1, b"\x01" * 32, b"\x00" * 32)
        with pytest.raises(errors.UniqueViolation):
            put_record(replica, 2, b"\x02" * 32, b"\x00" * 32)


class TestPlaces:
    """A stream is contiguous from its first place, and a place has one hash."""

    @pytest.mark.parametrize(
        "rows",
        [
            pytest.param([(7, False, HASH, None)], id="gap after the head"),
            pytest.param([(4, False, HASH, None)], id="before the first"),
            pytest.param([(4, True, HASH, None)], id="before the first, as a start"),
            pytest.param([(9, True, HASH, None)], id="a second start"),
            pytest.param([(5, True, OTHER_HASH, None)], id="another hash for a place"),
            pytest.param([(5, False, HASH, None)], id="the same place again"),
            pytest.param([(6, False, HASH, None), (8, False, HASH, None)], id="gap inside a batch"),
            pytest.param([(4, True, HASH, None), (6, False, HASH, None)], id="both ends at once"),
            pytest.param([(-1, True, HASH, None)], id="negative"),
            pytest.param([(6, False, "sha256:" + "A" * 64, None)], id="upper-case hash"),
            pytest.param([(6, False, "sha256:" + "a" * 63, None)], id="short hash"),
            pytest.param([(6, False, "sha512:" + "a" * 64, None)], id="unknown algorithm"),
            pytest.param([(6, False, HASH + "\n", None)], id="hash and a line feed"),
            pytest.param([(6, False, HASH, "")], id="empty previous hash"),
        ],
    )
    def test_what_does_not_continue_the_stream_is_refused_in_every_role(
        self, replica: Connection, rows: list[tuple[int, bool, str, str | None]]
    ) -> None:
        """Gaps, second starts, second hashes and malformed hashes cannot be stored."""
        stream_id = make_stream(replica)
        put_places(replica, stream_id, (5, True, HASH, None))
        with pytest.raises(psycopg.IntegrityError):
            put_places(replica, stream_id, *rows)
        stored = replica.execute("SELECT sequence, event_hash FROM witness.places").fetchall()
        assert stored == [(5, HASH)]

    def test_an_event_store_is_adopted_where_it_stands(self, service: Connection) -> None:
        """The first sequence seen starts the stream, in one batch with those after it."""
        stream_id = make_stream(service, "witnessed")
        rows = [(1_000_000, True, HASH, OTHER_HASH), (1_000_001, False, OTHER_HASH, HASH)]
        put_places(service, stream_id, *rows)
        put_places(service, stream_id, (1_000_002, False, HASH, OTHER_HASH))

    @pytest.mark.parametrize("previous", [None, HASH], ids=["none", "another"])
    def test_a_witnessed_stream_names_the_hash_witnessed_before(
        self, replica: Connection, previous: str | None
    ) -> None:
        """A missing or another previous hash is a broken link."""
        stream_id = make_stream(replica, "witnessed")
        put_places(replica, stream_id, (0, True, OTHER_HASH, None))
        with pytest.raises(psycopg.IntegrityError, match="link rule"):
            put_places(replica, stream_id, (1, False, HASH, previous))

    def test_a_stream_without_links_has_none(self, replica: Connection) -> None:
        """A previous hash in a stream that has none is refused, at its first place too."""
        stream_id = make_stream(replica, "none")
        with pytest.raises(psycopg.IntegrityError, match="link rule"):
            put_places(replica, stream_id, (0, True, HASH, HASH))

    @pytest.mark.faults
    def test_case_35_two_starts_race(self, superuser_dsn: str) -> None:
        """Two transactions that cannot see each other cannot both start a stream."""
        starts = [3, 9]
        ready = threading.Barrier(2, timeout=10)
        with psycopg.connect(superuser_dsn, autocommit=True) as connection:
            stream_id = make_stream(connection)

        def start(sequence: int) -> str:
            with psycopg.connect(superuser_dsn) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.execute("SELECT count(*) FROM witness.places")
                ready.wait()
                try:
                    put_places(connection, stream_id, (sequence, True, HASH, None))
                except psycopg.errors.UniqueViolation:
                    return "refused"
                return "stored"

        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(start, starts)) == ["refused", "stored"]


class TestStatementLog:
    """The statement log grows by whole runs, each under a head of its own."""

    def test_a_run_is_stored_with_its_head(self, service: Connection, claim_ids: list[int]) -> None:
        """First the head, then the leaves that fill it; the next run continues it."""
        for previous_size, size in ((0, 3), (3, 8)):
            with service.transaction():
                put_seal(service, size, previous_size)
                put_leaves(service, {index: claim_ids[index] for index in range(previous_size, size)})

    @pytest.mark.parametrize(
        ("size", "previous_size", "indices"),
        [
            pytest.param(5, 3, [3], id="too few leaves"),
            pytest.param(5, 3, [3, 4, 5], id="too many leaves"),
            pytest.param(5, 3, [], id="a head without leaves"),
            pytest.param(None, None, [3, 4], id="leaves without a head"),
            pytest.param(6, 4, [4, 5], id="a gap before the run"),
            pytest.param(6, 3, [3, 5], id="a gap inside the run"),
            pytest.param(6, 3, [3, 4, 6], id="a hole and one beyond"),
            pytest.param(4, 2, [3], id="a fork of an earlier head"),
            pytest.param(2, 0, [3, 4], id="a second first head"),
            pytest.param(3, 3, [3], id="a head that does not grow"),
            pytest.param(1, 3, [], id="a head that shrinks"),
            pytest.param(4, -1, [3], id="a negative size"),
        ],
    )
    def test_anything_else_is_refused_in_every_role(
        self,
        replica: Connection,
        claim_ids: list[int],
        size: int | None,
        previous_size: int | None,
        indices: list[int],
    ) -> None:
        """Gaps, forks, holes and heads that count wrongly cannot be committed."""
        with replica.transaction():
            put_seal(replica, 3, 0)
            put_leaves(replica, {index: claim_ids[index] for index in range(3)})

        def put() -> None:
            with replica.transaction():
                if size is not None and previous_size is not None:
                    put_seal(replica, size, previous_size)
                if indices:
                    put_leaves(replica, {index: claim_ids[index] for index in indices})

        with pytest.raises(psycopg.IntegrityError):
            put()
        assert replica.execute("SELECT max(size), count(*) FROM witness.seals").fetchone() == (3, 1)
        assert replica.execute("SELECT count(*) FROM witness.attestations").fetchone() == (3,)

    def test_a_claim_has_one_attestation(self, replica: Connection, claim_ids: list[int]) -> None:
        """The same claim cannot be sealed at two leaves."""
        with replica.transaction():
            put_seal(replica, 2, 0)
            with pytest.raises(errors.UniqueViolation):
                put_leaves(replica, {0: claim_ids[0], 1: claim_ids[0]})
            raise psycopg.Rollback

    def test_a_witness_claims_a_place_once(self, service: Connection, claim_ids: list[int]) -> None:
        """A second claim by the same witness is refused."""
        with pytest.raises(errors.UniqueViolation):
            put_claims(service, 1, [0])

    def test_a_claim_needs_its_place(self, service: Connection, claim_ids: list[int]) -> None:
        """There is no claim on a place that no hash stands at."""
        with pytest.raises(errors.ForeignKeyViolation):
            put_claims(service, 1, [8])


def test_every_table_says_what_it_is(replica: Connection) -> None:
    """An auditor who opens the database finds every table of the schema described."""
    rows = replica.execute(
        """
        SELECT relname FROM pg_class
        WHERE relnamespace = 'witness'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
            AND obj_description(oid, 'pg_class') IS NULL
        """
    ).fetchall()
    assert rows == []
