"""The vectors: what an auditor is given, and the code it must end in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from key_registry import base64_strict, canonical_json, merkle, note
from key_registry.bundle import Bundle
from key_registry.coverage import COVERAGE_TYPE
from key_registry.dsse import Envelope, Signature
from key_registry.record import RECORD_TYPE
from key_registry.statement import STATEMENT_TYPE
from tests.key_registry.software_registry import (
    ED448_SPKI,
    MemoryLog,
    SoftwareKey,
    envelope,
    event_hash,
    policy_of,
)
from tests.vectors.worlds import W1, W2, World


@dataclass(frozen=True)
class Vector:
    """One row. `bundle` None: the newest; `evidence` None: the genuine one of statement 20."""

    name: str
    code: str
    evidence: bytes | None = None
    bundle: bytes | None = None
    event_hash: str | None = None
    environments: tuple[str, ...] = ("production",)
    registry_id: str | None = None


def bundle_with(world: World, records: tuple[Envelope, ...], *, new_keys: bool = True, **coverage: Any) -> bytes:
    """Return the bundle of an operator who says that these records are the registry."""
    key = world.registry_log.key if new_keys else world.old_keys[0]
    log = MemoryLog(world.registry_log.origin, key, world.now)
    for record in records:
        log.append(record.entry())
    body = world.coverage(registry_size=log.size, registry_root=log.root().hex(), **coverage)
    cosigners = world.cosigners if new_keys else world.old_cosigners
    checkpoint = log.checkpoint(cosigned_by=cosigners)
    return Bundle(records, checkpoint, envelope(COVERAGE_TYPE, body.encode(), key)).to_json()


def appended(world: World, body: Any, *signers: SoftwareKey) -> bytes:
    """Return the bundle in which this is the last record."""
    encoded = body if isinstance(body, bytes) else body.encode()
    record = envelope(RECORD_TYPE, encoded, *signers)
    return bundle_with(world, (*world.registry.envelopes, record))


def changed(body: Any, change: Callable[[dict], object]) -> bytes:
    """Return the bytes of a body after a change of its members."""
    members = json.loads(body.encode())
    change(members)
    return canonical_json.encode(members)


def text_replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


def flipped(signed: Envelope) -> Envelope:
    (signature,) = signed.signatures
    raw = bytes([signature.signature[0] ^ 1]) + signature.signature[1:]
    return replace(signed, signatures=(Signature(signature.key_id, raw),))


def respelt(world: World) -> bytes:
    """Return the newest bundle as another program may write it."""
    return json.dumps(json.loads(world.newest.to_json()), indent=1, sort_keys=False).encode()


def url_safe(world: World) -> bytes:
    """Return an attestation alone in the URL-safe alphabet."""
    members = json.loads(world.attested[20][1].to_json())
    members["payload"] = members["payload"].replace("+", "-").replace("/", "_")
    members["signatures"][0]["sig"] = members["signatures"][0]["sig"].replace("+", "-").replace("/", "_")
    return json.dumps(members).encode()


def statements(world: World) -> Iterator[Vector]:
    """What a statement says, and who signed it."""
    signed = world.attested[20][1]
    forged: dict[str, tuple[str, dict[str, Any]]] = {
        "statement of another registry": ("WRONG_REGISTRY", {"registry_id": "00" * 32}),
        "statement of another environment": ("WRONG_ENVIRONMENT", {"environment": "development"}),
        "statement of a registry that is longer": ("BUNDLE_TOO_OLD", {"registry_size": 99}),
        "statement of an empty registry": ("REGISTRY_MISMATCH", {"registry_size": 0}),
        "statement of another registry history": ("REGISTRY_MISMATCH", {"registry_root": "00" * 32}),
        "statement under another witness": ("KEY_SCOPE", {"witness_id": W2}),
        "statement by a key nobody added": ("UNKNOWN_KEY", {"key_id": "ab" * 32}),
        "statement that claims another key": ("BAD_SIGNATURE", {"key_id": world.b.key_id}),
    }
    for name, (code, fields) in forged.items():
        yield Vector(name, code, world.proof(world.sign(world.d, 20, **fields), 20))
    yield Vector("P-256 key out of its streams", "KEY_SCOPE", world.proof(world.sign(world.p, 20), 20))
    yield Vector("signature with a bit flipped", "BAD_SIGNATURE", world.proof(flipped(signed), 20))
    yield Vector("P-256 signature with a bit flipped", "BAD_SIGNATURE", world.proof(flipped(world.attested[18][1]), 18))
    cut = replace(signed, signatures=(Signature(world.d.key_id, signed.signatures[0].signature[:-1]),))
    yield Vector("signature of 63 bytes", "BAD_SIGNATURE", world.proof(cut, 20))
    two = envelope(STATEMENT_TYPE, signed.body, world.d, world.b)
    yield Vector("two signatures", "BAD_FORMAT", world.proof(two, 20))
    spaced = signed.body.replace(b'":"', b'": "', 1)
    yield Vector("body with a space", "BAD_FORMAT", world.proof(envelope(STATEMENT_TYPE, spaced, world.d), 20))
    more = changed(world.statement(world.d, 20), lambda members: members.update(more="x"))
    yield Vector("body with a member more", "BAD_FORMAT", world.proof(envelope(STATEMENT_TYPE, more, world.d), 20))
    typed = envelope(RECORD_TYPE, signed.body, world.d)
    yield Vector("payload type of a record", "BAD_FORMAT", world.proof(typed, 20))
    yield Vector("event as expected", "VALID_KEY_ACTIVE", event_hash=event_hash("orders", 20))
    yield Vector("event of another hash", "EVENT_MISMATCH", event_hash=event_hash("orders", 21))
    yield Vector("environment not accepted", "WRONG_ENVIRONMENT", environments=("development",))
    yield Vector("envelope alone", "NOT_LOGGED", signed.to_json())
    yield Vector("envelope alone, base64 of URLs", "NOT_LOGGED", url_safe(world))
    yield Vector("empty file", "BAD_FORMAT", b"")
    yield Vector("the worst of JSON", "BAD_FORMAT", b"[" * 9_999)


def proofs(world: World) -> Iterator[Vector]:
    """Where a statement stands in the log."""
    genuine = world.genuine(20)
    for number, code in (
        (0, "VALID_KEY_ROTATED"),
        (10, "VALID_BEFORE_COMPROMISE"),
        (11, "KEY_COMPROMISED"),
        (12, "KEY_COMPROMISED"),
        (18, "VALID_KEY_ACTIVE"),
        (21, "VALID_KEY_ACTIVE"),
    ):
        yield Vector(f"statement {number}", code, world.genuine(number))
    yield Vector("another index", "LOG_PROOF_INVALID", world.genuine(20, index=19))
    yield Vector("index beyond the tree", "LOG_PROOF_INVALID", world.genuine(20, index=22))
    path = world.statements.proof(20)
    yield Vector("proof too short", "LOG_PROOF_INVALID", world.genuine(20, path=path[:-1]))
    yield Vector("proof too long", "LOG_PROOF_INVALID", world.genuine(20, path=(*path, bytes(32))))
    yield Vector("index with a leading zero", "BAD_FORMAT", text_replaced(genuine, b"\nindex 20\n", b"\nindex 020\n"))
    yield Vector("proof without extra", "BAD_FORMAT", b"c2sp.org/tlog-proof@v1\n" + genuine.split(b"\n", 2)[2])
    yield Vector("proof of version 2", "BAD_FORMAT", genuine.replace(b"@v1", b"@v2", 1))
    yield Vector("size with a leading zero", "LOG_PROOF_INVALID", text_replaced(genuine, b"\n22\n", b"\n022\n"))
    yield Vector("two blank lines", "LOG_PROOF_INVALID", text_replaced(genuine, b"=\n\n\xe2", b"=\n\n\n\xe2"))
    empty = world.statements.checkpoint(0, cosigned_by=world.cosigners)
    yield Vector("tree of size 0", "LOG_PROOF_INVALID", world.genuine(20, empty))
    registry = world.registry_log.checkpoint(22, world.statements.root(), cosigned_by=world.cosigners)
    yield Vector("checkpoint of the registry log", "LOG_PROOF_INVALID", world.genuine(20, registry))
    by_old = world.statements.checkpoint(key=world.old_keys[1], cosigned_by=world.cosigners)
    yield Vector("checkpoint by the log key of before", "LOG_PROOF_INVALID", world.genuine(20, by_old))
    covered = bundle_with(world, world.registry.envelopes, created_at="2025-12-01T00:00:00.000000Z")
    late = world.sign(world.d, 20, signed_at="2026-01-01T00:05:00.000000Z")
    fork = MemoryLog(world.statements.origin, world.statements.key, world.now)
    fork.leaf_hashes = [*world.statements.leaf_hashes[:20], world.statements.leaf_hashes[21]]
    yield Vector("coverage long before", "TIME_INCONSISTENT", world.genuine(20), bundle=covered)
    fork.append(late.entry())
    forked = fork.checkpoint(cosigned_by=dict.fromkeys(world.cosigners, world.published_at))
    yield Vector(
        "another history of a size that the coverage has",
        "LOG_FORK",
        world.proof(world.attested[21][1], 20, forked, path=fork.proof(20)),
    )


def late_ones(make: Callable[[], World]) -> Iterator[Vector]:
    """What the log took after the world was complete; each in a world of its own."""
    world = make()
    yield Vector("bundle of before", "BUNDLE_TOO_OLD", world.taken(world.sign(world.d, 22)), make().newest.to_json())
    for name, code, key, fields in (
        ("retired key, logged late", "KEY_NOT_ACTIVE", "a", {}),
        ("key never opened", "KEY_NOT_ACTIVE", "never", {}),
        ("closed key that is compromised too", "KEY_NOT_ACTIVE", "c", {}),
        ("signed an hour ahead", "TIME_INCONSISTENT", "d", {"signed_at": "2026-01-01T01:30:00.000000Z"}),
        ("signed before its key was added", "TIME_INCONSISTENT", "d", {"signed_at": "2025-12-31T23:50:00.000000Z"}),
        ("signed at the end of the calendar", "TIME_INCONSISTENT", "d", {"signed_at": "9999-12-31T23:59:59.999999Z"}),
    ):
        world = make()
        evidence = world.taken(world.sign(getattr(world, key), 22, **fields))
        yield Vector(name, code, evidence, world.newest.to_json())


def bundles(world: World) -> Iterator[Vector]:
    """Bundles that are not what they say."""
    newest, envelopes = world.newest, world.registry.envelopes
    yield Vector("bundle in another spelling", "VALID_KEY_ACTIVE", bundle=respelt(world))
    yield Vector("another registry pinned", "WRONG_REGISTRY", registry_id="00" * 32)
    yield Vector("bundle that is not JSON", "REGISTRY_INVALID", bundle=b"{")
    twice = newest.to_json().replace(b'{"coverage":', b'{"format":"x","coverage":', 1)
    yield Vector("bundle with a member twice", "REGISTRY_INVALID", bundle=twice)
    dropped = bundle_with(world, envelopes[:9] + envelopes[10:])
    yield Vector("compromise left out", "REGISTRY_INVALID", bundle=dropped)
    unpublished = replace(newest, records=envelopes[:-1]).to_json()
    yield Vector("last record left out", "REGISTRY_INVALID", bundle=unpublished)
    yield Vector("shortened by the operator", "BUNDLE_TOO_OLD", bundle=world.before_leads.to_json())
    small = bundle_with(world, envelopes, statement_size=19, statement_root=world.statements.root(19).hex())
    yield Vector("coverage below the last rotation", "REGISTRY_INVALID", bundle=small)
    forked = bundle_with(world, envelopes, statement_size=20, statement_root="00" * 32)
    yield Vector("coverage that contradicts a record", "REGISTRY_INVALID", bundle=forked)
    covered = envelope(COVERAGE_TYPE, newest.coverage.body, world.statements.key)
    yield Vector(
        "coverage by the statement log key",
        "REGISTRY_INVALID",
        bundle=replace(newest, coverage=covered).to_json(),
    )
    other = world.statements.checkpoint(18, world.registry.root(), cosigned_by=world.cosigners)
    yield Vector(
        "checkpoint of the statement log",
        "REGISTRY_INVALID",
        bundle=replace(newest, checkpoint=other).to_json(),
    )


def records(world: World) -> Iterator[Vector]:
    """Records of each type as the last of a bundle: those that follow, and those that do not."""
    quorum, new, lead, spare = world.quorum, SoftwareKey("new"), world.leads[0], SoftwareKey("spare lead")
    a, b, c, d, never = world.a, world.b, world.c, world.d, world.never
    add, rotation = world.key_add(new, W1), world.rotation
    ed448 = {"algorithm": "ed448", "public_key": base64_strict.encode(ED448_SPKI)}
    ed448["key_id"] = hashlib.sha256(ED448_SPKI).hexdigest()
    foreign = changed(add, lambda it: it.update(ed448))
    opens, closes, both = rotation(W1, opens=never), rotation(W1, closes=d), rotation(W1, opens=never, closes=d)
    fork = world.statements.checkpoint(20, bytes(32))
    leads = world.leads_record([lead, spare], 2)
    policy = world.policy_record(policy_of(*world.cosigners, threshold="any") if world.cosigners else None)
    elsewhere = changed(policy, lambda it: it["logs"]["registry"].update(origin="x.example"))
    good, closed, bad = "VALID_KEY_ACTIVE", "VALID_KEY_ROTATED", "REGISTRY_INVALID"
    for name, code, body, signers in (
        ("key-add that follows", good, add, [new, *quorum]),
        ("key-add without possession", bad, add, quorum),
        ("key-add by one lead", bad, add, [new, lead]),
        ("key-add of a key that is there", bad, world.key_add(a, W1), [a, *quorum]),
        ("key-add of a lead's key", bad, world.key_add(lead, W1), quorum),
        ("key-add in a place that is taken", bad, world.key_add(new, W1, cka_id=a.cka_id), [new, *quorum]),
        ("key-add of an unknown algorithm", "UNSUPPORTED_ALGORITHM", foreign, quorum),
        ("key-add of an unknown algorithm by one lead", bad, foreign, [lead]),
        ("rotate that follows, by both keys", closed, both, [never, d]),
        ("rotate without the opened key", bad, both, [d, *quorum]),
        ("rotate that opens beside another", good, opens, [never, d]),
        ("rotate that opens, by a closed key", bad, opens, [never, b]),
        ("rotate that opens a closed key again", bad, rotation(W1, opens=b), [b, *quorum]),
        ("rotate that opens a compromised key again", bad, rotation(W1, opens=c), [c, *quorum]),
        ("rotate that closes, by a quorum", closed, closes, quorum),
        ("rotate that closes, by another lead alone", bad, closes, [lead]),
        ("rotate that closes what was never open", bad, rotation(W1, closes=never), quorum),
        ("rotate with too high a count", bad, rotation(W1, closes=d, count=3), [d]),
        ("rotate under another witness", bad, rotation(W2, closes=d), quorum),
        ("rotate with another history", bad, rotation(W1, closes=d, checkpoint=fork), [d]),
        ("rotate below the last one", bad, rotation(W1, closes=d, checkpoint=world.statements.checkpoint(19)), [d]),
        ("rotate with the other log", bad, rotation(W1, closes=d, checkpoint=world.registry_log.checkpoint()), [d]),
        ("rotate earlier than the last record", bad, rotation(W1, closes=d, created_at=world.time(0)), [d]),
        ("rotate with another number", bad, rotation(W1, closes=d, seq=99), [d]),
        ("rotate after another record", bad, rotation(W1, closes=d, prev="00" * 32), [d]),
        ("rotate of another registry", bad, rotation(W1, closes=d, registry_id="00" * 32), [d]),
        ("compromise that lowers a cut", good, world.compromise_record(c, 10), quorum),
        ("compromise that keeps a cut", bad, world.compromise_record(c, 11), quorum),
        ("compromise of a key never opened", good, world.compromise_record(never, 0), quorum),
        ("compromise at the statement", "KEY_COMPROMISED", world.compromise_record(d, 20), quorum),
        ("compromise above the statement", "VALID_BEFORE_COMPROMISE", world.compromise_record(d, 21), quorum),
        ("compromise by the key itself", bad, world.compromise_record(d, 20), [d, *quorum]),
        ("leads that follow", good, leads, [*quorum, spare]),
        ("leads without the new one", bad, leads, quorum),
        ("leads by themselves", bad, leads, [lead, spare]),
        ("leads with a log's key", bad, world.leads_record([lead, world.old_keys[0]], 1), [*quorum, world.old_keys[0]]),
        ("policy that follows", good, policy, quorum),
        ("policy by one lead", bad, policy, [lead]),
        ("policy by a lead who left", bad, policy, [lead, world.first_leads[2]]),
        ("policy that is none", bad, changed(policy, lambda it: it.update(policy="quorum nobody\n")), quorum),
        ("policy with another origin", bad, elsewhere, quorum),
        ("destroyed that follows", good, world.destroyed_record(b), quorum),
        ("destroyed while open", bad, world.destroyed_record(d), quorum),
        ("destroyed twice", bad, world.destroyed_record(a), quorum),
        ("record of an unknown type", bad, changed(closes, lambda it: it.update(type="note")), quorum),
        ("record with a member more", bad, changed(closes, lambda it: it.update(more="x")), quorum),
    ):
        yield Vector(name, code, bundle=appended(world, body, *signers))
    yield from _geneses(world)


def _geneses(world: World) -> Iterator[Vector]:
    """Bundles of one record, which is pinned."""
    genesis = world.registry.genesis
    ed448 = base64_strict.encode(ED448_SPKI)
    for name, code, body, signers in (
        ("genesis alone", "BUNDLE_TOO_OLD", genesis.encode(), world.first_leads),
        ("genesis by a lead less", "REGISTRY_INVALID", genesis.encode(), world.first_leads[1:]),
        ("genesis by a stranger too", "REGISTRY_INVALID", genesis.encode(), [*world.first_leads, world.d]),
        (
            "genesis with too high a threshold",
            "REGISTRY_INVALID",
            changed(genesis, lambda it: it.update(threshold="4")),
            world.first_leads,
        ),
        (
            "genesis with leads in another order",
            "REGISTRY_INVALID",
            changed(genesis, lambda it: it["leads"].reverse()),
            world.first_leads,
        ),
        (
            "genesis with a log of an unknown algorithm",
            "UNSUPPORTED_ALGORITHM",
            changed(genesis, lambda it: it["logs"]["registry"].update(public_key=ed448)),
            world.first_leads,
        ),
    ):
        first = envelope(RECORD_TYPE, body, *signers)
        pinned = hashlib.sha256(first.pae()).hexdigest()
        bundle = bundle_with(world, (first,), new_keys=False, registry_id=pinned)
        yield Vector(name, code, bundle=bundle, registry_id=pinned)


def cosignatures(world: World) -> Iterator[Vector]:
    """Who saw the logs grow, under a policy of two of three."""
    one, two, three = world.cosigners
    log, newest, now = world.statements, world.newest, world.published_at
    both = {one: now, two: now}

    def evidence(cosigned_by: Any, number: int = 20, **parts: Any) -> bytes:
        return world.genuine(number, log.checkpoint(cosigned_by=cosigned_by), **parts)

    yield Vector("cosigned by two", "VALID_KEY_ACTIVE", evidence(both))
    yield Vector("cosigned by one", "QUORUM_NOT_MET", evidence([one]))
    yield Vector("cosigned by nobody", "QUORUM_NOT_MET", evidence([]))
    yield Vector("cosigned by the cosigners of before", "QUORUM_NOT_MET", evidence(world.old_cosigners))
    yield Vector("cosigned by two and a stranger", "VALID_KEY_ACTIVE", evidence({**both, world.old_cosigners[0]: now}))
    twice = one.cosign(log.checkpoint(cosigned_by=both), now)
    yield Vector("cosigned twice by one", "LOG_PROOF_INVALID", world.genuine(20, twice))
    yield Vector("a bad cosignature", "LOG_PROOF_INVALID", world.genuine(20, bad_cosignature(three, log, both, now)))
    yield Vector(
        "cosigned after the registry was", "BUNDLE_TOO_OLD", evidence({one: now, two: now + 99, three: now + 99})
    )
    early = evidence({one: now - 600, two: now - 600})
    yield Vector("cosigned before it was signed", "TIME_INCONSISTENT", early)
    old = log.checkpoint(10, key=world.old_keys[1], cosigned_by={it: now for it in world.old_cosigners})
    yield Vector("a size of the old policy", "VALID_KEY_ROTATED", world.genuine(0, old, size=10))
    for name, by, key in (
        ("the size of the change, by the old key", world.old_cosigners, world.old_keys[1]),
        ("the size of the change, by the new key", world.old_cosigners, log.key),
        ("the size of the change, by new key and cosigners", world.cosigners, log.key),
    ):
        at_change = log.checkpoint(18, key=key, cosigned_by=by)
        yield Vector(name, "VALID_KEY_ROTATED", world.genuine(0, at_change, size=18))
    registry = world.registry_log
    for name, code, cosigned_by in (
        ("registry cosigned by one", "QUORUM_NOT_MET", [one]),
        ("registry cosigned by the cosigners of before", "QUORUM_NOT_MET", world.old_cosigners),
        ("registry cosigned by all", "VALID_KEY_ACTIVE", world.cosigners),
    ):
        bundle = replace(newest, checkpoint=registry.checkpoint(cosigned_by=cosigned_by))
        yield Vector(name, code, bundle=bundle.to_json())
    spoilt = replace(newest, checkpoint=bad_cosignature(three, registry, both, now))
    yield Vector("registry with a bad cosignature", "REGISTRY_INVALID", bundle=spoilt.to_json())
    sealed = bad_cosignature(three, log, both, now)
    closing = world.rotation(W1, closes=world.d, checkpoint=sealed)
    yield Vector("rotate with a bad cosignature", "REGISTRY_INVALID", bundle=appended(world, closing, world.d))


def bad_cosignature(cosigner: Any, log: MemoryLog, others: Any, time: int) -> bytes:
    """Return a checkpoint with a line of a cosigner that does not verify."""
    opened = note.parse(log.checkpoint(cosigned_by=others))
    line = cosigner.line(opened.text, time)
    spoilt = replace(line, signature=line.signature[:-1] + bytes([line.signature[-1] ^ 1]))
    return note.serialize(opened.text, [*opened.signatures, spoilt])


def replaced_keys(world: World) -> Iterator[Vector]:
    """Log keys that a policy record replaced, under the policy `none`."""
    log, (_, old) = world.statements, world.old_keys
    fork = merkle.node_hash(log.root(8), log.root(8))
    for name, code, checkpoint, size in (
        ("old log key, size of a record", "VALID_KEY_ROTATED", log.checkpoint(10, key=old), 10),
        ("old log key, size of no record", "NOT_LOGGED", log.checkpoint(9, key=old), 9),
        ("old log key, forked at a record", "LOG_PROOF_INVALID", log.checkpoint(10, fork, key=old), 10),
        ("new log key, size of before", "LOG_PROOF_INVALID", log.checkpoint(10), 10),
        ("new log key, size of the change", "VALID_KEY_ROTATED", log.checkpoint(18), 18),
        ("unknown log key", "BUNDLE_TOO_OLD", log.checkpoint(key=world.never), 22),
        ("unknown log key, size of before", "LOG_PROOF_INVALID", log.checkpoint(21, key=world.never), 21),
    ):
        yield Vector(name, code, world.genuine(0, checkpoint, size=size))


def tables() -> Iterator[tuple[World, Vector]]:
    """Return every vector with the world it is of."""
    operator, cosigned = World(cosigned=False), World(cosigned=True)
    for table in (statements, proofs, bundles, records, replaced_keys):
        for vector in table(operator):
            yield operator, vector
    for vector in late_ones(lambda: World(cosigned=False)):
        yield operator, vector
    for table in (proofs, bundles, cosignatures):
        for vector in table(cosigned):
            yield cosigned, vector
