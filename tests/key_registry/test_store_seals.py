"""Seals: claims become leaves once, in one order, and every leaf can be proved."""

from __future__ import annotations

import asyncio

import pytest

from key_registry import merkle
from key_registry.merkle import Coordinates, consistency_proof, inclusion_proof
from key_registry.store import (
    Conflict,
    IntegrityBroken,
    LogHead,
    NewAttestation,
    NewClaim,
    Store,
    StoreError,
    proofs,
)
from tests.key_registry.stored_events import (
    KEY,
    WITNESS,
    attest,
    claim,
    places_of,
    seal,
    signature,
)


async def test_the_empty_log(store: Store) -> None:
    """A new log has no leaves and the root of the empty tree."""
    assert await store.statement_head() == LogHead(0, merkle.EMPTY_ROOT)
    heads = await store.heads()
    assert (heads.registry_size, heads.statement) == (0, LogHead(0, merkle.EMPTY_ROOT))
    assert (await store.compact_range()).root() == merkle.EMPTY_ROOT
    assert await store.leaf_hashes(0, 10) == []


async def test_a_sealed_claim_is_an_attestation(store: Store) -> None:
    """Leaf index and signature are read back with the claim, which no longer counts as unsealed."""
    ids = await claim(store, "a", [3, 4])
    assert (await store.unsealed_count(KEY), await store.signed_count(KEY)) == (2, 0)
    await seal(store, ids)
    (found,) = await store.attestations_at("a", 4)
    assert (found.claim_id, found.leaf_index, found.signature) == (ids[1], 1, signature(ids[1]))
    assert (found.statement, found.witness_id, found.key_id) == (b"a 4", WITNESS, KEY)
    assert (await store.unsealed_count(KEY), await store.signed_count(KEY)) == (0, 2)
    assert await store.unsealed() == []


async def test_counts_are_by_key(store: Store) -> None:
    """Each key has its own number of attestations, and one that never signed has none."""
    other = "cd" * 32
    await seal(store, await claim(store, "a", range(3)))
    await seal(store, await claim(store, "b", range(2), key_id=other), key_id=other)
    assert [await store.signed_count(key) for key in (KEY, other, "ef" * 32)] == [3, 2, 0]


async def test_a_claim_is_sealed_by_one(store: Store) -> None:
    """Of two that want to seal the same claims, the second gets none and sees the first one's head."""
    ids = await claim(store, "a", range(3))
    first_has_taken = asyncio.Event()

    async def take() -> tuple[set[int], int]:
        async with store.sealing() as transaction:
            taken = await transaction.take(ids)
            first_has_taken.set()
            if taken:
                leaves = [bytes(32)] * len(ids)
                edge, tiles = (await transaction.edge()).extended(leaves)
                rows = [NewAttestation(i, claim_id, KEY, b"s", bytes(32)) for i, claim_id in enumerate(ids)]
                await transaction.append(rows, edge.root(), tiles)
            return taken, transaction.head.size

    first = asyncio.create_task(take())
    await first_has_taken.wait()
    assert await asyncio.gather(first, take()) == [(set(ids), 0), (set(), 3)]


async def test_what_is_taken_comes_back_on_an_exception(store: Store) -> None:
    """A seal that is given up leaves its claims to be sealed."""
    ids = await claim(store, "a", [0])

    async def give_up() -> None:
        async with store.sealing() as transaction:
            await transaction.take(ids)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await give_up()
    assert [found.claim_id for found in await store.unsealed()] == ids


@pytest.mark.parametrize(("leaf_index", "refusal"), [(1, Conflict), (3, IntegrityBroken)])
async def test_leaves_that_do_not_continue_the_log_are_refused(
    store: Store, leaf_index: int, refusal: type[StoreError]
) -> None:
    """A leaf index that is taken, or that leaves a gap, is never stored."""
    await attest(store, "a", range(2))
    (claim_id,) = await claim(store, "b", [0])
    leaf = NewAttestation(leaf_index, claim_id, KEY, b"s", bytes(32))

    async def append() -> None:
        async with store.sealing() as transaction:
            await transaction.take([claim_id])
            await transaction.append([leaf], bytes(32), [])

    with pytest.raises(refusal):
        await append()
    assert [found.claim_id for found in await store.unsealed()] == [claim_id]


async def test_the_log_is_the_tree_of_its_leaves(store: Store) -> None:
    """Over several tiles and uneven runs: head, range, leaf hashes and every proof agree with the whole tree."""
    leaves: list[bytes] = []
    for size in (1, 254, 1, 1, 300, 467, 90):
        leaves += await attest(store, "a", range(len(leaves), len(leaves) + size))
        assert await store.statement_head() == LogHead(len(leaves), merkle.root(leaves))
        assert (await store.compact_range()).root() == merkle.root(leaves)
    assert await store.leaf_hashes(0, len(leaves)) == leaves
    assert await store.leaf_hashes(255, 258) == leaves[255:258]
    for size in (len(leaves), 1024, 700, 257, 256, 1):
        root = merkle.root(leaves[:size])
        for index in {0, size // 3, size // 2, size - 1}:
            asked = Coordinates()
            inclusion_proof(index, size, asked)
            proof = inclusion_proof(index, size, await store.nodes(asked.asked))
            merkle.verify_inclusion(leaves[index], index, size, proof, root)
        asked = Coordinates()
        consistency_proof(size, len(leaves), asked)
        proof = consistency_proof(size, len(leaves), await store.nodes(asked.asked))
        merkle.verify_consistency(size, root, len(leaves), merkle.root(leaves), proof)


async def test_the_tile_cache_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proofs all over a log do not fill the memory, and stay right when tiles were dropped."""
    monkeypatch.setattr(proofs, "CACHED_TILES", 2)
    leaves = await attest(store, "a", range(1200))
    for index in (0, 300, 600, 1000, 10, 1199):
        asked = Coordinates()
        inclusion_proof(index, 1200, asked)
        proof = inclusion_proof(index, 1200, await store.nodes(asked.asked))
        merkle.verify_inclusion(leaves[index], index, 1200, proof, merkle.root(leaves))
    assert len(store._tiles._tiles) <= 2


async def test_a_subtree_beyond_the_log_is_refused(store: Store) -> None:
    """A hash that the log does not have is not made up."""
    await attest(store, "a", range(3))
    node = await store.nodes([(1, 1), (0, 2)])
    assert node(0, 2) == (await store.leaf_hashes(2, 3))[0]
    with pytest.raises(IntegrityBroken, match="subtree 1 of level 1"):
        node(1, 1)


async def test_pages_by_sequence_hold_whole_places(store: Store) -> None:
    """A page ends after the last attestation of a place, so the next one starts at the next sequence."""
    await attest(store, "a", range(10, 16))
    async with store.claiming() as transaction:
        stream_id = (await transaction.lock_streams({"a": "witnessed"}))["a"].stream_id
        claims = await transaction.claims_at([(stream_id, 12)])
        assert len(claims) == 1
    await second_witness(store, stream_id, 12)
    page = await store.attestations_between("a", 0, 100, 3)
    assert places_of(page) == [("a", 10), ("a", 11), ("a", 12), ("a", 12)]
    assert [found.leaf_index for found in page] == [0, 1, 2, 6]
    assert places_of(await store.attestations_between("a", 13, 14, 100)) == [("a", 13), ("a", 14)]
    assert await store.attestations_between("unknown", 0, 100, 3) == []


async def second_witness(store: Store, stream_id: int, sequence: int) -> None:
    async with store.claiming() as transaction:
        await transaction.lock_streams({"a": "witnessed"})
        ids = await transaction.insert([], [NewClaim(stream_id, sequence, "WITNESS:second", KEY, b"second")])
    await seal(store, ids)


async def test_unsealed_claims_are_no_attestations(store: Store) -> None:
    """Reading attestations never shows a claim without a signature."""
    await attest(store, "a", [0])
    await claim(store, "a", [1, 2])
    assert places_of(await store.attestations_between("a", 0, 9, 10)) == [("a", 0)]
    assert await store.attestations_at("a", 1) == []
    assert places_of(await store.attestations_from(0, 10)) == [("a", 0)]


async def test_pages_by_leaf_index(store: Store) -> None:
    """The whole log is read in pages, in its order."""
    await attest(store, "a", range(5))
    await attest(store, "b", range(3))
    pages = [await store.attestations_from(first, 3) for first in (0, 3, 6, 9)]
    assert [len(page) for page in pages] == [3, 3, 2, 0]
    indices = [found.leaf_index for page in pages for found in page]
    assert indices == list(range(8))


async def test_checkpoints(store: Store) -> None:
    """The newest checkpoint that is large enough is found; the first one for a size stays."""
    for size, note in ((0, b"empty"), (5, b"five"), (9, b"nine"), (5, b"other")):
        await store.add_checkpoint("statements", size, note)
    await store.add_checkpoint("registry", 50, b"registry")
    assert await store.checkpoint("statements", at_least=3) == (9, b"nine")
    assert await store.checkpoint("statements", at_least=9) == (9, b"nine")
    assert await store.checkpoint("statements", at_least=10) is None
    assert await store.checkpoint("registry", at_least=0) == (50, b"registry")
