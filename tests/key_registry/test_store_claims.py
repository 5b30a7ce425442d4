"""Claims: a place goes to one hash, all of a batch or none, whoever comes at the same time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from key_registry.store import Conflict, IntegrityBroken, NewClaim, NewPlace, Store, StoreError, StreamHead
from tests.key_registry.stored_events import (
    KEY,
    attest,
    claim,
    event_hash,
    new_claim,
    new_place,
    places_of,
    seal,
)


async def test_a_claim_is_read_back_as_it_was_made(store: Store) -> None:
    """The exact statement bytes, the place and the key come back, with no leaf yet."""
    statement = bytes(range(256))
    async with store.claiming() as transaction:
        stream_id = (await transaction.lock_streams({"größe": "recorded"}))["größe"].stream_id
        place = NewPlace(stream_id, 2**63 - 1, event_hash("a", 1), None)
        ids = await transaction.insert([place], [NewClaim(stream_id, 2**63 - 1, "WITNESS:é", KEY, statement)])
    (found,) = await store.unsealed()
    assert [found.claim_id] == ids
    assert (found.stream, found.sequence, found.event_hash) == ("größe", 2**63 - 1, event_hash("a", 1))
    assert (found.previous_event_hash, found.witness_id, found.key_id) == (None, "WITNESS:é", KEY)
    assert found.statement == statement
    assert (found.leaf_index, found.signature) == (None, None)


async def test_ids_come_in_the_order_of_the_claims(store: Store) -> None:
    """Each claim of a batch over several streams is matched with its own id."""
    streams = ("c", "a", "b")
    async with store.claiming() as transaction:
        heads = await transaction.lock_streams(dict.fromkeys(streams, "recorded"))
        where = [(name, sequence) for sequence in range(100) for name in streams]
        places = [new_place(heads[name].stream_id, name, sequence) for name, sequence in where]
        claims = [new_claim(heads[name].stream_id, name, sequence) for name, sequence in where]
        ids = await transaction.insert(places, claims)
    stored = {claim.claim_id: claim.statement for claim in await store.unsealed()}
    assert [stored[claim_id] for claim_id in ids] == [claim.statement for claim in claims]


async def test_heads_follow_the_places(store: Store) -> None:
    """A new stream has no head, an old one its last place, and a rule is only for a new stream."""
    await claim(store, "old", [7, 8])
    async with store.claiming() as transaction:
        heads = await transaction.lock_streams({"new": "none", "old": "recorded"})
    assert heads["old"] == StreamHead(heads["old"].stream_id, "witnessed", 8, event_hash("old", 8))
    assert heads["new"] == StreamHead(heads["new"].stream_id, "none", None, None)


async def test_existing_claims_are_found_sealed_or_not(store: Store) -> None:
    """What stands at the places of a batch is known before anything is added to it."""
    await attest(store, "a", [0, 1])
    await claim(store, "a", [2])
    async with store.claiming() as transaction:
        stream_id = (await transaction.lock_streams({"a": "witnessed"}))["a"].stream_id
        found = await transaction.claims_at([(stream_id, sequence) for sequence in (1, 2, 3)])
        assert await transaction.claims_at([]) == []
    assert [(claim.sequence, claim.leaf_index) for claim in found] == [(1, 1), (2, None)]


async def test_an_exception_takes_everything_back(store: Store) -> None:
    """A batch that is given up leaves neither places nor claims nor streams."""

    async def give_up() -> None:
        async with store.claiming() as transaction:
            head = (await transaction.lock_streams({"a": "witnessed"}))["a"]
            await transaction.insert([new_place(head.stream_id, "a", 0)], [new_claim(head.stream_id, "a", 0)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await give_up()
    assert await store.unsealed() == []
    await claim(store, "a", [5])


async def test_a_failed_statement_cannot_be_committed(store: Store) -> None:
    """A caller that swallows an error inside the transaction is told that nothing was stored."""
    await claim(store, "a", [0])

    async def swallow() -> None:
        async with store.claiming() as transaction:
            head = (await transaction.lock_streams({"a": "witnessed"}))["a"]
            with contextlib.suppress(Conflict):
                await transaction.insert([new_place(head.stream_id, "a", 0)], [])

    with pytest.raises(StoreError, match="got a rollback"):
        await swallow()
    assert places_of(await store.unsealed()) == [("a", 0)]


async def test_a_gap_is_not_a_lost_race(store: Store) -> None:
    """What the database refuses for good is told apart from what may be tried again."""
    await claim(store, "a", [0])
    with pytest.raises(IntegrityBroken, match="sequence 2 of stream"):
        await claim(store, "a", [2])


async def test_a_second_witness_attests_a_place(store: Store) -> None:
    """Another witness may claim a place that stands; the same one may not again."""

    async def second(statement: bytes) -> None:
        async with store.claiming() as transaction:
            stream_id = (await transaction.lock_streams({"a": "witnessed"}))["a"].stream_id
            await transaction.insert([], [NewClaim(stream_id, 0, "WITNESS:second", KEY, statement)])

    await claim(store, "a", [0])
    await second(b"s")
    with pytest.raises(Conflict):
        await second(b"t")
    assert places_of(await store.unsealed()) == [("a", 0), ("a", 0)]


async def test_an_empty_batch_is_no_claim(store: Store) -> None:
    """A transaction that finds nothing to add commits nothing."""
    async with store.claiming() as transaction:
        assert transaction.registry_size == 0
        assert await transaction.insert([], []) == []
    assert await store.unsealed() == []


@pytest.mark.faults
async def test_case_36_two_replicas_interleaved_give_one_order(database: str) -> None:
    """Claims of two replicas on the same streams, in any order of locking, neither deadlock nor lose a place."""
    replicas = [await Store.open(database) for _ in range(2)]
    streams = [f"stream {number}" for number in range(4)]

    async def append(store: Store, order: list[str]) -> None:
        async with store.claiming() as transaction:
            heads = await transaction.lock_streams(dict.fromkeys(order, "witnessed"))
            where = [(head, name) for name, head in heads.items()]
            after = [(head, name, -1 if head.last_sequence is None else head.last_sequence) for head, name in where]
            await transaction.insert(
                [new_place(head.stream_id, name, last + 1) for head, name, last in after],
                [new_claim(head.stream_id, name, last + 1) for head, name, last in after],
            )

    work = [append(replicas[turn % 2], streams if turn % 3 else streams[::-1]) for turn in range(24)]
    await asyncio.gather(*work)
    claims = await replicas[0].unsealed()
    assert sorted(places_of(claims)) == [(name, sequence) for name in streams for sequence in range(24)]
    await seal(replicas[1], [claim.claim_id for claim in claims])
    for store in replicas:
        assert await store.unsealed() == []
        await store.close()


@pytest.mark.faults
async def test_case_35_two_hashes_for_one_place(database: str) -> None:
    """Of two claims that race for a place one is stored, and the other finds it there."""
    replicas = [await Store.open(database) for _ in range(2)]
    first_has_read = asyncio.Event()

    async def take(store: Store, text: str) -> str:
        async with store.claiming() as transaction:
            head = (await transaction.lock_streams({"a": "recorded"}))["a"]
            first_has_read.set()
            if await transaction.claims_at([(head.stream_id, 0)]):
                return "found"
            place = NewPlace(head.stream_id, 0, event_hash(text, 0), None)
            await transaction.insert([place], [new_claim(head.stream_id, "a", 0)])
            return "stored"

    first = asyncio.create_task(take(replicas[0], "one"))
    await first_has_read.wait()
    assert await asyncio.gather(first, take(replicas[1], "two")) == ["stored", "found"]
    for store in replicas:
        await store.close()
