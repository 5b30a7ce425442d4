"""The registry: which records may follow, who must sign them, and what they say together."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from key_registry import merkle
from key_registry.dsse import Envelope
from key_registry.errors import RecordError
from key_registry.record import RECORD_TYPE, previous_hash
from key_registry.replay import Registry
from key_registry.statement import STATEMENT_TYPE
from tests.key_registry.lived_registry import W1, W2, LivedRegistry
from tests.key_registry.software_registry import (
    SoftwareKey,
    SoftwareRegistry,
    envelope,
    witness,
)


@pytest.fixture(scope="module")
def world() -> LivedRegistry:
    return LivedRegistry()


@dataclass(frozen=True)
class Case:
    """A record that somebody wants to append, and what is wrong with it; None: nothing."""

    name: str
    make: Callable[[LivedRegistry], Envelope]
    wrong: str | None = None


def key_add(*signers: str, key: str = "stranger", of: str = W1, **fields: Any) -> Callable[[LivedRegistry], Envelope]:
    return lambda w: w.record(w.key_add(w.named(key), of, **fields), *[w.named(name) for name in signers])


def rotate(
    *signers: str, opens: str | None = None, closes: str | None = None, of: str = W1, **fields: Any
) -> Callable[[LivedRegistry], Envelope]:
    def make(w: LivedRegistry) -> Envelope:
        keys: dict[str, Any] = {"opens": opens and w.named(opens), "closes": closes and w.named(closes)}
        in_world = {field: value(w) if callable(value) else value for field, value in fields.items()}
        return w.record(w.rotation(of, **keys, **in_world), *[w.named(name) for name in signers])

    return make


def checkpoint(size: int, root: bytes | None = None) -> Callable[[LivedRegistry], bytes]:
    return lambda w: w.statements.checkpoint(size, root)


LEADS = ("lead0", "lead2")

CASES = [
    Case("key-add by quorum and key", key_add("stranger", *LEADS)),
    Case("key-add by all leads and key", key_add("stranger", "lead0", "lead1", "lead2")),
    Case("key-add of a witness nobody knew", key_add("stranger", *LEADS, of=witness(9))),
    Case("key-add without possession", key_add(*LEADS), "proof of possession"),
    Case("key-add by one lead", key_add("stranger", "lead0"), "expected the signatures of 2 leads, got 1"),
    Case("key-add by no lead", key_add("stranger"), "expected the signatures of 2 leads, got 0"),
    Case("key-add with an open key's signature too", key_add("stranger", "a", *LEADS), "by another key"),
    Case("key-add by a log key", key_add("stranger", "registry log", "lead0"), "by another key"),
    Case("key-add of a key that is open", key_add("a", *LEADS, key="a"), "new to the registry"),
    Case("key-add of a key that is closed", key_add("old", *LEADS, key="old"), "new to the registry"),
    Case("key-add to another witness", key_add("a", *LEADS, key="a", of=W2), "new to the registry"),
    Case("key-add of a lead's key", key_add("lead0", "lead1", key="lead0"), "new to the registry"),
    Case(
        "key-add of a log key",
        key_add("statement log", *LEADS, key="statement log"),
        "new to the registry",
    ),
    Case("key-add of another algorithm", key_add("stranger", *LEADS, algorithm="rsa"), "expected algorithm"),
    Case("rotation by both keys", rotate("new", "a", opens="new", closes="a")),
    Case("rotation by new key and quorum", rotate("new", *LEADS, opens="new", closes="a")),
    Case("rotation by everybody", rotate("new", "a", "lead0", "lead1", "lead2", opens="new", closes="a")),
    Case("rotation with one lead more", rotate("new", "a", "lead0", opens="new", closes="a")),
    Case("rotation without the new key", rotate("a", *LEADS, opens="new", closes="a"), "opened key's"),
    Case(
        "rotation by the new key alone",
        rotate("new", opens="new", closes="a"),
        "signatures of 2 leads, got 0",
    ),
    Case("rotation by new key and one lead", rotate("new", "lead1", opens="new", closes="a"), "got 1"),
    Case("rotation by another open key", rotate("new", "b", opens="new", closes="a"), "by another key"),
    Case("rotation by the retired key", rotate("new", "old", opens="new", closes="a"), "by another key"),
    Case("open by an open key", rotate("new", "b", opens="new")),
    Case("open by quorum", rotate("new", *LEADS, opens="new")),
    Case("open by the new key alone", rotate("new", opens="new"), "signatures of 2 leads, got 0"),
    Case("open by an open key alone", rotate("b", opens="new"), "opened key's"),
    Case("open by the retired key", rotate("new", "old", opens="new"), "by another key"),
    Case("open by another witness's key", rotate("new", "other", opens="new"), "by another key"),
    Case("open of a key that is open", rotate("a", "b", opens="a"), "never opened"),
    Case("open of a closed key again", rotate("old", "a", opens="old"), "never opened"),
    Case("open of a key nobody added", rotate("stranger", *LEADS, opens="stranger"), "a key of this witness"),
    Case("open of another witness's key", rotate("spare", *LEADS, opens="spare"), "a key of this witness"),
    Case("close by itself", rotate("a", closes="a")),
    Case("close by quorum", rotate(*LEADS, closes="a")),
    Case("close by another open key", rotate("b", closes="a"), "by another key"),
    Case("close by one lead", rotate("lead0", closes="a"), "got 1"),
    Case("close of a closed key", rotate("old", closes="old"), "open key to close"),
    Case("close of a key never opened", rotate("new", closes="new"), "open key to close"),
    Case("close of another witness's key", rotate("other", closes="other"), "a key of this witness"),
    Case("close of another, open the new", rotate("new", "other", opens="new", closes="other"), "this witness"),
    Case("count of every place", rotate("a", closes="a", count=4)),
    Case("count above the places", rotate("a", closes="a", count=5), "count of at most 4"),
    Case("checkpoint at the last rotation", rotate("a", closes="a", checkpoint=checkpoint(6))),
    Case("checkpoint below the last rotation", rotate("a", closes="a", checkpoint=checkpoint(5)), "at least 6"),
    Case(
        "checkpoint of a forked log",
        rotate("a", closes="a", checkpoint=checkpoint(6, bytes(32))),
        "root of the earlier checkpoint",
    ),
    Case(
        "checkpoint of the registry log",
        rotate("a", closes="a", checkpoint=lambda w: w.registry_log.checkpoint()),
        "signature by the trusted key",
    ),
    Case(
        "checkpoint of another log of the same name",
        rotate("a", closes="a", checkpoint=lambda w: SoftwareRegistry(name="x").statements.checkpoint(0)),
        "signature by the trusted key",
    ),
    Case("seq skipped", rotate("a", closes="a", seq=99), "expected seq"),
    Case("prev of another record", rotate("a", closes="a", prev="00" * 32), "expected prev"),
    Case("another registry", rotate("a", closes="a", registry_id="00" * 32), "expected registry"),
    Case(
        "time before the last record",
        rotate("a", closes="a", created_at="2025-12-31T23:59:59.999999Z"),
        "time not before",
    ),
    Case("time of the last record", rotate("a", closes="a", created_at=lambda w: w.registry.last_time)),
    Case("a second genesis", lambda w: w.registry.envelopes[0], "record that follows"),
    Case("the last record again", lambda w: w.registry.envelopes[-1], "expected seq"),
    Case(
        "signed as a statement",
        lambda w: envelope(STATEMENT_TYPE, w.rotation(W1, closes=w.a).encode(), w.a),
        "payload type",
    ),
    Case(
        "signed as a statement, said to be a record",
        lambda w: Envelope(
            RECORD_TYPE,
            (body := w.rotation(W1, closes=w.a).encode()),
            envelope(STATEMENT_TYPE, body, w.a).signatures,
        ),
        "signature by this key",
    ),
    Case("not JSON", lambda w: envelope(RECORD_TYPE, b"x", w.a), "expected JSON"),
    Case("no signatures", lambda w: w.record(w.rotation(W1, closes=w.a)), "signatures of 2 leads, got 0"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_who_may_append_what(world: LivedRegistry, case: Case) -> None:
    """A record follows only if its chain, keys and signers are right; the registry given stays as it is."""
    before = (world.registry.size, world.registry.root(), dict(world.registry.keys))
    record = case.make(world)
    if case.wrong is None:
        assert world.registry.append(record).size == before[0] + 1
    else:
        with pytest.raises(RecordError, match=case.wrong) as error:
            world.registry.append(record)
        assert str(error.value).startswith(f"record {before[0]}: ")
    assert (world.registry.size, world.registry.root(), dict(world.registry.keys)) == before


def test_the_genesis_is_signed_by_every_lead_and_nobody_else() -> None:
    """One missing lead, one signer more, or a signature over something else, and there is no registry."""
    world = SoftwareRegistry()
    body = world.registry.genesis.encode()
    assert Registry.replay([envelope(RECORD_TYPE, body, *world.leads)], registry_id=world.registry_id).size == 1
    for signers in (world.leads[:2], [*world.leads, SoftwareKey("stranger")], [SoftwareKey("stranger")]):
        with pytest.raises(RecordError, match="record 0"):
            Registry.replay([envelope(RECORD_TYPE, body, *signers)], registry_id=None)
    signatures = envelope(STATEMENT_TYPE, body, *world.leads).signatures
    with pytest.raises(RecordError, match="signature"):
        Registry.replay([Envelope(RECORD_TYPE, body, signatures)], registry_id=None)


def test_a_registry_starts_with_its_genesis(world: LivedRegistry) -> None:
    """No records, another first record, and another genesis than the pinned one are refused."""
    with pytest.raises(RecordError, match="genesis"):
        Registry.replay([], registry_id=None)
    with pytest.raises(RecordError, match="genesis record first"):
        Registry.replay(world.registry.envelopes[1:], registry_id=None)
    with pytest.raises(RecordError, match="expected registry"):
        Registry.replay(world.registry.envelopes, registry_id="00" * 32)


def test_the_envelopes_of_records_can_be_respelt(world: LivedRegistry) -> None:
    """White space, member order and either base64 alphabet: the registry and its root are the same."""
    respelt = []
    for record in world.registry.envelopes:
        said = json.loads(record.to_json())
        for item in (said, *said["signatures"]):
            for name in ("payload", "sig"):
                if name in item:
                    item[name] = item[name].translate(str.maketrans("+/", "-_"))
        said["signatures"].reverse()
        respelt.append(Envelope.from_json(json.dumps(dict(reversed(said.items())), indent=2).encode()))
    again = Registry.replay(respelt, registry_id=world.registry_id)
    assert again.root() == world.registry.root()


@pytest.mark.attacks
def test_records_of_another_registry_do_not_follow(world: LivedRegistry) -> None:
    """The same leads in another registry: nothing they signed there can be shown here, whatever its type."""
    other = LivedRegistry()
    genesis = replace(other.registry.genesis, created_at="2025-01-01T00:00:00.000000Z")
    other.registry = Registry.replay([other.record(genesis, *other.leads)], registry_id=None)
    other.registry = other.registry.append(other.record(other.key_add(other.a, W1), other.a, *other.quorum))
    assert other.registry_id != world.registry_id
    bodies = [
        other.key_add(other.stranger, W1),
        other.compromise_record(other.a, 3),
        other.leads_record(other.leads, 1),
        other.policy_record(),
        other.destroyed_record(other.a),
    ]
    for body in bodies:
        for moved in (body, replace(body, seq=world.registry.size, prev=world.registry.last_hash)):
            with pytest.raises(RecordError, match=r"expected (seq|registry)"):
                world.registry.append(other.record(moved, other.stranger, *other.quorum))


def test_no_record_can_be_left_out_or_exchanged(world: LivedRegistry) -> None:
    """Every record names the one before it: without any one of them the rest does not follow."""
    envelopes = list(world.registry.envelopes)
    for missing in range(len(envelopes) - 1):
        with pytest.raises(RecordError):
            Registry.replay(envelopes[:missing] + envelopes[missing + 1 :], registry_id=None)
        swapped = list(envelopes)
        swapped[missing : missing + 2] = reversed(swapped[missing : missing + 2])
        with pytest.raises(RecordError):
            Registry.replay(swapped, registry_id=None)


@pytest.mark.attacks
def test_a_place_on_a_token_is_used_once(world: LivedRegistry) -> None:
    """A CKA_ID of a registered key, a log's included, names no second key on that token."""
    log = world.registry.logs.registry
    places = [("token 01", world.a.cka_id), ("token 01", world.old.cka_id), (log.token_serial, log.cka_id)]
    for serial, cka_id in places:
        body = world.key_add(world.stranger, W1, token_serial=serial, cka_id=cka_id)
        with pytest.raises(RecordError, match="CKA_ID"):
            world.registry.append(world.record(body, world.stranger, *world.quorum))
    body = world.key_add(world.stranger, W1, token_serial="token 02", cka_id=world.a.cka_id)
    world.registry.append(world.record(body, world.stranger, *world.quorum))


def test_a_key_that_signed_nothing_may_close_where_it_opened() -> None:
    """Opened by mistake and closed at once: a key of no places, with a count of nothing."""
    world = LivedRegistry()
    world.rotate(W1, opens=world.new, closes=world.a)
    world.rotate(W1, closes=world.new)
    key = world.registry.keys[world.new.key_id]
    assert (key.opened, key.closed, key.count) == (8, 8, 0)
    assert not any(key.active(index) for index in range(12))


def test_the_keys_tell_their_history(world: LivedRegistry) -> None:
    """Positions are sizes of the statement log, times are those of the records, in the order of adding."""
    keys, records = world.registry.keys, world.registry.records
    old, a, b, new = (keys[key.key_id] for key in (world.old, world.a, world.b, world.new))
    assert [(key.opened, key.closed, key.count) for key in (old, a, b, new)] == [
        (0, 4, 4),
        (4, None, None),
        (6, None, None),
        (None, None, None),
    ]
    assert (old.added_seq, old.added_at) == (1, records[1].created_at)
    assert (old.opened_seq, old.opened_at) == (2, records[2].created_at)
    assert old.closed_at == a.opened_at == records[4].created_at
    assert [key.active(index) for index in (3, 4) for key in (old, a, new)] == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]
    expected = [world.old, world.a, world.b, world.other, world.new, world.spare]
    assert list(keys) == [key.key_id for key in expected]
    assert len(keys) == 6
    assert "00" * 32 not in keys
    assert world.registry.witnesses == [W1, W2]


def test_the_signing_key_is_the_open_one_that_opened_last(world: LivedRegistry) -> None:
    """Overlapping keys have an order; a closed, an unopened and another witness's key sign nothing."""
    registry = world.registry
    assert [key.key_id for key in registry.open_keys(W1)] == [world.a.key_id, world.b.key_id]
    assert registry.signing_key(W1) == registry.keys[world.b.key_id]
    assert [key.key_id for key in registry.open_keys(W1, at=5)] == [world.a.key_id]
    assert [key.key_id for key in registry.open_keys(W1, at=0)] == [world.old.key_id]
    assert registry.signing_key(witness(3)) is None
    assert registry.open_keys(witness(3)) == []
    assert registry.at_size(1).witnesses == []


def test_streams_are_names_or_prefixes() -> None:
    """A pattern is one stream, or with a star at its end all that start like it; a star inside is itself."""
    world = SoftwareRegistry()
    world.new_witness(1, streams=("orders", "ledger/*", "a*b"))
    key = world.registry.signing_key(W1)
    assert key is not None
    covered = ["orders", "ledger/", "ledger/2026", "a*b"]
    others = ["order", "orders2", "Orders", "ledger", "axb", "*", "ledger*"]
    assert [stream for stream in covered + others if key.covers(stream)] == covered
    assert world.registry.signing_key(W1, stream="ledger/x") == key
    assert world.registry.signing_key(W1, stream="ledger") is None


def test_an_earlier_registry_is_what_it_was(world: LivedRegistry) -> None:
    """At every size the registry is the one that replaying that many records gives."""
    registry = world.registry
    leaves = [merkle.leaf_hash(record.entry()) for record in registry.envelopes]
    for size in range(1, registry.size + 1):
        view = registry.at_size(size)
        fresh = Registry.replay(registry.envelopes[:size], registry_id=registry.registry_id)
        assert dict(view.keys) == dict(fresh.keys)
        assert list(view.keys) == list(fresh.keys)
        assert view.root() == fresh.root() == registry.root_at(size) == merkle.root(leaves[:size])
        assert (view.last_hash, view.head, view.heads) == (fresh.last_hash, fresh.head, fresh.heads)
        assert view.envelopes == fresh.envelopes
        assert all(view.open_keys(it) == fresh.open_keys(it) for it in registry.witnesses)
        assert registry.at_time(view.last_time).size == size
    assert registry.root_at(0) == merkle.EMPTY_ROOT
    for size in (-1, registry.size + 1):
        with pytest.raises(ValueError, match="expected a size"):
            registry.root_at(size)
    for size in (-1, 0, registry.size + 1):
        with pytest.raises(ValueError, match="expected a size"):
            registry.at_size(size)
    with pytest.raises(ValueError, match="expected a size"):
        registry.at_time("2025-12-31T23:59:59.999999Z")


def test_two_futures_of_one_registry_do_not_touch_each_other(world: LivedRegistry) -> None:
    """Appending is to a value: an approved and an abandoned rotation can be tried on the same registry."""
    registry = world.registry
    closing = registry.append(world.record(world.rotation(W1, closes=world.a), world.a))
    opening = registry.append(world.record(world.rotation(W1, opens=world.new), world.new, world.b))
    early = registry.at_size(3)
    assert (closing.size, opening.size, early.size) == (registry.size + 1, registry.size + 1, 3)
    assert closing.keys[world.a.key_id].closed == 8
    assert opening.keys[world.a.key_id].closed is None
    assert opening.keys[world.new.key_id].opened == 8
    assert closing.keys[world.new.key_id].opened is None
    assert len({closing.root(), opening.root(), registry.root()}) == 3
    assert previous_hash(opening.envelopes[-1]) == opening.last_hash
    again = Registry.replay(opening.envelopes, registry_id=registry.registry_id)
    assert (again.root(), dict(again.keys)) == (opening.root(), dict(opening.keys))


def test_a_record_that_could_not_be_published_is_refused() -> None:
    world = SoftwareRegistry(name="published")
    key = SoftwareKey("published witness 1")
    streams = tuple(f"{number:03} {'s' * 251}" for number in range(300))
    body = world.key_add(key, witness(1), streams=streams)
    with pytest.raises(RecordError, match="expected a log entry of at most 65535 bytes, got 7"):
        world.append(envelope(RECORD_TYPE, body.encode(), key, *world.quorum))
    world.add_key(key, witness(1), streams=streams[:200])
