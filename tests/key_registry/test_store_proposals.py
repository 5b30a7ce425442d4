"""Proposals: one at a time but for emergencies, one signature by each lead over each document, and no way back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest

from key_registry import canonical_json
from key_registry.dsse import Envelope, Signature
from key_registry.store import (
    Conflict,
    Document,
    EmergencyFirst,
    IntegrityBroken,
    NewProposal,
    ProposalEnded,
    RegistryMoved,
    Store,
)

EXPIRES = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
KEY = "ab" * 32
DOCUMENTS = (Document("t1", b"one", Signature("cd" * 32, b"possession")), Document("t2", b"two"))


def new(kind: str = "rotate", *, seq: int | None = None, key_id: str | None = None) -> NewProposal:
    return NewProposal(
        proposal_id=uuid4(),
        kind=kind,
        witness_id="WITNESS:w",
        key_id=key_id,
        replaces=KEY,
        seq=seq,
        request=b"request",
        proposer=Signature("ef" * 32, b"by the proposer"),
        facts=b"{}",
        documents=DOCUMENTS,
        expires_at=EXPIRES,
    )


async def propose(store: Store, kind: str = "rotate", *, seq: int | None = None, key_id: str | None = None) -> UUID:
    made = new(kind, seq=seq, key_id=key_id)
    await store.add_proposal(made)
    return made.proposal_id


def record(seq: int, previous: bytes | None) -> Envelope:
    """Return an envelope that the store takes for record `seq`; that it means something is checked elsewhere."""
    body = canonical_json.encode({"prev": previous.hex() if previous else None, "seq": str(seq)})
    return Envelope("record", body, (Signature(KEY, b"x"),))


async def append(store: Store, count: int) -> None:
    """Append records until there are so many."""
    import hashlib

    previous = None
    for seq in range(count):
        envelope = record(seq, previous)
        previous = hashlib.sha256(envelope.pae()).digest()
        if seq >= await store.registry_size():
            await store.append_record(envelope, seq=seq)


async def state(store: Store, proposal_id: UUID) -> str:
    found = await store.proposal(proposal_id)
    assert found is not None
    return found.state


async def test_a_proposal_is_read_back(store: Store) -> None:
    """Documents, request, proposer and expiry come back as they were."""
    made = new()
    await store.add_proposal(made)
    found = await store.proposal(made.proposal_id)
    assert found is not None
    assert [found] == await store.unfinished_proposals() == await store.latest_proposals(10)
    for name in NewProposal.__dataclass_fields__:
        assert getattr(found, name) == getattr(made, name), name
    assert (found.state, found.finished_at, found.note, found.unfinished) == ("open", None, "", True)


async def test_an_unknown_proposal(store: Store) -> None:
    """There is none until there is one."""
    assert await store.proposal(uuid4()) is None
    assert await store.unfinished_proposals() == []


async def test_one_at_a_time(store: Store) -> None:
    """Of two proposals made at once one is stored, and the next only when it is finished."""
    results = await asyncio.gather(propose(store), propose(store, "leads"), return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 1
    (running,) = await store.unfinished_proposals()
    await store.set_proposal_state(running.proposal_id, "approved")
    with pytest.raises(Conflict):
        await propose(store)
    await store.set_proposal_state(running.proposal_id, "done")
    assert await store.unfinished_proposals() == []
    await propose(store)


async def test_emergencies_wait_for_nothing(store: Store) -> None:
    """Beside a rotation any number of keys can be declared compromised, and resumed; each once at a time."""
    await propose(store)
    await propose(store, "compromise", key_id=KEY)
    await propose(store, "compromise", key_id="cd" * 32)
    await propose(store, "resume", key_id=KEY)
    with pytest.raises(Conflict):
        await propose(store, "compromise", key_id=KEY)
    assert len(await store.unfinished_proposals()) == 4


async def test_an_id_is_taken_once(store: Store) -> None:
    """A second proposal under the id of the first is refused, whatever became of that."""
    made = new("compromise", key_id=KEY)
    await store.add_proposal(made)
    await store.set_proposal_state(made.proposal_id, "aborted")
    with pytest.raises(Conflict):
        await store.add_proposal(replace(made, kind="resume"))


async def test_a_proposal_is_for_the_next_place(store: Store) -> None:
    """What would not be the next record is refused when it is proposed."""
    await append(store, 2)
    for seq in (1, 3):
        with pytest.raises(RegistryMoved):
            await propose(store, seq=seq)
    await propose(store, seq=2)


async def test_a_record_overtakes_the_others_for_its_place(store: Store) -> None:
    """The proposal that is carried out is approved in the same transaction; the other one for the place ends."""
    await append(store, 1)
    rotation = await propose(store, seq=1)
    emergency = await propose(store, "compromise", seq=1, key_id=KEY)
    lifted = await propose(store, "resume", key_id=KEY)
    envelope = record(1, None)
    with pytest.raises(EmergencyFirst):
        await store.append_record(envelope, seq=1, proposal_id=rotation)
    assert await state(store, rotation) == "open"
    with pytest.raises(IntegrityBroken):
        await store.append_record(envelope, seq=1, proposal_id=emergency, emergency=True)
    assert await state(store, emergency) == "open"
    import hashlib

    following = record(1, hashlib.sha256(record(0, None).pae()).digest())
    await store.append_record(following, seq=1, proposal_id=emergency, emergency=True)
    assert [await state(store, it) for it in (emergency, rotation, lifted)] == ["approved", "overtaken", "open"]


async def test_each_lead_signs_once(store: Store) -> None:
    """Signatures are kept by key id, one for each document, and a second time by the same lead is refused."""
    proposal_id = await propose(store)
    await store.add_approval(proposal_id, "cc" * 32, [b"c1", b"c2"])
    await store.add_approval(proposal_id, "bb" * 32, [b"b1", b"b2"])
    with pytest.raises(Conflict):
        await store.add_approval(proposal_id, "bb" * 32, [b"other", b"ones"])
    assert dict(await store.approvals(proposal_id)) == {"bb" * 32: (b"b1", b"b2"), "cc" * 32: (b"c1", b"c2")}


async def test_each_lead_rejects_once(store: Store) -> None:
    """Rejections are kept as they were signed."""
    proposal_id = await propose(store)
    envelope = Envelope("no", b"{}", (Signature("bb" * 32, b"x"),))
    await store.add_rejection(proposal_id, "bb" * 32, envelope)
    with pytest.raises(Conflict):
        await store.add_rejection(proposal_id, "bb" * 32, envelope)
    assert dict(await store.rejections(proposal_id)) == {"bb" * 32: envelope}


ENDS = ["done", "expired", "aborted", "rejected", "overtaken"]


@pytest.mark.parametrize("end", ["approved", *ENDS])
async def test_only_an_open_proposal_is_signed(store: Store, end: str) -> None:
    """A word that comes too late is not stored."""
    proposal_id = await propose(store)
    await store.set_proposal_state(proposal_id, end)
    for where in (proposal_id, uuid4()):
        with pytest.raises(Conflict):
            await store.add_approval(where, "bb" * 32, [b"late", b"late"])
        with pytest.raises(Conflict):
            await store.add_rejection(where, "bb" * 32, Envelope("no", b"{}", ()))
    assert (await store.approvals(proposal_id), await store.rejections(proposal_id)) == ({}, {})


@pytest.mark.parametrize("end", ENDS)
async def test_an_end_is_an_end(store: Store, superuser_dsn: str, end: str) -> None:
    """A finished proposal says when and why, goes nowhere, and the database holds it to that."""
    proposal_id = await propose(store)
    await store.set_proposal_state(proposal_id, end, "because")
    found = await store.proposal(proposal_id)
    assert found is not None
    assert (found.state, found.note) == (end, "because")
    assert found.finished_at is not None
    for other in ("approved", *ENDS):
        with pytest.raises(Conflict):
            await store.set_proposal_state(proposal_id, other)
    with psycopg.connect(superuser_dsn) as connection, pytest.raises(psycopg.IntegrityError):
        connection.execute("UPDATE witness.proposals SET state = 'open', finished_at = NULL")


async def test_the_service_cannot_change_what_the_leads_sign(store: Store, database: str) -> None:
    """What a proposal says is not among the columns that the service may update."""
    await propose(store)
    for change in (
        "UPDATE witness.proposals SET request = 'other'",
        "UPDATE witness.proposals SET seq = 7",
        "UPDATE witness.proposal_documents SET body = 'other'",
        "DELETE FROM witness.approvals",
    ):
        with psycopg.connect(database) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(change)


async def test_orders_about_a_key(store: Store) -> None:
    """Counted from 1 without a gap; odd ones stop the key, and of two at once one is stored."""
    orders = [Envelope("order", b"%d" % number, (Signature(KEY, b"x"),)) for number in range(4)]
    with pytest.raises(Conflict):
        await store.add_key_order(KEY, 2, orders[2])
    results = await asyncio.gather(*(store.add_key_order(KEY, 1, orders[1]) for _ in range(4)), return_exceptions=True)
    assert sum(result is None for result in results) == 1
    assert await store.stopped_keys() == {KEY}
    async with store.claiming() as transaction:
        assert transaction.stopped == {KEY}
    await store.add_key_order(KEY, 2, orders[2])
    assert await store.stopped_keys() == frozenset()
    await store.add_key_order(KEY, 3, orders[3])
    assert [(it.number, it.stops, it.envelope) for it in await store.key_orders(KEY)] == [
        (1, True, orders[1]),
        (2, False, orders[2]),
        (3, True, orders[3]),
    ]
    assert [it.number for it in await store.latest_key_orders()] == [3]


async def test_the_database_keeps_orders_in_line(store: Store, superuser_dsn: str) -> None:
    """Not even by hand is an order stored that does not follow the one before it."""
    await store.add_key_order(KEY, 1, Envelope("order", b"1", (Signature(KEY, b"x"),)))
    with (
        psycopg.connect(superuser_dsn) as connection,
        pytest.raises(psycopg.IntegrityError, match="expected order 3 of a key to follow order 2"),
    ):
        connection.execute(
            "INSERT INTO witness.key_orders (key_id, number, envelope) SELECT key_id, 3, '' FROM witness.key_orders"
        )


@pytest.mark.parametrize("end", ["aborted", "expired", "rejected"])
async def test_what_has_ended_takes_no_effect(store: Store, end: str) -> None:
    """Whoever counted the approvals just before the end stores nothing after it, neither record nor order."""
    await append(store, 1)
    rotation, resumption = await propose(store, seq=1), await propose(store, "resume", key_id=KEY)
    await store.add_key_order(KEY, 1, Envelope("order", b"1", (Signature(KEY, b"x"),)))
    for proposal_id in (rotation, resumption):
        await store.set_proposal_state(proposal_id, end)
    import hashlib

    following = record(1, hashlib.sha256(record(0, None).pae()).digest())
    with pytest.raises(ProposalEnded):
        await store.append_record(following, seq=1, proposal_id=rotation)
    with pytest.raises(ProposalEnded):
        await store.add_key_order(KEY, 2, Envelope("order", b"2", (Signature(KEY, b"x"),)), proposal_id=resumption)
    assert (await store.registry_size(), len(await store.key_orders(KEY))) == (1, 1)
    assert [await state(store, it) for it in (rotation, resumption)] == [end, end]


async def test_what_takes_effect_is_not_aborted(store: Store) -> None:
    """From the first record on a proposal can only be done or overtaken."""
    proposal_id = await propose(store)
    await store.set_proposal_state(proposal_id, "approved")
    for end in ("aborted", "expired", "rejected"):
        with pytest.raises(Conflict):
            await store.set_proposal_state(proposal_id, end)
    await store.set_proposal_state(proposal_id, "overtaken")


async def test_a_proposal_beside_which_the_log_stands_still(store: Store, superuser_dsn: str) -> None:
    """Stored in the transaction that holds the log, it does not wait for a stop that waits for that transaction."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = " + (
        "(SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    made = new("policy")
    order = Envelope("order", b"1", (Signature(KEY, b"x"),))
    async with await psycopg.AsyncConnection.connect(superuser_dsn, autocommit=True) as watcher:
        async with store.sealing() as sealing, asyncio.timeout(10):
            stopping = asyncio.create_task(store.add_key_order(KEY, 1, order))
            while await (await watcher.execute(waiting)).fetchone() != (1,):
                await asyncio.sleep(0.01)
            async with asyncio.timeout(2):
                await sealing.add_proposal(made)
        await stopping
    assert await state(store, made.proposal_id) == "open"
    assert await store.stopped_keys() == {KEY}


async def test_a_proposal_beside_the_log_is_for_the_next_place_too(store: Store) -> None:
    """What would not be the next record is refused, and the transaction leaves nothing behind."""
    made = new("policy", seq=1)
    with pytest.raises(RegistryMoved):
        async with store.sealing() as sealing:
            await sealing.add_proposal(made)
    assert await store.proposal(made.proposal_id) is None
