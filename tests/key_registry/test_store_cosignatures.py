"""Cosignatures and timestamp tokens: what is read back is the line that is to be handed out."""

from __future__ import annotations

import psycopg
import pytest

from key_registry.migrations import AUDITOR
from key_registry.store import IntegrityBroken, Store, StoredCosignature
from witness_service.embedded_postgres import EmbeddedPostgres

ONE, OTHER, STRANGER = bytes(32), bytes([1] * 32), bytes([2] * 32)


def cosignature(log: str, size: int, cosigner: bytes, time: int) -> StoredCosignature:
    return StoredCosignature(log, size, cosigner, time, f"— cosigner {cosigner.hex()[:8]}{size}{time}\n")


async def keep(store: Store, log: str, size: int, *given: tuple[bytes, int]) -> list[StoredCosignature]:
    """Store a checkpoint and cosignatures of it: cosigner and time."""
    await store.add_checkpoint(log, size, b"note")
    kept = [cosignature(log, size, cosigner, time) for cosigner, time in given]
    for item in kept:
        await store.add_cosignature(item)
    return kept


async def test_the_newest_line_of_each_is_for_bundles_the_first_for_evidence(store: Store) -> None:
    """One row for each answer; of several by one cosigner the newest or the first is read, as asked."""
    first, second, other = await keep(store, "statements", 5, (ONE, 20), (ONE, 30), (OTHER, 25))
    assert await store.newest_cosignatures("statements", 5, [ONE, OTHER]) == [second, other]
    assert await store.first_cosignatures([5], [ONE, OTHER]) == {5: [first, other]}


async def test_only_the_cosigners_asked_for_are_read(store: Store) -> None:
    """A cosigner that the policy does not name any more is not handed out, and an unknown one has nothing."""
    _, other = await keep(store, "registry", 3, (ONE, 1), (OTHER, 2))
    assert await store.newest_cosignatures("registry", 3, [OTHER, STRANGER]) == [other]
    assert await store.newest_cosignatures("registry", 3, []) == []
    assert await store.first_cosignatures([4], [ONE]) == {4: []}


async def test_what_each_cosigned_last(store: Store) -> None:
    """By the size and not by the time, in each log by itself."""
    await keep(store, "statements", 2, (ONE, 90), (OTHER, 10))
    await keep(store, "statements", 7, (ONE, 50), (ONE, 60))
    await keep(store, "registry", 1, (ONE, 70))
    assert await store.latest_cosigned("statements", [ONE, OTHER, STRANGER]) == {ONE: (7, 60), OTHER: (2, 10)}
    assert await store.latest_cosigned("registry", [ONE, OTHER]) == {ONE: (1, 70)}


async def test_sizes_that_were_cosigned(store: Store) -> None:
    """Each size once, from a size on, from either end, and no more than asked for."""
    for size in (2, 4, 6, 8):
        await keep(store, "statements", size, (ONE, size), (OTHER, size))
    await store.add_checkpoint("statements", 9, b"note")
    assert await store.cosigned_sizes(at_least=3, newest_first=False, limit=2) == [4, 6]
    assert await store.cosigned_sizes(at_least=3, newest_first=True, limit=9) == [8, 6, 4]


async def test_the_same_answer_twice_is_kept_once(store: Store) -> None:
    """Two replicas may get the same second from a cosigner."""
    (kept,) = await keep(store, "registry", 1, (ONE, 5))
    await store.add_cosignature(kept)
    assert await store.newest_cosignatures("registry", 1, [ONE]) == [kept]


async def test_a_cosignature_needs_its_checkpoint(store: Store) -> None:
    """A line about nothing that was signed is not stored."""
    with pytest.raises(IntegrityBroken):
        await store.add_cosignature(cosignature("statements", 1, ONE, 1))
    with pytest.raises(IntegrityBroken):
        await store.add_timestamp(1, b"token")


async def test_timestamps(store: Store) -> None:
    """The first token for a size stays, and sizes with one are found from either end."""
    assert (await store.last_timestamped(), await store.first_timestamped(at_least=0)) == (None, None)
    for size in (3, 5):
        await store.add_checkpoint("statements", size, b"note")
        await store.add_timestamp(size, b"token %d" % size)
    await store.add_timestamp(3, b"another")
    assert await store.timestamp(3) == b"token 3"
    assert await store.timestamp(4) is None
    assert await store.first_timestamped(at_least=4) == 5
    assert await store.first_timestamped(at_least=6) is None
    assert await store.last_timestamped() == 5


async def test_the_auditor_can_read_them(store: Store, postgres: EmbeddedPostgres, database_name: str) -> None:
    """Both tables are open to the read-only role."""
    await keep(store, "registry", 1, (ONE, 5))
    with psycopg.connect(postgres.dsn(AUDITOR, database_name)) as auditor:
        assert auditor.execute("SELECT cosigned_at FROM witness.cosignatures").fetchall() == [(5,)]
        assert auditor.execute("SELECT size FROM witness.timestamps").fetchall() == []
