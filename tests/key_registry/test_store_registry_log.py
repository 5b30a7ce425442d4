"""The registry log takes one record after the other, and only while nobody claims or seals."""

from __future__ import annotations

import asyncio
import hashlib

import psycopg
import pytest

from key_registry import canonical_json
from key_registry.dsse import Envelope, Signature
from key_registry.store import IntegrityBroken, KeyInUse, Quiet, RegistryMoved, Store
from tests.key_registry.stored_events import KEY, claim, seal


def record(seq: int, previous: Envelope | None) -> Envelope:
    """A signed record that names the one before it; the store does not judge the rest."""
    previous_hash = hashlib.sha256(previous.pae()).hexdigest() if previous else None
    body = canonical_json.encode({"prev": previous_hash, "seq": str(seq)})
    return Envelope("application/vnd.test", body, (Signature("ab" * 32, b"signature"),))


async def put_chain(store: Store, length: int) -> list[Envelope]:
    chain: list[Envelope] = []
    for seq in range(length):
        chain.append(record(seq, chain[-1] if chain else None))
        await store.append_record(chain[-1], seq=seq)
    return chain


async def test_records_are_read_back(store: Store) -> None:
    """The envelopes come back as they were, in order, and the size counts them."""
    assert (await store.records(), await store.registry_size()) == ([], 0)
    chain = await put_chain(store, 3)
    assert await store.records() == chain
    assert await store.registry_size() == (await store.heads()).registry_size == 3


@pytest.mark.parametrize("seq", [0, 1, 3])
async def test_a_record_for_another_size_is_refused(store: Store, seq: int) -> None:
    """A writer that has not seen the newest record learns the size and stores nothing."""
    chain = await put_chain(store, 2)
    with pytest.raises(RegistryMoved) as moved:
        await store.append_record(record(seq, chain[-1]), seq=seq)
    assert moved.value.size == 2
    assert await store.registry_size() == 2


async def test_a_record_that_names_another_is_refused(store: Store) -> None:
    """The chain of hashes is checked by the database as well."""
    chain = await put_chain(store, 2)
    with pytest.raises(IntegrityBroken, match="record 2 to follow record 1"):
        await store.append_record(record(2, record(7, chain[1])), seq=2)


async def test_of_two_writers_one_is_first(database: str) -> None:
    """Two records for the same place race; one is stored."""
    replicas = [await Store.open(database) for _ in range(2)]
    chain = await put_chain(replicas[0], 1)
    results = await asyncio.gather(
        *(store.append_record(record(1, chain[0]), seq=1) for store in replicas), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["NoneType", "RegistryMoved"]
    for store in replicas:
        await store.close()


async def test_a_key_with_unsealed_claims_is_not_closed(store: Store) -> None:
    """A closing record waits for the claims of its key, and for no others."""
    ids = await claim(store, "a", range(2))
    (genesis,) = await put_chain(store, 1)
    with pytest.raises(KeyInUse) as in_use:
        await store.append_record(record(1, genesis), seq=1, quiet=Quiet(KEY))
    assert in_use.value.unsealed == 2
    await store.append_record(record(1, genesis), seq=1, quiet=Quiet("cd" * 32))
    await seal(store, ids)
    await store.append_record(record(2, record(1, genesis)), seq=2, quiet=Quiet(KEY))


async def test_a_record_waits_for_those_who_claim_and_seal(store: Store) -> None:
    """What a claim or seal saw of the registry holds until it commits."""
    async with store.claiming() as claiming, store.sealing() as sealing:
        appending = asyncio.create_task(store.append_record(record(0, None), seq=0))
        waiting = asyncio.create_task(until_a_lock_is_waited_for(store))
        await waiting
        assert (claiming.registry_size, sealing.registry_size) == (0, 0)
        assert not appending.done()
    await appending
    async with store.claiming() as claiming, store.sealing() as sealing:
        assert (claiming.registry_size, sealing.registry_size) == (1, 1)


async def until_a_lock_is_waited_for(store: Store) -> None:
    """Return when some session of the database waits for an advisory lock."""
    async with asyncio.timeout(5):
        while not await store._database.read(
            """
            SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            """
        ):
            await asyncio.sleep(0)


async def test_bytes_that_are_no_envelope_are_noticed(store: Store, superuser_dsn: str) -> None:
    """A record that somebody put into the table by hand does not pass for one."""
    with psycopg.connect(superuser_dsn) as connection:
        connection.execute(
            "INSERT INTO witness.registry_records VALUES (0, 'junk', %s, NULL, %s)", (bytes(32), bytes(32))
        )
    with pytest.raises(IntegrityBroken, match="envelopes in the registry log"):
        await store.records()
