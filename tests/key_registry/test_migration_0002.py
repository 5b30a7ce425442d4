"""What an earlier release stored is brought into the new form, and what it left open is ended."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from key_registry import migrations
from key_registry.dsse import Signature
from key_registry.migrations import OWNER, SERVICE, migrate
from key_registry.store import Store
from witness_service.embedded_postgres import SUPERUSER, EmbeddedPostgres

KEY = "ab" * 32
BODY = b'{"key_id":"' + KEY.encode() + b'","type":"key-add"}'


@pytest.fixture
def first_schema(postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a database with the schema of the first release."""
    postgres.ensure_database("first_schema")
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "EXPECTED_VERSION", "0001")
        migrate(postgres.dsn(OWNER, "first_schema"))
    yield "first_schema"
    with psycopg.connect(postgres.dsn(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE first_schema WITH (FORCE)")


async def test_proposals_of_the_first_release(postgres: EmbeddedPostgres, first_schema: str) -> None:
    """Body, possession and approvals are kept; a proposal that was open is ended and says why."""
    with psycopg.connect(postgres.dsn(SERVICE, first_schema)) as connection:
        for proposal_id, state in ((1, "done"), (2, "open")):
            connection.execute(
                "INSERT INTO witness.proposals (proposal_id, kind, witness_id, replaces, body, possession, expires_at)"
                " VALUES (%s, 'rotate', 'WITNESS:w', NULL, %s, 'possession', now() + interval '1 hour')",
                (f"00000000-0000-4000-8000-{proposal_id:012}", BODY),
            )
            connection.execute(
                "INSERT INTO witness.approvals (proposal_id, lead_key_id, signature)"
                " SELECT proposal_id, %s, 'by a lead' FROM witness.proposals WHERE state = 'open'",
                (bytes.fromhex("cd" * 32),),
            )
            if state == "done":
                connection.execute("UPDATE witness.proposals SET state = 'done', finished_at = now()")
    migrate(postgres.dsn(OWNER, first_schema))
    store = await Store.open(postgres.dsn(SERVICE, first_schema))
    try:
        await store.check_schema()
        found = {proposal.state: proposal for proposal in await store.latest_proposals(10)}
        assert sorted(found) == ["aborted", "done"]
        assert found["aborted"].note == "made by an earlier release"
        for proposal in found.values():
            (document,) = proposal.documents
            assert (document.body, document.possession) == (BODY, Signature(KEY, b"possession"))
            assert dict(await store.approvals(proposal.proposal_id)) == {"cd" * 32: (b"by a lead",)}
        assert await store.unfinished_proposals() == []
    finally:
        await store.close()
