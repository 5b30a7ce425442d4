"""Judging: what is genuine is VALID at its place and nowhere else, and every attack ends in its code."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from key_registry import note, trusted_registry
from key_registry.bundle import Bundle
from key_registry.checkpoint import Checkpoint, verify_checkpoint
from key_registry.coverage import COVERAGE_TYPE
from key_registry.dsse import Envelope, Signature
from key_registry.evidence import Evidence
from key_registry.judge import TrustedRegistry, judge, open_bundle
from key_registry.public_key import PublicKey
from key_registry.record import RECORD_TYPE
from key_registry.statement import STATEMENT_TYPE, Statement
from key_registry.tlog_proof import TlogProof
from key_registry.verdict import Code, Outcome, Verdict
from tests.key_registry.software_registry import (
    ED448_SPKI,
    P256_ORDER,
    RotatedRegistry,
    SoftwareKey,
    SoftwareRegistry,
    envelope,
    event_hash,
    witness,
)

PRODUCTION = frozenset({"production"})
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
W1, W2 = witness(1), witness(2)


@pytest.fixture
def world() -> RotatedRegistry:
    return RotatedRegistry()


@pytest.fixture(scope="module")
def trusted() -> TrustedRegistry:
    """The bundle of a world, opened; for tests that only read."""
    return RotatedRegistry().open()


def test_what_is_genuine_is_valid(world: RotatedRegistry) -> None:
    """Every statement is VALID for its event: by the key that is valid, and by the one that has been rotated away."""
    opened = world.open()
    for number in range(17):
        stream = "orders" if number < 15 else "ledger"
        evidence, expected = world.genuine(number), event_hash(stream, number)
        verdict = judge(opened, evidence, event_hash=expected, environments=PRODUCTION)
        assert verdict.code is (Code.VALID_KEY_ROTATED if number < 10 else Code.VALID_KEY_ACTIVE)
        assert verdict.outcome is Outcome.VALID
        assert verdict.leaf_index == number
        assert verdict.event_compared
        assert verdict == judge(opened, evidence, event_hash=event_hash, environments=PRODUCTION)


def test_a_proof_for_an_earlier_size_serves_as_well(world: RotatedRegistry) -> None:
    """Evidence taken years ago stays VALID by today's bundle, and by the bundle of its own day."""
    index, signed = world.attested[3]
    evidence = world.evidence(index, signed, size=7)
    assert world.judge(evidence).code is Code.VALID_KEY_ROTATED
    assert world.judge(evidence, bundle=world.old_bundle).code is Code.VALID_KEY_ACTIVE


@dataclass(frozen=True)
class Attack:
    """Something an adversary would try, and the code it ends in.

    `make` returns the evidence, or the bundle (with genuine evidence), or both.
    """

    name: str
    make: Callable[[RotatedRegistry], bytes | Bundle | tuple[bytes, Bundle]]
    code: Code
    expected: str | None = None


def forged(world: RotatedRegistry, key: SoftwareKey | None = None, **fields: Any) -> Envelope:
    """Return a statement about another event, signed by the stolen retired key unless another is given."""
    return world.sign(key or world.a, 99, **fields)


def resigned(world: RotatedRegistry, body: bytes, payload_type: str = STATEMENT_TYPE) -> bytes:
    """Return logged evidence of any body under any type, signed by the valid key itself."""
    return world.logged(envelope(payload_type, body, world.b))


def signature_of(signed: Envelope, change: Callable[[bytes], bytes]) -> Envelope:
    (signature,) = signed.signatures
    changed = Signature(signature.key_id, change(signature.signature))
    return replace(signed, signatures=(changed,))


def plus_order(signature: bytes) -> bytes:
    s = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    return signature[:32] + s.to_bytes(32, "little")


def minus_s(signature: bytes) -> bytes:
    s = P256_ORDER - int.from_bytes(signature[32:], "big")
    return signature[:32] + s.to_bytes(32, "big")


def shortened(world: RotatedRegistry) -> Bundle:
    """The bundle without the rotation and what follows, under the newest checkpoint and coverage."""
    return replace(world.bundle(), records=world.registry.envelopes[:3])


def covered(world: SoftwareRegistry, *signers: SoftwareKey, payload_type: str = COVERAGE_TYPE, **fields: Any) -> Bundle:
    """The bundle with a coverage that says something else, or is signed by somebody else."""
    body = world.coverage(**fields).encode()
    return replace(world.bundle(), coverage=envelope(payload_type, body, *(signers or [world.registry_log.key])))


def with_record(world: RotatedRegistry, body: bytes, *signers: SoftwareKey) -> Bundle:
    """The bundle with one record more, put into the registry log by whoever holds its key."""
    record = envelope(RECORD_TYPE, body, *signers)
    world.registry_log.append(record.entry())
    size, root = world.registry_log.size, world.registry_log.root().hex()
    bundle = covered(world, registry_size=size, registry_root=root)
    return replace(bundle, records=(*bundle.records, record), checkpoint=world.registry_log.checkpoint())


def swapped_key(world: RotatedRegistry) -> Bundle:
    """The bundle with the attacker's public key in the key-add record of `b`."""
    thief = SoftwareKey("thief")
    records = list(world.bundle().records)
    said = json.loads(records[3].body)
    said.update(key_id=thief.key_id, public_key=base64.b64encode(thief.public.spki).decode())
    body = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    records[3] = Envelope(records[3].payload_type, body, records[3].signatures)
    return replace(world.bundle(), records=tuple(records))


def forked(world: RotatedRegistry, size: int) -> bytes:
    """Evidence in a second history of the statement log that its key signed for the same size."""
    fork = SoftwareRegistry(name=world.name).statements
    signed = forged(world, world.b if size > 10 else world.a)
    for number in range(size):
        fork.append(signed.entry() if number == size - 1 else b"%d" % number)
    proof = TlogProof(size - 1, fork.proof(size - 1), fork.checkpoint(), None)
    return Evidence(signed, proof).to_bytes()


def unknown_algorithm(world: RotatedRegistry, *signers: SoftwareKey) -> Bundle:
    body = world.key_add(SoftwareKey("x"), W1, public_key=ED448_SPKI, algorithm="ed448")
    return with_record(world, body.encode(), *signers)


def other_genesis(world: RotatedRegistry) -> Bundle:
    return RotatedRegistry(name="attacker").bundle()


def two_signatures(world: RotatedRegistry) -> bytes:
    body = world.statement(world.b, 99).encode()
    return world.logged(envelope(STATEMENT_TYPE, body, world.b, world.a))


ATTACKS = [
    # A stolen retired key.
    Attack("retired key, logged late", lambda w: w.logged(forged(w)), Code.KEY_NOT_ACTIVE),
    Attack("retired key, never logged", lambda w: forged(w).to_json(), Code.NOT_LOGGED),
    Attack("retired key, backdated and never logged", lambda w: backdated(w).to_json(), Code.NOT_LOGGED),
    Attack("retired key, backdated, logged late", lambda w: w.logged(backdated(w)), Code.KEY_NOT_ACTIVE),
    Attack("retired key, borrowed proof", lambda w: w.proven(backdated(w), 3), Code.LOG_PROOF_INVALID),
    Attack(
        "retired key, logged late, judged by a shortened registry",
        lambda w: (w.logged(backdated(w)), shortened(w)),
        Code.REGISTRY_INVALID,
    ),
    Attack(
        "retired key, logged late, judged by a bundle of its time",
        lambda w: (w.logged(backdated(w)), w.old_bundle),
        Code.BUNDLE_TOO_OLD,
    ),
    Attack(
        "retired key, logged late, bundle of its time with a newer coverage",
        lambda w: (w.logged(backdated(w)), replace(w.old_bundle, coverage=w.bundle().coverage)),
        Code.REGISTRY_INVALID,
    ),
    Attack(
        "retired key, in a log of its own",
        lambda w: own_log(w),
        Code.LOG_PROOF_INVALID,
    ),
    # Keys that may not.
    Attack("key before it was opened", lambda w: misplaced(w), Code.KEY_NOT_ACTIVE),
    Attack("key never opened", lambda w: w.logged(forged(w, w.never)), Code.KEY_NOT_ACTIVE),
    Attack("key nobody registered", lambda w: w.logged(forged(w, SoftwareKey("thief"))), Code.UNKNOWN_KEY),
    Attack("lead key", lambda w: w.logged(forged(w, w.leads[0])), Code.UNKNOWN_KEY),
    Attack("log key", lambda w: w.logged(forged(w, w.statements.key)), Code.UNKNOWN_KEY),
    Attack("another witness's name", lambda w: w.logged(forged(w, w.b, witness_id=W2)), Code.KEY_SCOPE),
    Attack("a stream it was not given", lambda w: w.logged(forged(w, w.ledger)), Code.KEY_SCOPE),
    Attack(
        "thief's signature under the valid key's name",
        lambda w: w.logged(impersonated(w, SoftwareKey("thief"))),
        Code.BAD_SIGNATURE,
    ),
    Attack("a good signature under another key's name", lambda w: w.logged(mislabelled(w)), Code.BAD_SIGNATURE),
    Attack(
        "signature by another key of the witness",
        lambda w: w.logged(envelope(STATEMENT_TYPE, w.statement(w.b, 99).encode(), w.a)),
        Code.BAD_SIGNATURE,
    ),
    # The signature.
    Attack(
        "signature over the bare body",
        lambda w: w.logged(unwrapped(w, lambda body: body)),
        Code.BAD_SIGNATURE,
    ),
    Attack(
        "signature over the event hash",
        lambda w: w.logged(unwrapped(w, lambda _: event_hash("orders", 99).encode())),
        Code.BAD_SIGNATURE,
    ),
    Attack(
        "signature cut short",
        lambda w: w.logged(signature_of(forged(w, w.b), lambda s: s[:63])),
        Code.BAD_SIGNATURE,
    ),
    Attack(
        "signature of zeros",
        lambda w: w.logged(signature_of(forged(w, w.b), lambda _: bytes(64))),
        Code.BAD_SIGNATURE,
    ),
    Attack(
        "Ed25519 signature with another S",
        lambda w: w.proven(signature_of(w.attested[12][1], plus_order)),
        Code.BAD_SIGNATURE,
    ),
    Attack(
        "ECDSA signature with another s that verifies",
        lambda w: w.proven(signature_of(w.attested[15][1], minus_s), 15),
        Code.LOG_PROOF_INVALID,
    ),
    Attack("a second signature", two_signatures, Code.BAD_FORMAT),
    Attack("no signature", lambda w: without_signatures(w.genuine(12)), Code.BAD_FORMAT),
    # One signed thing read as another.
    Attack("statement under a record's type", lambda w: retyped(w, RECORD_TYPE), Code.BAD_FORMAT),
    Attack("statement under a coverage's type", lambda w: retyped(w, COVERAGE_TYPE), Code.BAD_FORMAT),
    Attack("statement under no known type", lambda w: retyped(w, "application/json"), Code.BAD_FORMAT),
    Attack(
        "statement signed under another type, presented as one",
        lambda w: w.logged(replace(signed_as(w, RECORD_TYPE), payload_type=STATEMENT_TYPE)),
        Code.BAD_SIGNATURE,
    ),
    Attack("record as evidence", lambda w: w.registry.envelopes[4].to_json(), Code.BAD_FORMAT),
    Attack("coverage as evidence", lambda w: w.bundle().coverage.to_json(), Code.BAD_FORMAT),
    Attack("coverage body as a statement", lambda w: resigned(w, w.coverage().encode()), Code.BAD_FORMAT),
    Attack("bundle as evidence", lambda w: w.bundle().to_json(), Code.BAD_FORMAT),
    # The statement's bytes.
    Attack("respelt statement", lambda w: resigned(w, respelt(w)), Code.BAD_FORMAT),
    Attack("a member twice", lambda w: resigned(w, b'{"round":"1",' + body_of(w)[1:]), Code.BAD_FORMAT),
    Attack("a member more", lambda w: resigned(w, b'{"a":"b",' + body_of(w)[1:]), Code.BAD_FORMAT),
    # The event and its place.
    Attack("another event", lambda w: w.genuine(12), Code.EVENT_MISMATCH, event_hash("orders", 13)),
    Attack(
        "the same hash by another function",
        lambda w: w.genuine(12),
        Code.EVENT_MISMATCH,
        event_hash("orders", 12).replace("sha256", "blake3"),
    ),
    Attack("another registry's statement", lambda w: RotatedRegistry(name="other").genuine(3), Code.WRONG_REGISTRY),
    Attack(
        "development said to be production",
        lambda w: w.logged(forged(w, w.b, environment="development")),
        Code.WRONG_ENVIRONMENT,
    ),
    # The registry the signer believed in.
    Attack(
        "another registry root",
        lambda w: w.logged(forged(w, w.b, registry_root="00" * 32)),
        Code.REGISTRY_MISMATCH,
    ),
    Attack("a root of another size", lambda w: w.logged(forged(w, w.b, registry_size=4)), Code.REGISTRY_MISMATCH),
    Attack(
        "the empty registry",
        lambda w: w.logged(forged(w, w.b, registry_size=0, registry_root=w.registry.root_at(0).hex())),
        Code.REGISTRY_MISMATCH,
    ),
    Attack("a registry yet to come", lambda w: w.logged(forged(w, w.b, registry_size=99)), Code.BUNDLE_TOO_OLD),
    # The proof.
    Attack("proof of a neighbour", lambda w: w.proven(w.attested[12][1], 13), Code.LOG_PROOF_INVALID),
    Attack("another index", lambda w: w.proven(w.attested[12][1], index=13), Code.LOG_PROOF_INVALID),
    Attack("index beyond the log", lambda w: w.proven(w.attested[12][1], index=2**63 - 1), Code.LOG_PROOF_INVALID),
    Attack("proof without hashes", lambda w: w.proven(w.attested[12][1], hashes=()), Code.LOG_PROOF_INVALID),
    Attack(
        "proof with 63 hashes",
        lambda w: w.proven(w.attested[12][1], hashes=(bytes(32),) * 63),
        Code.LOG_PROOF_INVALID,
    ),
    Attack(
        "checkpoint of the registry log",
        lambda w: w.proven(w.attested[12][1], checkpoint=w.registry_log.checkpoint()),
        Code.LOG_PROOF_INVALID,
    ),
    Attack(
        "checkpoint with another root, signature kept",
        lambda w: w.proven(w.attested[12][1], checkpoint=w.statements.checkpoint().replace(b"\n17\n", b"\n18\n")),
        Code.LOG_PROOF_INVALID,
    ),
    Attack(
        "checkpoint that is no note",
        lambda w: w.proven(w.attested[12][1], checkpoint=b"test.example/statements\n17\n"),
        Code.LOG_PROOF_INVALID,
    ),
    Attack("a log forked at the covered size", lambda w: forked(w, 17), Code.LOG_FORK),
    Attack("a log forked at a rotation", lambda w: forked(w, 10), Code.LOG_FORK),
    # The bundle.
    Attack("a registry of the attacker's", other_genesis, Code.WRONG_REGISTRY),
    Attack("rotation left out", shortened, Code.REGISTRY_INVALID),
    Attack(
        "last record left out",
        lambda w: replace(w.bundle(), records=w.registry.envelopes[:-1]),
        Code.REGISTRY_INVALID,
    ),
    Attack("last record twice", lambda w: twice(w), Code.REGISTRY_INVALID),
    Attack("a public key exchanged", swapped_key, Code.REGISTRY_INVALID),
    Attack(
        "checkpoint of an earlier registry",
        lambda w: replace(w.bundle(), checkpoint=w.registry_log.checkpoint(5)),
        Code.REGISTRY_INVALID,
    ),
    Attack(
        "checkpoint with another root",
        lambda w: replace(w.bundle(), checkpoint=w.registry_log.checkpoint(None, bytes(32))),
        Code.REGISTRY_INVALID,
    ),
    Attack(
        "checkpoint of the statement log",
        lambda w: replace(w.bundle(), checkpoint=w.statements.checkpoint()),
        Code.REGISTRY_INVALID,
    ),
    Attack("coverage by a witness", lambda w: covered(w, w.b), Code.REGISTRY_INVALID),
    Attack("coverage by the statement log", lambda w: covered(w, w.statements.key), Code.REGISTRY_INVALID),
    Attack("coverage by two", lambda w: covered(w, w.registry_log.key, w.b), Code.REGISTRY_INVALID),
    Attack("coverage of another type", lambda w: covered(w, payload_type=RECORD_TYPE), Code.REGISTRY_INVALID),
    Attack("coverage of another registry", lambda w: covered(w, registry_id="00" * 32), Code.REGISTRY_INVALID),
    Attack(
        "coverage of fewer records",
        lambda w: replace(w.bundle(), coverage=w.old_bundle.coverage),
        Code.REGISTRY_INVALID,
    ),
    Attack("coverage of another root", lambda w: covered(w, registry_root="00" * 32), Code.REGISTRY_INVALID),
    Attack("coverage below the last rotation", lambda w: covered(w, statement_size=14), Code.REGISTRY_INVALID),
    Attack(
        "coverage that forks at the last rotation",
        lambda w: covered(w, statement_size=15),
        Code.REGISTRY_INVALID,
    ),
    Attack(
        "coverage body that is none",
        lambda w: replace(w.bundle(), coverage=envelope(COVERAGE_TYPE, b"{}", w.registry_log.key)),
        Code.REGISTRY_INVALID,
    ),
    Attack(
        "a record of an unknown type",
        lambda w: with_record(w, b'{"type":"compromise"}', *w.quorum),
        Code.REGISTRY_INVALID,
    ),
    Attack(
        "a record by one lead",
        lambda w: with_record(w, w.rotation(W1, closes=w.b).encode(), w.leads[0]),
        Code.REGISTRY_INVALID,
    ),
    Attack("an algorithm nobody approved", lambda w: unknown_algorithm(w, w.leads[0]), Code.REGISTRY_INVALID),
    Attack(
        "an algorithm the quorum approved",
        lambda w: unknown_algorithm(w, *w.quorum),
        Code.UNSUPPORTED_ALGORITHM,
    ),
    # Clocks.
    Attack(
        "signed before its key existed",
        lambda w: w.logged(forged(w, w.b, signed_at="2025-12-31T23:54:00.000000Z")),
        Code.TIME_INCONSISTENT,
    ),
    Attack(
        "signed after the bundle",
        lambda w: w.logged(forged(w, w.b, signed_at="2026-01-01T00:30:00.000000Z")),
        Code.TIME_INCONSISTENT,
    ),
]


def backdated(world: RotatedRegistry) -> Envelope:
    """What a thief would sign: everything as it was when the key was valid."""
    root = world.registry.root_at(3).hex()
    return forged(world, world.a, registry_size=3, registry_root=root, signed_at=world.time(9))


def own_log(world: RotatedRegistry) -> bytes:
    other = SoftwareRegistry(name="thief").statements
    other.origin = world.statements.origin
    signed = backdated(world)
    other.append(signed.entry())
    return Evidence(signed, TlogProof(0, (), other.checkpoint(), None)).to_bytes()


def misplaced(world: RotatedRegistry) -> bytes:
    """A statement by a key that opens only later: the log took what it should have refused."""
    key = world.add_key(SoftwareKey("late"), W1)
    signed = world.sign(key, 99)
    evidence = world.logged(signed)
    world.rotate(W1, opens=key)
    return evidence


def impersonated(world: RotatedRegistry, thief: SoftwareKey) -> Envelope:
    signed = envelope(STATEMENT_TYPE, world.statement(world.b, 99).encode(), thief)
    return replace(signed, signatures=(Signature(world.b.key_id, signed.signatures[0].signature),))


def mislabelled(world: RotatedRegistry) -> Envelope:
    signed = forged(world, world.b)
    return replace(signed, signatures=(Signature(world.a.key_id, signed.signatures[0].signature),))


def unwrapped(world: RotatedRegistry, message: Callable[[bytes], bytes]) -> Envelope:
    """The valid key's signature over something that is not the pre-authentication encoding."""
    body = world.statement(world.b, 99).encode()
    return Envelope(STATEMENT_TYPE, body, (Signature(world.b.key_id, world.b.sign(message(body))),))


def without_signatures(evidence: bytes) -> bytes:
    said = json.loads(Evidence.read(evidence).envelope.to_json())
    return json.dumps({**said, "signatures": []}).encode()


def signed_as(world: RotatedRegistry, payload_type: str) -> Envelope:
    return envelope(payload_type, world.statement(world.b, 99).encode(), world.b)


def retyped(world: RotatedRegistry, payload_type: str) -> bytes:
    return world.logged(signed_as(world, payload_type))


def body_of(world: RotatedRegistry) -> bytes:
    return world.statement(world.b, 99).encode()


def respelt(world: RotatedRegistry) -> bytes:
    return json.dumps(json.loads(body_of(world))).encode()


def twice(world: RotatedRegistry) -> Bundle:
    bundle = world.bundle()
    return replace(bundle, records=(*bundle.records, bundle.records[-1]))


@pytest.mark.attacks
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"case_48_{attack.name}")
def test_an_attack_ends_in_its_code(world: RotatedRegistry, attack: Attack) -> None:
    """No attack comes out VALID, and each is called what it is, so that the auditor knows whom to ask."""
    made = attack.make(world)
    if isinstance(made, bytes):
        verdict = world.judge(made, expected=attack.expected)
    elif isinstance(made, Bundle):
        verdict = world.judge(world.genuine(12), bundle=made)
    else:
        verdict = world.judge(made[0], bundle=made[1])
    assert verdict.code is attack.code, verdict.reason
    assert verdict.outcome is not Outcome.VALID
    assert verdict.reason.isprintable()
    assert verdict.reason


def test_a_code_is_final_in_the_published_order(world: RotatedRegistry) -> None:
    """Each piece of evidence has all the defects of the ones before it and one more, which is found first."""
    fields: dict[str, Any] = {"signed_at": "2027-01-01T00:00:00.000000Z"}
    timely = world.logged(world.sign(world.b, 99, **fields))
    trusted = world.open()
    late = world.logged(world.sign(world.b, 99, **fields))
    retired = world.sign(world.a, 99, **fields)
    steps = [
        (Code.TIME_INCONSISTENT, timely),
        (Code.BUNDLE_TOO_OLD, late),
        (Code.KEY_NOT_ACTIVE, world.logged(retired)),
        (Code.LOG_PROOF_INVALID, world.proven(retired)),
        (Code.NOT_LOGGED, retired.to_json()),
    ]
    body = retired.body
    for code, more in (
        (Code.BAD_SIGNATURE, {}),
        (Code.KEY_SCOPE, {"witness_id": W2}),
        (Code.UNKNOWN_KEY, {"key_id": "00" * 32}),
        (Code.REGISTRY_MISMATCH, {"registry_root": "00" * 32}),
        (Code.BUNDLE_TOO_OLD, {"registry_size": 99}),
        (Code.WRONG_ENVIRONMENT, {"environment": "development"}),
        (Code.WRONG_REGISTRY, {"registry_id": "00" * 32}),
    ):
        fields |= more
        body = world.statement(world.a, 99, **fields).encode()
        steps.append((code, Envelope(STATEMENT_TYPE, body, (Signature("00" * 32, bytes(64)),)).to_json()))
    found = [judge(trusted, it, event_hash=None, environments=PRODUCTION).code for _, it in steps]
    assert found == [code for code, _ in steps]

    other = event_hash("orders", 98)
    verdict = judge(trusted, steps[-1][1], event_hash=other, environments=PRODUCTION)
    assert verdict.code is Code.EVENT_MISMATCH
    unread = Envelope(RECORD_TYPE, body, (Signature("00" * 32, bytes(64)),)).to_json()
    assert judge(trusted, unread, event_hash=other, environments=PRODUCTION).code is Code.BAD_FORMAT


@dataclass(frozen=True)
class Rotation:
    """When keys open and close, as sizes of the log; `spans` is what must come out, by key."""

    name: str
    steps: list[tuple[int, str | None, str | None]]
    spans: dict[str, tuple[int, int]]


ROTATIONS = [
    Rotation("atomic", [(0, "a", None), (4, "b", "a")], {"a": (0, 4), "b": (4, 8)}),
    Rotation("overlap", [(0, "a", None), (2, "b", None), (6, None, "a")], {"a": (0, 6), "b": (2, 8)}),
    Rotation("gap", [(0, "a", None), (2, None, "a"), (6, "b", None)], {"a": (0, 2), "b": (6, 8)}),
    Rotation("opened late", [(3, "a", None)], {"a": (3, 8), "b": (0, 0)}),
    Rotation("opened and closed at once", [(3, "a", None), (3, "b", "a")], {"a": (3, 3), "b": (3, 8)}),
    Rotation("closed at the head", [(0, "a", None), (8, "b", "a")], {"a": (0, 8), "b": (8, 8)}),
]


@pytest.mark.parametrize("rotation", ROTATIONS, ids=lambda rotation: f"case_47_{rotation.name}")
@pytest.mark.parametrize("signer", ["a", "b"])
def test_position_decides(rotation: Rotation, signer: str) -> None:
    """At every index of the log exactly one verdict: VALID in [open, close) of the key, and nowhere else."""
    world = SoftwareRegistry()
    keys = {name: world.add_key(SoftwareKey(name), W1) for name in ("a", "b")}
    # A log that takes everything, so that only the position can tell; each key claims to have signed nothing.
    signed = [world.sign(keys[signer], number) for number in range(8)]
    steps = iter([*rotation.steps, (99, None, None)])
    at, opens, closes = next(steps)
    for size in range(9):
        while at == size:
            opened, closed = keys.get(opens or ""), keys.get(closes or "")
            world.rotate(W1, opens=opened, closes=closed)
            at, opens, closes = next(steps)
        if size < 8:
            world.statements.append(signed[size].entry())
    trusted = open_bundle(world.bundle().to_json(), world.registry_id)
    assert isinstance(trusted, TrustedRegistry)
    first, end = rotation.spans[signer]
    for index in range(8):
        verdict = judge(trusted, world.evidence(index, signed[index]), event_hash=None, environments=PRODUCTION)
        assert (verdict.outcome is Outcome.VALID) == (first <= index < end)
        assert verdict.outcome is Outcome.VALID or verdict.code is Code.KEY_NOT_ACTIVE


@pytest.mark.parametrize(
    ("registry", "said", "accepted", "code"),
    [
        ("production", "production", {"production"}, Code.VALID_KEY_ACTIVE),
        ("production", "production", {"production", "development"}, Code.VALID_KEY_ACTIVE),
        ("production", "development", {"production", "development"}, Code.WRONG_ENVIRONMENT),
        ("development", "development", {"production"}, Code.WRONG_ENVIRONMENT),
        ("development", "production", {"production"}, Code.WRONG_ENVIRONMENT),
        ("development", "development", {"production", "development"}, Code.VALID_KEY_ACTIVE),
        ("production", "production", {"development"}, Code.WRONG_ENVIRONMENT),
        ("production", "production", set(), Code.WRONG_ENVIRONMENT),
    ],
)
def test_environments_are_never_confused(registry: str, said: str, accepted: set[str], code: Code) -> None:
    """A statement counts where the caller accepts its environment and the registry is of the same."""
    world = SoftwareRegistry(environment=registry)
    index, signed = world.attest(world.new_witness(), 0, environment=said)
    trusted = open_bundle(world.bundle().to_json(), world.registry_id)
    assert isinstance(trusted, TrustedRegistry)
    evidence = world.evidence(index, signed)
    assert judge(trusted, evidence, event_hash=None, environments=frozenset(accepted)).code is code


@pytest.mark.parametrize(
    ("signed_at", "code"),
    [
        ("2026-01-01T11:54:59.999999Z", Code.TIME_INCONSISTENT),
        ("2026-01-01T11:55:00.000000Z", Code.VALID_KEY_ACTIVE),
        ("2026-01-01T12:15:00.000000Z", Code.VALID_KEY_ACTIVE),
        ("2026-01-01T12:15:00.000001Z", Code.TIME_INCONSISTENT),
    ],
)
def test_clocks_may_differ_by_five_minutes(signed_at: str, code: Code) -> None:
    """The claimed time lies between the key's adding and the coverage, five minutes more to either side."""
    world = SoftwareRegistry()
    key = world.add_key(SoftwareKey("a"), W1, created_at="2026-01-01T12:00:00.000000Z")
    body = world.rotation(W1, opens=key, created_at="2026-01-01T12:00:01.000000Z")
    world.append(envelope(RECORD_TYPE, body.encode(), key, *world.quorum))
    evidence = world.evidence(*world.attest(key, 0, signed_at=signed_at))
    bundle = covered(world, created_at="2026-01-01T12:10:00.000000Z")
    trusted = open_bundle(bundle.to_json(), world.registry_id)
    assert isinstance(trusted, TrustedRegistry)
    assert judge(trusted, evidence, event_hash=None, environments=PRODUCTION).code is code


@pytest.mark.attacks
def test_times_at_the_ends_of_the_calendar_are_judged(world: RotatedRegistry) -> None:
    """A registry that claims the year 9999 gives a verdict like any other."""
    bundle = covered(world, created_at="9999-12-31T23:59:59.999999Z")
    assert world.judge(world.genuine(12), bundle=bundle).code is Code.VALID_KEY_ACTIVE
    bundle = covered(world, created_at="0001-01-01T00:00:00.000000Z")
    assert world.judge(world.genuine(12), bundle=bundle).code is Code.TIME_INCONSISTENT


def test_a_verdict_is_no_truth_value(trusted: TrustedRegistry) -> None:
    """`if judge(...)` would pass for INVALID too, so it fails."""
    verdict = judge(trusted, b"", event_hash=None, environments=PRODUCTION)
    with pytest.raises(TypeError, match="truth value"):
        bool(verdict)


def test_a_verdict_says_what_was_judged_and_by_what(world: RotatedRegistry) -> None:
    """For JSON a verdict is strings and null: the code, the reason, the coverage, and what the statement claims."""
    said = world.judge(world.genuine(12)).to_object()
    claims = world.attested[12][1].body
    statement = Statement.decode(claims)
    assert said == {
        "as_of": {
            "completeness": "operator",
            "cosigned_at": None,
            "registry_size": "8",
            "statement_size": "17",
            "time": world.time(world.seconds),
        },
        "code": "VALID_KEY_ACTIVE",
        "completeness": "operator",
        "environment": "production",
        "event_compared": "no",
        "event_hash": event_hash("orders", 12),
        "existed_by": None,
        "key_id": world.b.key_id,
        "leaf_index": "12",
        "not_before": {"source": "leads", "time": world.registry.records[statement.registry_size - 1].created_at},
        "outcome": "VALID",
        "reason": "index 12 lies in [10, still open), where the key was valid",
        "sequence": "12",
        "signed_at": statement.signed_at,
        "stream": "orders",
        "witness_id": W1,
    }
    unknown = open_bundle(b"", world.registry_id)
    assert isinstance(unknown, Verdict)
    nulls = {name for name, value in unknown.to_object().items() if value is None}
    assert nulls == said.keys() - {"code", "event_compared", "outcome", "reason"}


def test_the_codes_are_the_published_ones() -> None:
    """The vocabulary and its three classes are part of the format; every code says what it means."""
    by_outcome = {outcome: {code.name for code in Code if code.outcome is outcome} for outcome in Outcome}
    assert by_outcome == {
        Outcome.VALID: {"VALID_KEY_ACTIVE", "VALID_KEY_ROTATED", "VALID_BEFORE_COMPROMISE"},
        Outcome.INVALID: {
            "BAD_FORMAT",
            "BAD_SIGNATURE",
            "EVENT_MISMATCH",
            "UNKNOWN_KEY",
            "KEY_SCOPE",
            "WRONG_REGISTRY",
            "WRONG_ENVIRONMENT",
            "KEY_NOT_ACTIVE",
            "KEY_COMPROMISED",
            "LOG_PROOF_INVALID",
            "REGISTRY_INVALID",
            "REGISTRY_MISMATCH",
            "EQUIVOCATION",
            "LOG_FORK",
        },
        Outcome.INDETERMINATE: {
            "NOT_LOGGED",
            "QUORUM_NOT_MET",
            "BUNDLE_TOO_OLD",
            "TIME_INCONSISTENT",
            "UNSUPPORTED_ALGORITHM",
        },
    }
    assert [outcome.value for outcome in (Outcome.VALID, Outcome.INVALID, Outcome.INDETERMINATE)] == [0, 1, 2]
    assert all(code.meaning.endswith(".") for code in Code)
    described = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    assert [code.name for code in Code if f"`{code.name}`" not in described] == []


def test_a_shared_checkpoint_is_verified_once(world: RotatedRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of proofs end in one checkpoint: its signature costs once, and a bad one is never taken for known."""
    trusted = world.open()
    opened: list[str] = []

    def counting(opened_note: note.Note, origin: str, keys: Any) -> tuple[Checkpoint, PublicKey]:
        opened.append(opened_note.text)
        return verify_checkpoint(opened_note, origin, keys)

    monkeypatch.setattr(trusted_registry, "verify_checkpoint", counting)
    for number in range(10):
        assert judge(trusted, world.genuine(number), event_hash=None, environments=PRODUCTION).outcome is Outcome.VALID
    assert len(opened) == 1
    other = world.statements.checkpoint().replace(b"\n17\n", b"\n16\n")
    for _ in range(2):
        evidence = world.proven(world.attested[3][1], 3, checkpoint=other)
        assert judge(trusted, evidence, event_hash=None, environments=PRODUCTION).code is Code.LOG_PROOF_INVALID
    assert len(opened) == 3


def test_checkpoints_of_cosigners_are_kept_within_bounds(world: RotatedRegistry) -> None:
    """Any number of different notes with the log's own good signature leaves only the latest in memory."""
    trusted = world.open()
    checkpoint = world.statements.checkpoint()
    for number in range(600):
        line = base64.b64encode(number.to_bytes(80, "big")).decode()
        trusted.logged_head(checkpoint + f"\N{EM DASH} cosigner.example {line}\n".encode())
    large = base64.b64encode(bytes(300)).decode()
    trusted.logged_head(checkpoint + f"\N{EM DASH} cosigner.example {large}\n".encode() * 99)
    kept = list(trusted._verified)
    assert len(kept) == trusted_registry._HEADS_KEPT
    assert max(map(len, kept)) <= trusted_registry._HEAD_KEPT_BYTES
