"""Events put into a store the way the sign path does it, with made-up statements and signatures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from key_registry.merkle import leaf_hash
from key_registry.store import NewAttestation, NewClaim, NewPlace, Store, StoredClaim

KEY = "ab" * 32
WITNESS = "WITNESS:00000000-0000-4000-8000-000000000001"


def event_hash(stream: str, sequence: int) -> str:
    """The hash of the event at a place."""
    return "sha256:" + hashlib.sha256(f"{stream} {sequence}".encode()).hexdigest()


def new_place(stream_id: int, stream: str, sequence: int) -> NewPlace:
    """The place of an event that names the event before it."""
    return NewPlace(stream_id, sequence, event_hash(stream, sequence), event_hash(stream, sequence - 1))


def new_claim(stream_id: int, stream: str, sequence: int, *, key_id: str = KEY) -> NewClaim:
    """A claim whose statement tells its place."""
    return NewClaim(stream_id, sequence, WITNESS, key_id, f"{stream} {sequence}".encode())


async def claim(store: Store, stream: str, sequences: Sequence[int], *, key_id: str = KEY) -> list[int]:
    """Claim places of a stream in one transaction and return the claim ids."""
    async with store.claiming() as transaction:
        head = (await transaction.lock_streams({stream: "witnessed"}))[stream]
        return await transaction.insert(
            [new_place(head.stream_id, stream, sequence) for sequence in sequences],
            [new_claim(head.stream_id, stream, sequence, key_id=key_id) for sequence in sequences],
        )


def signature(claim_id: int) -> bytes:
    """What passes for a signature under a claim."""
    return claim_id.to_bytes(64, "big")


async def seal(store: Store, claim_ids: Sequence[int], *, key_id: str = KEY) -> list[bytes]:
    """Seal claims in one transaction and return their leaf hashes."""
    leaves = [leaf_hash(signature(claim_id)) for claim_id in claim_ids]
    async with store.sealing() as transaction:
        assert await transaction.take(claim_ids) == set(claim_ids)
        edge, tiles = (await transaction.edge()).extended(leaves)
        await transaction.append(
            [
                NewAttestation(index, claim_id, key_id, signature(claim_id), leaf)
                for index, (claim_id, leaf) in enumerate(zip(claim_ids, leaves, strict=True), transaction.head.size)
            ],
            edge.root(),
            tiles,
        )
    return leaves


async def attest(store: Store, stream: str, sequences: Sequence[int]) -> list[bytes]:
    """Claim and seal places of a stream and return the leaf hashes."""
    return await seal(store, await claim(store, stream, sequences))


def places_of(claims: Sequence[StoredClaim]) -> list[tuple[str, int]]:
    """The places that stored claims are at."""
    return [(claim.stream, claim.sequence) for claim in claims]
