"""Compromise and destruction: what they do to a key, and what a key then can no longer do."""

import pytest

from key_registry.errors import RecordError
from tests.key_registry.lived_registry import W1, W2, LivedRegistry
from tests.key_registry.software_registry import SoftwareKey


@pytest.fixture
def world() -> LivedRegistry:
    return LivedRegistry()


def test_a_compromise_distrusts_from_its_cut_on(world: LivedRegistry) -> None:
    """Positions stay as they were; trust ends at the cut, and the record's words are kept."""
    before = world.registry.keys[world.a.key_id]
    assert (before.is_compromised, before.trusts(10**9), before.may_sign) == (False, True, True)
    world.compromise(world.a, 5, suspected_since=world.time(0), reason="found on a USB stick")
    key = world.registry.keys[world.a.key_id]
    assert [key.trusts(index) for index in (0, 4, 5, 6)] == [True, True, False, False]
    assert [key.active(index) for index in (3, 4, 5, 6)] == [before.active(index) for index in (3, 4, 5, 6)]
    assert (key.is_open, key.may_sign, key.closed, key.is_compromised) == (True, False, None, True)
    assert (key.trusted_size, key.compromised_at) == (5, world.registry.last_time)
    assert (key.suspected_since, key.compromise_reason) == (world.time(0), "found on a USB stick")
    assert world.registry.at_size(world.registry.size - 1).keys[world.a.key_id] == before


@pytest.mark.attacks
def test_a_cut_can_only_be_lowered(world: LivedRegistry) -> None:
    """The smallest cut wins and nothing raises, repeats or undoes it; zero is the end."""
    world.compromise(world.a, 6, reason="first")
    for cut in (6, 7, 2**63 - 1):
        with pytest.raises(RecordError, match="cut below the earlier one at 6"):
            world.compromise(world.a, cut)
    world.compromise(world.a, 0, reason="second")
    key = world.registry.keys[world.a.key_id]
    assert (key.trusted_size, key.compromise_reason) == (0, "second")
    assert not key.trusts(0)
    with pytest.raises(RecordError, match="cut below the earlier one at 0, got 0"):
        world.compromise(world.a, 0)


@pytest.mark.parametrize("name", ["old", "a", "new"])
def test_a_key_can_be_compromised_in_any_state(world: LivedRegistry, name: str) -> None:
    """Closed, open, not yet opened: whenever it becomes known."""
    world.compromise(world.named(name), 1)
    assert world.registry.keys[world.named(name).key_id].trusted_size == 1


@pytest.mark.parametrize("of", [W2, "WITNESS:00000000-0000-4000-8000-00000000ffff"])
def test_a_compromise_names_the_key_of_its_witness(world: LivedRegistry, of: str) -> None:
    """Under another witness, and for a key nobody added, it is refused; so is a destruction."""
    with pytest.raises(RecordError, match="a key of this witness"):
        world.compromise(world.a, 1, witness_id=of)
    for key in (world.stranger, world.leads[0], world.statements.key):
        for record in (
            world.compromise_record(world.a, 1, key_id=key.key_id),
            world.destroyed_record(world.old, key_id=key.key_id),
        ):
            with pytest.raises(RecordError, match="a key of this witness"):
                world.registry.append(world.record(record, *world.quorum))
    with pytest.raises(RecordError, match="a key of this witness"):
        world.registry.append(world.record(world.destroyed_record(world.old, witness_id=of), *world.quorum))


@pytest.mark.attacks
def test_a_compromised_key_is_never_chosen_and_never_opens(world: LivedRegistry) -> None:
    """The next key down signs; one compromised before it opened stays shut, whoever signs."""
    assert world.registry.signing_key(W1) == world.registry.keys[world.b.key_id]
    world.compromise(world.b, 6)
    assert world.registry.signing_key(W1) == world.registry.keys[world.a.key_id]
    world.compromise(world.a, 4)
    assert world.registry.signing_key(W1) is None
    assert [key.key_id for key in world.registry.open_keys(W1)] == [world.a.key_id, world.b.key_id]
    world.compromise(world.new, 0)
    for closes in (None, world.a):
        with pytest.raises(RecordError, match="neither compromised nor destroyed"):
            world.rotate(W1, opens=world.new, closes=closes)


def test_a_compromised_key_closes_by_quorum(world: LivedRegistry) -> None:
    """Its own signature is refused even beside the leads'; closed it keeps its cut, which can still be lowered."""
    world.compromise(world.a, 5)
    body = world.rotation(W1, closes=world.a)
    with pytest.raises(RecordError, match="by another key"):
        world.registry.append(world.record(body, world.a, *world.quorum))
    world.registry = world.registry.append(world.record(body, *world.quorum))
    world.compromise(world.a, 4)
    key = world.registry.keys[world.a.key_id]
    assert (key.opened, key.closed, key.count, key.trusted_size) == (4, 8, 2, 4)


@pytest.mark.parametrize("name", ["old", "new"])
def test_a_key_that_is_not_open_can_be_destroyed_once(world: LivedRegistry, name: str) -> None:
    """Closed or never opened; what it signed keeps its meaning, and a compromise can still come out."""
    key = world.named(name)
    before = world.registry.keys[key.key_id]
    world.destroy(key)
    destroyed = world.registry.keys[key.key_id]
    assert destroyed.is_destroyed
    assert destroyed.destroyed_at == world.registry.last_time
    assert (destroyed.opened, destroyed.closed) == (before.opened, before.closed)
    with pytest.raises(RecordError, match="not destroyed yet"):
        world.destroy(key)
    world.compromise(key, 0)
    assert world.registry.keys[key.key_id].destroyed_at == destroyed.destroyed_at


@pytest.mark.attacks
def test_an_open_key_is_not_destroyed_and_a_destroyed_one_never_opens(world: LivedRegistry) -> None:
    """Otherwise a witness would be left with a key that is valid and that nobody has, or somebody has after all."""
    with pytest.raises(RecordError, match="got an open one"):
        world.destroy(world.a)
    world.compromise(world.a, 5)
    with pytest.raises(RecordError, match="got an open one"):
        world.destroy(world.a)
    world.destroy(world.new)
    with pytest.raises(RecordError, match="neither compromised nor destroyed"):
        world.rotate(W1, opens=world.new)


def test_why_a_key_was_added_is_kept() -> None:
    """The reason of a key-add is the leads' words, for people."""
    world = LivedRegistry()
    key = world.add_key(SoftwareKey("drilled"), W1, reason="drill")
    assert world.registry.keys[key.key_id].reason == "drill"
