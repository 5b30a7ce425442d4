"""Proposals: one at a time, one signature by each lead, and no way back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest

from key_registry.dsse import Signature
from key_registry.store import Conflict, Store

EXPIRES = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


async def propose(store: Store, *, replaces: str | None = "ab" * 32) -> UUID:
    proposal_id = uuid4()
    await store.add_proposal(
        proposal_id=proposal_id,
        kind="rotate",
        witness_id="WITNESS:w",
        replaces=replaces,
        body=b"body",
        possession=b"possession",
        expires_at=EXPIRES,
    )
    return proposal_id


@pytest.mark.parametrize("replaces", ["ab" * 32, None])
async def test_a_proposal_is_read_back(store: Store, replaces: str | None) -> None:
    """Body, proof of possession and expiry come back as they were."""
    proposal_id = await propose(store, replaces=replaces)
    found = await store.proposal(proposal_id)
    assert found is not None
    assert found == await store.open_proposal()
    assert (found.proposal_id, found.kind, found.witness_id) == (proposal_id, "rotate", "WITNESS:w")
    assert (found.replaces, found.body, found.possession) == (replaces, b"body", b"possession")
    assert (found.expires_at, found.state, found.finished_at) == (EXPIRES, "open", None)


async def test_an_unknown_proposal(store: Store) -> None:
    """There is none until there is one."""
    assert await store.proposal(uuid4()) is None
    assert await store.open_proposal() is None


async def test_one_at_a_time(store: Store) -> None:
    """Of two proposals made at once one is stored, and the next only when it is finished."""
    results = await asyncio.gather(propose(store), propose(store), return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 1
    running = await store.open_proposal()
    assert running is not None
    await store.set_proposal_state(running.proposal_id, "approved")
    with pytest.raises(Conflict):
        await propose(store)
    await store.set_proposal_state(running.proposal_id, "done")
    assert await store.open_proposal() is None
    await propose(store)


async def test_each_lead_signs_once(store: Store) -> None:
    """Signatures are kept by key id, and a second one by the same lead is refused."""
    proposal_id = await propose(store)
    await store.add_approval(proposal_id, "cc" * 32, b"third")
    await store.add_approval(proposal_id, "bb" * 32, b"first")
    with pytest.raises(Conflict):
        await store.add_approval(proposal_id, "bb" * 32, b"second")
    assert await store.approvals(proposal_id) == [
        Signature("bb" * 32, b"first"),
        Signature("cc" * 32, b"third"),
    ]


@pytest.mark.parametrize("state", ["approved", "done", "expired", "aborted"])
async def test_only_an_open_proposal_is_signed(store: Store, state: str) -> None:
    """A signature that comes too late is not stored."""
    proposal_id = await propose(store)
    await store.set_proposal_state(proposal_id, state)
    with pytest.raises(Conflict):
        await store.add_approval(proposal_id, "bb" * 32, b"late")
    with pytest.raises(Conflict):
        await store.add_approval(uuid4(), "bb" * 32, b"nowhere")
    assert await store.approvals(proposal_id) == []


@pytest.mark.parametrize("end", ["done", "expired", "aborted"])
async def test_an_end_is_an_end(store: Store, superuser_dsn: str, end: str) -> None:
    """A finished proposal says when, goes nowhere, and the database holds it to that."""
    proposal_id = await propose(store)
    await store.set_proposal_state(proposal_id, end)
    found = await store.proposal(proposal_id)
    assert found is not None
    assert found.state == end
    assert found.finished_at is not None
    for state in ("approved", "done", "expired", "aborted"):
        with pytest.raises(Conflict):
            await store.set_proposal_state(proposal_id, state)
    with psycopg.connect(superuser_dsn) as connection, pytest.raises(psycopg.IntegrityError):
        connection.execute("UPDATE witness.proposals SET state = 'open', finished_at = NULL")


async def test_the_service_cannot_change_what_the_leads_sign(store: Store, database: str) -> None:
    """The body of a proposal is not among the columns that the service may update."""
    await propose(store)
    with psycopg.connect(database) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("UPDATE witness.proposals SET body = 'other'")
