"""Witness selection: everybody computes the same order, nobody can choose it, and nobody is favoured."""

import hashlib
import json
from collections import Counter

import pytest

from key_registry.replay import Registry
from key_registry.selection import rank
from tests.key_registry.software_registry import SoftwareRegistry, event_hash, witness


@pytest.fixture(scope="module")
def world() -> SoftwareRegistry:
    world = SoftwareRegistry()
    for number in range(1, 7):
        world.new_witness(number)
    world.new_witness(7, streams=("ledger*",))
    return world


def by_the_book(registry: Registry, stream: str, sequence: int, previous: str | None) -> list[str]:
    """The order as docs/format.md has it, in other words."""
    orders = []
    for number in range(1, 8):
        if number == 7 and not stream.startswith("ledger"):
            continue
        body = json.dumps(
            {
                "witness_id": witness(number),
                "stream": stream,
                "sequence": str(sequence),
                "registry_size": str(registry.size),
                "registry_root": registry.root().hex(),
                "registry_id": registry.registry_id,
                "previous_event_hash": previous,
            },
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        ).encode()
        kind = b"application/vnd.witness-service.selection.v1+json"
        encoded = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)
        orders.append((hashlib.sha256(encoded).digest(), witness(number)))
    return [witness_id for _, witness_id in sorted(orders)]


@pytest.mark.parametrize("stream", ["orders", "ledger/2026", 'quo"te\\', "\u05d0\u202e"])
@pytest.mark.parametrize("previous", [None, event_hash("orders", 1)])
def test_the_order_is_the_published_one(world: SoftwareRegistry, stream: str, previous: str | None) -> None:
    """A second program that follows the format description finds the same order."""
    ranked = rank(world.registry, stream=stream, sequence=2, previous_event_hash=previous)
    assert ranked == by_the_book(world.registry, stream, 2, previous)


def test_everything_known_before_the_event_changes_the_order(world: SoftwareRegistry) -> None:
    """Another place, another predecessor or another registry head gives another order."""
    orders = {
        tuple(rank(registry, stream=stream, sequence=sequence, previous_event_hash=previous)[:5])
        for registry in (world.registry, world.registry.at_size(world.registry.size - 1))
        for stream in ("orders", "refunds")
        for sequence in (1, 2, 3)
        for previous in (None, event_hash("orders", 1))
    }
    assert len(orders) > 20


def test_only_witnesses_that_can_sign_are_candidates() -> None:
    """A witness without an open key, or whose open keys do not cover the stream, is not chosen."""
    world = SoftwareRegistry()
    assert rank(world.registry, stream="orders", sequence=0, previous_event_hash=None) == []
    key = world.new_witness(1)
    world.new_witness(2, streams=("ledger",))
    assert rank(world.registry, stream="orders", sequence=0, previous_event_hash=None) == [witness(1)]
    world.rotate(witness(1), closes=key)
    assert rank(world.registry, stream="orders", sequence=0, previous_event_hash=None) == []


def test_no_witness_is_favoured(world: SoftwareRegistry) -> None:
    """Over many places each of six witnesses is first about as often, give or take five sigma."""
    first = Counter(
        rank(world.registry, stream="orders", sequence=number, previous_event_hash=None)[0] for number in range(3600)
    )
    assert len(first) == 6
    assert all(abs(count - 600) < 112 for count in first.values())
