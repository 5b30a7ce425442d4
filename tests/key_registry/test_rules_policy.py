"""The policy record, and the statement-log checkpoints inside records: which key and which policy count where."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from key_registry import base64_strict, note
from key_registry.checkpoint import Checkpoint
from key_registry.errors import RecordError
from key_registry.record import RECORD_TYPE, Logs
from tests.key_registry.lived_registry import W1, LivedRegistry
from tests.key_registry.software_registry import (
    START,
    SoftwareCosigner,
    SoftwareKey,
    SoftwareRegistry,
    envelope,
    policy_of,
    witness,
)

X, Y, Z = (SoftwareCosigner(name) for name in "xyz")


@pytest.fixture
def world() -> LivedRegistry:
    return LivedRegistry()


def test_keys_and_policy_change_at_a_position(world: LivedRegistry) -> None:
    """Below the position the old ones count, above it the new ones; at it both keys, and the old policy."""
    first, second, third = world.statements.key, SoftwareKey("second"), SoftwareKey("third")
    none = world.registry.policy
    world.change_policy(policy_of(X), statement_key=second)
    world.attest(world.b, 8)
    world.change_policy(policy_of(Y), statement_key=third)
    registry = world.registry
    by_size = {size: [log.public_key for log in registry.statement_keys(size)] for size in (0, 7, 8, 9, 10)}
    assert by_size == {
        0: [first.public],
        7: [first.public],
        8: [first.public, second.public],
        9: [second.public, third.public],
        10: [third.public],
    }
    policies = [registry.policy_at(size) for size in (0, 8, 9, 10, 2**62)]
    assert [policy.text for policy in policies] == [none.text, none.text, policy_of(X), policy_of(Y), policy_of(Y)]
    assert registry.policy.text == policy_of(Y)
    assert registry.logs.statements.public_key == third.public
    earlier = registry.at_size(registry.size - 1)
    assert [log.public_key for log in earlier.statement_keys(9)] == [second.public]
    assert earlier.policy.text == earlier.policy_at(10).text == policy_of(X)
    assert registry.heads[9] == world.statements.root()
    assert registry.head is not None
    assert registry.head.size == 9


def test_two_changes_at_one_position(world: LivedRegistry) -> None:
    """Every key that was in force there counts; above it only the last, and its policy."""
    keys = [world.statements.key, SoftwareKey("second"), SoftwareKey("third")]
    world.change_policy(policy_of(X), statement_key=keys[1])
    world.change_policy(policy_of(Y), statement_key=keys[2])
    assert [log.public_key for log in world.registry.statement_keys(8)] == [key.public for key in keys]
    assert [log.public_key for log in world.registry.statement_keys(9)] == [keys[2].public]
    assert (world.registry.policy_at(8).text, world.registry.policy_at(9).text) == ("none", policy_of(Y))


def test_a_change_of_policy_alone_keeps_the_keys(world: LivedRegistry) -> None:
    """The same key is not listed twice at the position of the change."""
    world.change_policy(policy_of(X))
    assert len(world.registry.statement_keys(8)) == 1
    assert world.registry.policy.asks_cosigners
    assert not world.registry.policy_at(8).asks_cosigners


def test_a_new_registry_key_counts_at_once(world: LivedRegistry) -> None:
    """The bundle's checkpoint is by the present key."""
    for key in (SoftwareKey("second registry log key"), SoftwareKey("third registry log key")):
        world.change_policy(registry_key=key)
        assert world.registry.logs.registry.public_key == key.public


@pytest.mark.attacks
@pytest.mark.parametrize("which", ["registry_key", "statement_key"])
def test_a_replaced_log_key_never_comes_back(world: LivedRegistry, which: str) -> None:
    """Whoever stole it could make checkpoints of earlier sizes count again."""
    first = {"registry_key": world.registry_log, "statement_key": world.statements}[which].key
    for key in (SoftwareKey(f"second {which}"), first):
        new: dict[str, Any] = {which: key}
        with pytest.raises(RecordError, match="replaced before") if key is first else contextlib.nullcontext():
            world.change_policy(**new)


Change = Callable[[LivedRegistry], dict[str, Any]]


def origins(registry: str, statements: str) -> Change:
    def change(world: LivedRegistry) -> dict[str, Any]:
        logs = world.logs().to_object()
        return {
            "logs": Logs.from_object(
                {
                    "registry": {**logs["registry"], "origin": registry},  # type: ignore[dict-item]
                    "statements": {**logs["statements"], "origin": statements},  # type: ignore[dict-item]
                }
            )
        }

    return change


def at(size: int, root: bytes | None = None) -> Change:
    return lambda world: {"checkpoint": world.statements.checkpoint(size, root)}


def by(key: str) -> Change:
    return lambda world: {"checkpoint": world.statements.checkpoint(key=SoftwareKey(key))}


def text(form: str) -> Change:
    """A note whose text is not that of a checkpoint, signed by the statement log's key under its name."""

    def change(world: LivedRegistry) -> dict[str, Any]:
        log = world.statements
        said = form.format(origin=log.origin, other=world.registry_log.origin, root=base64_strict.encode(log.root()))
        line = note.NoteSignature(
            log.origin, note.key_hash(log.origin, log.key.public.raw), log.key.sign(said.encode())
        )
        return {"checkpoint": note.serialize(said, [line])}

    return change


NO_CHECKPOINTS: list[tuple[str, Change]] = [
    ("of the registry log", lambda world: {"checkpoint": world.registry_log.checkpoint()}),
    ("by a key the record does not name", by("stranger")),
    ("below the last head", at(5)),
    ("of another root at the last head", at(6, bytes(32))),
    ("of the registry log's origin, by the statement log's key", text("{other}\n8\n{root}\n")),
    ("with a size of leading zeros", text("{origin}\n08\n{root}\n")),
    ("with a signed size", text("{origin}\n+8\n{root}\n")),
    ("with a size beyond range", text("{origin}\n9223372036854775808\n{root}\n")),
    ("with an extension line", text("{origin}\n8\n{root}\nextension\n")),
    ("with an empty extension line", text("{origin}\n8\n{root}\n\n")),
    ("with several blank lines", text("{origin}\n8\n{root}\n\n\n\n")),
    ("with a blank line first", text("\n{origin}\n8\n{root}\n")),
    ("without a root", text("{origin}\n8\n")),
    ("with a short root", text("{origin}\n8\nAAAA\n")),
    ("of size 0 with a root", text("{origin}\n0\n{root}\n")),
]


@pytest.mark.attacks
@pytest.mark.parametrize(("name", "change"), NO_CHECKPOINTS, ids=[name for name, _ in NO_CHECKPOINTS])
def test_a_record_embeds_a_checkpoint_of_the_statement_log(world: LivedRegistry, name: str, change: Change) -> None:
    """By its key in force, three lines, going on from the last: in a policy record as in a rotation."""
    for record in (world.policy_record(), world.rotation(W1, closes=world.a)):
        altered = replace(record, **change(world))
        with pytest.raises(RecordError):
            world.registry.append(world.record(altered, *world.quorum))
        world.registry.append(world.record(record, *world.quorum))


def test_a_tree_of_size_0_is_the_empty_one() -> None:
    """A registry may open keys and change its policy before anything is signed."""
    world = SoftwareRegistry()
    world.change_policy(policy_of(X))
    world.new_witness(1)
    assert world.registry.head == Checkpoint(world.statements.origin, 0, world.statements.root())
    assert (world.registry.policy_at(0).text, world.registry.policy_at(1).text) == ("none", policy_of(X))


@pytest.mark.attacks
@pytest.mark.parametrize(
    ("registry", "statements"),
    [
        ("test.example/other", "test.example/statements"),
        ("test.example/registry", "test.example/other"),
        ("test.example/statements", "test.example/registry"),
    ],
)
def test_the_logs_keep_their_origins(world: LivedRegistry, registry: str, statements: str) -> None:
    """A log of another name is another log: nothing proves that it continues this one."""
    record = world.policy_record(**origins(registry, statements)(world))
    with pytest.raises(RecordError, match="origins of old"):
        world.registry.append(world.record(record, *world.quorum))


@pytest.mark.attacks
def test_the_old_log_key_cannot_seal_after_the_change(world: LivedRegistry) -> None:
    """From the policy record on a rotation's checkpoint is by the new key, also at the very position."""
    old = world.statements.key
    unproven = world.policy_record(statement_key=SoftwareKey("second"), checkpoint=world.statements.checkpoint())
    with pytest.raises(RecordError, match="signature by the trusted key"):
        world.registry.append(world.record(unproven, *world.quorum))
    world.change_policy(statement_key=SoftwareKey("second"))
    closing = world.rotation(W1, closes=world.a, checkpoint=world.statements.checkpoint(key=old))
    with pytest.raises(RecordError, match="signature by the trusted key"):
        world.registry.append(world.record(closing, world.a))
    world.rotate(W1, closes=world.a)
    assert world.registry.keys[world.a.key_id].closed == 8


def spoilt(checkpoint: bytes, cosigner: SoftwareCosigner, signature: Callable[[bytes], bytes]) -> bytes:
    opened = note.parse(checkpoint)
    good = cosigner.line(opened.text, START)
    bad = note.NoteSignature(good.name, good.key_hash, signature(good.signature))
    return note.serialize(opened.text, [*opened.signatures, bad])


BAD_COSIGNATURES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("flipped", lambda good: good[:-1] + bytes([good[-1] ^ 1])),
    ("of another time", lambda good: bytes(7) + b"\x01" + good[8:]),
    ("beyond the calendar", lambda good: b"\xff" * 8 + good[8:]),
    ("short", lambda good: good[:-1]),
    ("long", lambda good: good + b"\x00"),
    ("without time", lambda good: good[8:]),
]


@pytest.mark.attacks
@pytest.mark.parametrize(("name", "signature"), BAD_COSIGNATURES, ids=[name for name, _ in BAD_COSIGNATURES])
def test_a_known_cosigner_s_bad_line_spoils_a_record(name: str, signature: Callable[[bytes], bytes]) -> None:
    """Under the policy for that size; the same line by somebody the policy does not know is ignored."""
    world = LivedRegistry()
    world.change_policy(policy_of(X))
    world.attest(world.b, 8)
    for record in (world.rotation(W1, closes=world.a), world.policy_record(policy_of(Y))):
        for cosigner, follows in ((X, False), (Y, True), (Z, True)):
            bad = spoilt(record.checkpoint, cosigner, signature)
            signed = world.record(replace(record, checkpoint=bad), *world.quorum)
            if follows:
                assert world.registry.append(signed).size == world.registry.size + 1
            else:
                with pytest.raises(RecordError, match="cosignature"):
                    world.registry.append(signed)


@pytest.mark.attacks
def test_a_cosigner_s_two_lines_spoil_a_record() -> None:
    """Both good, and still one too many: which time should count?"""
    world = SoftwareRegistry(policy=policy_of(X))
    world.new_witness(1)
    key = world.add_key(SoftwareKey("b"), witness(1))
    twice = X.cosign(world.statements.checkpoint(cosigned_by=[X]), START + 1)
    body = world.rotation(witness(1), opens=key, checkpoint=twice)
    with pytest.raises(RecordError, match="expected one cosignature"):
        world.registry.append(envelope(RECORD_TYPE, body.encode(), key, *world.quorum))


def test_records_tell_when_a_quorum_had_cosigned() -> None:
    """The latest time a whole quorum reached, over all records so far; a minority's clock moves nothing."""
    world = SoftwareRegistry(policy=policy_of(X, Y, Z, threshold=2))
    key = world.new_witness(1)
    assert world.registry.cosigned_before(world.registry.size) is None
    world.attest(key, 0)
    times = [
        ({X: START + 10}, None),
        ({X: START + 20, Y: START + 30}, START + 20),
        ({X: START + 10, Y: START + 11, Z: 2**33}, START + 20),
        ({X: START + 40, Y: START + 50, Z: 2**33}, START + 50),
    ]
    for number, (cosigned_by, expected) in enumerate(times):
        world.change_policy(policy_of(X, Y, Z, threshold=2) + f"# {number}\n", cosigned_by=cosigned_by)
        assert world.registry.cosigned_before(world.registry.size) == expected
        world.attest(key, number + 1)
    sizes = range(1, world.registry.size + 1)
    assert [world.registry.cosigned_before(size) for size in sizes] == [None, None, None] + [it for _, it in times]
    for size in (0, world.registry.size + 1):
        with pytest.raises(ValueError, match="expected a size"):
            world.registry.cosigned_before(size)


def test_the_policy_before_the_position_tells_the_time() -> None:
    """At the position of a change the cosigners of before count, as they do in judging."""
    world = SoftwareRegistry(policy=policy_of(X))
    world.new_witness(1)
    world.change_policy(policy_of(Y), cosigned_by={Y: START + 5})
    assert world.registry.cosigned_before(world.registry.size) is None
    world.change_policy(policy_of(Z), cosigned_by={X: START + 7, Y: START + 6})
    assert world.registry.cosigned_before(world.registry.size) == START + 7


@pytest.mark.attacks
@pytest.mark.parametrize(("who", "closes"), [("", False), ("x", False), ("xy", True), ("xyz", True)])
def test_a_key_closes_by_a_seal_that_a_quorum_has_cosigned(who: str, closes: bool) -> None:
    """Alone or with a successor; the policy in force counts, whatever the size. A key opens without any cosigner."""
    cosigners = {name: SoftwareCosigner(name) for name in "xyz"}
    world = SoftwareRegistry(policy=policy_of(*cosigners.values(), threshold=2))
    key = world.new_witness()
    successor = world.add_key(SoftwareKey("successor"), witness(1))
    for opens in (successor, None):
        seal = world.statements.checkpoint(cosigned_by=[cosigners[name] for name in who])
        body = world.rotation(witness(1), opens=opens, closes=key, checkpoint=seal)
        record = envelope(RECORD_TYPE, body.encode(), *([opens] if opens else []), key)
        if closes:
            assert world.registry.append(record).keys[key.key_id].closed == 0
        else:
            with pytest.raises(RecordError, match="expected the seal to be cosigned by a quorum of the policy, got"):
                world.append(record)
    world.rotate(witness(1), opens=successor, cosigned_by=())
    assert world.registry.keys[successor.key_id].is_open


@pytest.mark.attacks
def test_at_the_position_of_a_policy_its_own_cosigners_seal() -> None:
    """Those of before have gone, and those who vouch for what follows must have seen what is closed."""
    before, after = SoftwareCosigner("before"), SoftwareCosigner("after")
    world = SoftwareRegistry(policy=policy_of(before))
    key = world.new_witness()
    world.change_policy(policy_of(after))
    with pytest.raises(RecordError, match="cosigned by a quorum"):
        world.rotate(witness(1), closes=key, cosigned_by=[before])
    world.rotate(witness(1), closes=key, cosigned_by=[after])
    assert world.registry.keys[key.key_id].closed == 0
