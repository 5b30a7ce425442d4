"""Attacks on the registry: by who can change the database or the bundle, and by the operator who signs the result."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from key_registry import note
from key_registry.bundle import Bundle
from key_registry.coverage import COVERAGE_TYPE
from key_registry.dsse import Envelope, Signature
from key_registry.policy import NONE
from key_registry.record import RECORD_TYPE, Lead, LeadsChange
from key_registry.verdict import Code
from tests.attacks.attack import Attack, Presented, row
from tests.attacks.stolen_keys import badly_cosigned
from tests.attacks.years import W1, W2, Years
from tests.key_registry.software_registry import ED448_SPKI, SoftwareKey, envelope

ADD_B, ROTATE_AB, OPEN_C, COMPROMISE_C, CLOSE_C = 3, 4, 6, 7, 9
LOW_ORDER = bytes.fromhex("302a300506032b6570032100") + bytes(32)
OFF_CURVE = bytes.fromhex("302a300506032b6570032100") + b"\x02" + bytes(31)


def canonical(members: dict[str, Any]) -> bytes:
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def edited(record: Envelope, **members: Any) -> Envelope:
    """Return a record with members exchanged and the signatures it had."""
    return replace(record, body=canonical({**json.loads(record.body), **members}))


def changed(world: Years, seq: int, change: Callable[[Envelope], Envelope | None]) -> tuple[Envelope, ...]:
    """Return the records with one of them changed, or taken out."""
    records = list(world.registry.envelopes)
    new = change(records[seq])
    records[seq : seq + 1] = [] if new is None else [new]
    return tuple(records)


def stored(name: str, seq: int, change: Callable[[Years, Envelope], Envelope | None]) -> list[Attack]:
    """Return two rows: the record is changed in the copy, and the operator signs the changed registry as well."""
    return [
        row(
            f"administrator {name}",
            lambda w: replace(w.now_published.bundle, records=changed(w, seq, lambda r: change(w, r))),
            Code.REGISTRY_INVALID,
        ),
        row(
            f"operator {name}, logs signed anew",
            lambda w: w.bundle_with(changed(w, seq, lambda r: change(w, r))),
            Code.REGISTRY_INVALID,
        ),
    ]


def appended(name: str, because: str, make: Callable[[Years], Envelope], code: Code = Code.REGISTRY_INVALID) -> Attack:
    """Return a row: a record more, which the logs have signed and the cosigners cosigned."""

    def with_record(world: Years) -> Bundle:
        record = make(world)
        return world.bundle_with([*world.registry.envelopes, record])

    return row(name, with_record, code, because)


def signed(body: Any, *keys: SoftwareKey) -> Envelope:
    return envelope(RECORD_TYPE, body if isinstance(body, bytes) else body.encode(), *keys)


def covered(world: Years, *signers: SoftwareKey, payload_type: str = COVERAGE_TYPE, **fields: Any) -> Bundle:
    """Return the bundle with a coverage that says something else, or is by somebody else."""
    body = world.coverage(**fields).encode()
    by = signers or [world.registry_log.key]
    return replace(world.now_published.bundle, coverage=envelope(payload_type, body, *by))


def headed(world: Years, checkpoint: bytes) -> Bundle:
    return replace(world.now_published.bundle, checkpoint=checkpoint)


def resigned(world: Years, text: str) -> bytes:
    """Return any text as a note of the registry log."""
    key = world.registry_log.key
    line = note.NoteSignature(
        world.registry_log.origin, note.key_hash(world.registry_log.origin, key.public.raw), key.sign(text.encode())
    )
    return note.serialize(text, [line])


def registry_text(world: Years) -> str:
    return note.parse(world.now_published.bundle.checkpoint).text


def other_genesis(world: Years) -> tuple[Envelope, ...]:
    """The genesis of a thief, and then the records of the registry."""
    return (Years(cosigned=False, name="thief").registry.envelopes[0], *world.registry.envelopes[1:])


def with_thief(record: Envelope) -> Envelope:
    thief = SoftwareKey("thief")
    public_key = base64.b64encode(thief.public.spki).decode()
    return edited(record, key_id=thief.key_id, public_key=public_key)


def unsigned(record: Envelope) -> Envelope:
    """Return a record without one of its signatures."""
    return replace(record, signatures=record.signatures[:-1])


def more_signed(world: Years, record: Envelope) -> Envelope:
    """Return a record with the signature of one more lead, which is good and changes nothing but the entry."""
    lead = world.leads[2]
    return replace(record, signatures=(*record.signatures, Signature(lead.key_id, lead.sign(record.pae()))))


def takeover(world: Years) -> Envelope:
    """Return a leads record by which one lead makes himself the only one."""
    lead = world.leads[0]
    body = LeadsChange(**world.link(), leads=(Lead(lead.name, lead.public),), threshold=1)
    return signed(body, lead)


def strange_key(spki: bytes, algorithm: str) -> Callable[[Years], Envelope]:
    """Return what makes a key-add record, by the quorum, of a key that nobody has."""

    def make(world: Years) -> Envelope:
        body = world.key_add(SoftwareKey("x"), W1, public_key=spki, algorithm=algorithm)
        return signed(body, *world.quorum)

    return make


def closing(world: Years, checkpoint: bytes) -> Envelope:
    """Return a record that closes `b` at a checkpoint."""
    body = world.rotation(W1, closes=world.b, checkpoint=checkpoint, count=0)
    return signed(body, world.b)


def reopened(world: Years, *signers: SoftwareKey) -> Envelope:
    """Return a record that opens the retired key again."""
    return signed(world.rotation(W1, opens=world.a), world.a, *signers)


def compromised_sponsor(world: Years) -> Envelope:
    """Return a record by which a key that is open and compromised lets in another."""
    world.compromise(world.b, 20)
    return signed(world.rotation(W1, opens=world.spare), world.spare, world.b)


ROWS = [
    *stored("swaps a public key", ADD_B, lambda w, r: with_thief(r)),
    *stored("drops a rotation", ROTATE_AB, lambda w, r: None),
    *stored("drops a compromise", COMPROMISE_C, lambda w, r: None),
    *stored("raises a cut", COMPROMISE_C, lambda w, r: edited(r, trusted_size="19")),
    *stored("lowers a cut", COMPROMISE_C, lambda w, r: edited(r, trusted_size="3")),
    *stored("moves the suspicion", COMPROMISE_C, lambda w, r: edited(r, suspected_since=None)),
    *stored(
        "moves a closing seal",
        ROTATE_AB,
        lambda w, r: edited(r, checkpoint=w.statements.checkpoint(15).decode()),
    ),
    *stored("changes a count", ROTATE_AB, lambda w, r: edited(r, count="9")),
    *stored("widens a key's streams", 10, lambda w, r: edited(r, streams=["*"])),
    *stored("gives a key to another witness", ADD_B, lambda w, r: edited(r, witness_id=W2)),
    *stored("takes a lead's signature away", COMPROMISE_C, lambda w, r: unsigned(r)),
    *stored("respells a record", ADD_B, lambda w, r: replace(r, body=b" " + r.body)),
    row(
        "administrator adds a lead's good signature to a record",
        lambda w: replace(w.now_published.bundle, records=changed(w, COMPROMISE_C, lambda r: more_signed(w, r))),
        Code.REGISTRY_INVALID,
    ),
    row(
        "administrator drops the last record",
        lambda w: replace(w.now_published.bundle, records=w.registry.envelopes[:-1]),
        Code.REGISTRY_INVALID,
    ),
    row(
        "administrator doubles the last record",
        lambda w: replace(w.now_published.bundle, records=(*w.registry.envelopes, w.registry.envelopes[-1])),
        Code.REGISTRY_INVALID,
    ),
    row(
        "operator swaps two records",
        lambda w: w.bundle_with([*w.registry.envelopes[:12], w.registry.envelopes[13], w.registry.envelopes[12]]),
        Code.REGISTRY_INVALID,
    ),
    row(
        "administrator replaces the registry by his own",
        lambda w: Years(cosigned=False, name="thief").now_published.bundle,
        Code.WRONG_REGISTRY,
    ),
    row("administrator replaces the genesis", lambda w: w.bundle_with(other_genesis(w)), Code.WRONG_REGISTRY),
    row(
        "administrator puts the records of his own registry under the genesis",
        lambda w: w.bundle_with([w.registry.envelopes[0], *Years(cosigned=False, name="thief").registry.envelopes[1:]]),
        Code.REGISTRY_INVALID,
    ),
    row(
        "administrator changes the genesis, another threshold",
        lambda w: w.bundle_with(changed(w, 0, lambda r: edited(r, threshold="1"))),
        Code.WRONG_REGISTRY,
    ),
    row(
        "administrator takes a lead's signature from the genesis",
        lambda w: w.bundle_with(changed(w, 0, unsigned)),
        Code.REGISTRY_INVALID,
    ),
    # Records that a quorum did not sign, or could not.
    appended(
        "one lead lowers a cut",
        "expected the signatures of 2 leads",
        lambda w: signed(w.compromise_record(w.c, 3), w.leads[0]),
    ),
    appended(
        "one lead signs twice",
        "expected a signature by this key over this message",
        lambda w: replace(
            (it := signed(w.compromise_record(w.c, 3), w.leads[0])),
            signatures=(*it.signatures, replace(it.signatures[0], key_id=w.leads[1].key_id)),
        ),
    ),
    appended(
        "a quorum raises a cut",
        "expected a cut below the earlier one at 17",
        lambda w: signed(w.compromise_record(w.c, 19), *w.quorum),
    ),
    appended(
        "a quorum repeats a cut",
        "expected a cut below the earlier one at 17",
        lambda w: signed(w.compromise_record(w.c, 17), *w.quorum),
    ),
    appended(
        "a quorum compromises a key nobody has",
        "expected a key of this witness",
        lambda w: signed(w.compromise_record(w.c, 3, key_id="00" * 32), *w.quorum),
    ),
    appended(
        "the retired key opens again, by itself", "expected a key to open that never opened", lambda w: reopened(w, w.b)
    ),
    appended(
        "the retired key opens again, by quorum",
        "expected a key to open that never opened",
        lambda w: reopened(w, *w.quorum),
    ),
    appended(
        "a compromised key opens",
        "expected a key to open that is neither compromised nor destroyed",
        lambda w: signed(w.rotation(W1, opens=w.early), w.early, *w.quorum),
    ),
    appended(
        "a retired key lets a new one in",
        "expected signatures by entitled keys only",
        lambda w: signed(w.rotation(W1, opens=w.spare), w.spare, w.a),
    ),
    appended(
        "a compromised key lets a new one in",
        "expected signatures by entitled keys only",
        compromised_sponsor,
    ),
    appended(
        "a key is added without its own signature",
        "expected the new key's signature as proof of possession",
        lambda w: signed(w.key_add(SoftwareKey("x"), W1), *w.quorum),
    ),
    appended(
        "a lead's key becomes a witness's",
        "expected a key that is new to the registry",
        lambda w: signed(w.key_add(w.leads[2], W1), *w.quorum, w.leads[2]),
    ),
    appended(
        "the log's key becomes a witness's",
        "expected a key that is new to the registry",
        lambda w: signed(w.key_add(w.statements.key, W1), *w.quorum, w.statements.key),
    ),
    appended("one lead takes over", "expected the signatures of 2 leads", takeover),
    appended(
        "new leads without the old",
        "expected the signatures of 2 leads",
        lambda w: signed(
            w.leads_record(keys := [SoftwareKey("l1"), SoftwareKey("l2")], 1), *sorted(keys, key=lambda k: k.key_id)
        ),
    ),
    appended(
        "new leads who did not sign",
        "expected the signatures of all 4 new leads",
        lambda w: signed(w.leads_record([*w.leads, SoftwareKey("l1")], 2), *w.leads),
    ),
    appended(
        "the operator drops the policy",
        "expected the signatures of 2 leads",
        lambda w: signed(w.policy_record(NONE), w.leads[0]),
    ),
    appended(
        "a policy that is none",
        'policy: expected "none" or lines that each end in a newline',
        lambda w: signed(canonical({**policy_members(w), "policy": "all"}), *w.quorum),
    ),
    appended(
        "a policy with a log line",
        "policy, line 1: expected no log line, because the record itself names the logs",
        lambda w: signed(canonical({**policy_members(w), "policy": "log x\nquorum none\n"}), *w.quorum),
    ),
    appended(
        "another origin of the log",
        "expected the two logs under their origins of old",
        lambda w: signed(
            canonical(json.loads(canonical(policy_members(w)).replace(b"/statements", b"/statementz"))), *w.quorum
        ),
    ),
    appended(
        "a log key nobody holds",
        "expected one note signature by the trusted key",
        lambda w: signed(
            replace(w.policy_record(statement_key=SoftwareKey("x")), checkpoint=w.statements.checkpoint()), *w.quorum
        ),
    ),
    appended(
        "an open key is destroyed",
        "expected a key that is closed or never opened",
        lambda w: signed(w.destroyed_record(w.b), *w.quorum),
    ),
    appended(
        "a key is destroyed by one lead",
        "expected the signatures of 2 leads",
        lambda w: signed(w.destroyed_record(w.a), w.leads[0]),
    ),
    appended(
        "a record of an unknown type",
        "expected one of the types",
        lambda w: signed(canonical({**members(w), "type": "amnesty"}), *w.quorum),
    ),
    appended("a second genesis", "expected a record that follows another", lambda w: w.registry.envelopes[0]),
    appended(
        "a member twice",
        "expected every member once",
        lambda w: signed(b'{"key_id":"x",' + destroyed(w)[1:], *w.quorum),
    ),
    appended(
        "a record respelt",
        "expected canonical JSON (RFC 8785)",
        lambda w: signed(json.dumps(json.loads(destroyed(w))).encode(), *w.quorum),
    ),
    appended(
        "a seq that skips",
        "expected seq 15",
        lambda w: signed(w.destroyed_record(w.a, seq=w.registry.size + 1), *w.quorum),
    ),
    appended("another past", "expected prev", lambda w: signed(w.destroyed_record(w.a, prev="00" * 32), *w.quorum)),
    appended(
        "another registry's record",
        "expected registry",
        lambda w: signed(w.destroyed_record(w.a, registry_id="00" * 32), *w.quorum),
    ),
    appended(
        "a time before the last record's",
        "expected a time not before 2026-01-01T00:00:46.000000Z",
        lambda w: signed(w.destroyed_record(w.a, created_at="2026-01-01T00:00:01.000000Z"), *w.quorum),
    ),
    # Seals.
    appended(
        "a seal of the registry log",
        "expected one note signature by the trusted key",
        lambda w: closing(w, w.registry_log.checkpoint()),
    ),
    appended(
        "a seal by another key",
        "expected one note signature by the trusted key",
        lambda w: closing(w, w.statements.checkpoint(key=SoftwareKey("x"))),
    ),
    appended(
        "a seal in the past",
        "expected a checkpoint of at least 23 statements",
        lambda w: closing(w, w.statements.checkpoint(15)),
    ),
    appended(
        "a seal over no statement",
        "expected a checkpoint of at least 23 statements",
        lambda w: closing(w, w.statements.checkpoint(0)),
    ),
    appended(
        "a seal with another root",
        "expected the root of the earlier checkpoint of 23 statements",
        lambda w: closing(w, w.statements.checkpoint(23, bytes(32))),
    ),
    appended(
        "a seal of a leading zero",
        "expected tree size in decimal without leading zeros, below 2**63",
        lambda w: closing(w, w.statements.checkpoint().replace(b"\n25\n", b"\n025\n")),
    ),
    Attack(
        "a seal with a bad cosignature",
        lambda w: w.bundle_with(
            [
                *w.registry.envelopes,
                closing(w, badly_cosigned(w.statements.checkpoint(cosigned_by=w.cosigners))),
            ]
        ),
        None,
        Code.REGISTRY_INVALID,
    ),
    # Keys.
    appended("a key of low order", "expected an Ed25519 point of large order", strange_key(LOW_ORDER, "ed25519")),
    appended("a key off the curve", "expected a point on the Ed25519 curve", strange_key(OFF_CURVE, "ed25519")),
    appended(
        "a key of another algorithm, by quorum",
        "expected an Ed25519 or ECDSA P-256 public key",
        strange_key(ED448_SPKI, "ed448"),
        Code.UNSUPPORTED_ALGORITHM,
    ),
    appended(
        "a key of another algorithm, by one lead",
        "expected the signatures of 2 leads",
        lambda w: signed(w.key_add(SoftwareKey("x"), W1, public_key=ED448_SPKI, algorithm="ed448"), w.leads[0]),
    ),
    # The registry checkpoint.
    row("checkpoint of an earlier registry", lambda w: headed(w, w.rotated.bundle.checkpoint), Code.REGISTRY_INVALID),
    row("checkpoint of the statement log", lambda w: headed(w, w.now_published.checkpoint), Code.REGISTRY_INVALID),
    row(
        "checkpoint with another root",
        lambda w: headed(w, w.registry_log.checkpoint(None, bytes(32))),
        Code.REGISTRY_INVALID,
    ),
    row(
        "checkpoint by the statement log's key",
        lambda w: headed(w, w.registry_log.checkpoint(key=w.statements.key)),
        Code.REGISTRY_INVALID,
    ),
    row(
        "checkpoint of an empty registry",
        lambda w: headed(w, w.registry_log.checkpoint(0)),
        Code.REGISTRY_INVALID,
    ),
    row(
        "checkpoint with a leading zero",
        lambda w: headed(w, resigned(w, registry_text(w).replace("\n15\n", "\n015\n"))),
        Code.REGISTRY_INVALID,
    ),
    row(
        "checkpoint with an extension line",
        lambda w: headed(w, resigned(w, registry_text(w) + "more\n")),
        Code.REGISTRY_INVALID,
    ),
    row(
        "checkpoint with blank lines",
        lambda w: headed(w, resigned(w, registry_text(w) + "\n\n")),
        Code.REGISTRY_INVALID,
    ),
    row(
        "checkpoint without a signature",
        lambda w: headed(w, registry_text(w).encode() + b"\n"),
        Code.REGISTRY_INVALID,
    ),
    # The bundle's own JSON, which nobody signs.
    row("bundle respelt", lambda w: Presented(bundle=respelt(w)), Code.VALID_KEY_ACTIVE),
    row(
        "bundle with a member twice",
        lambda w: Presented(bundle=b'{"format":"witness-service/bundle/v1",' + w.now_published.bundle.to_json()[1:]),
        Code.REGISTRY_INVALID,
    ),
    row(
        "bundle with a member more",
        lambda w: Presented(bundle=b'{"more":"x",' + w.now_published.bundle.to_json()[1:]),
        Code.REGISTRY_INVALID,
    ),
    # The coverage.
    row("coverage by a witness", lambda w: covered(w, w.b), Code.REGISTRY_INVALID),
    row("coverage by the statement log", lambda w: covered(w, w.statements.key), Code.REGISTRY_INVALID),
    row("coverage by a lead", lambda w: covered(w, w.leads[0]), Code.REGISTRY_INVALID),
    row("coverage of another type", lambda w: covered(w, payload_type=RECORD_TYPE), Code.REGISTRY_INVALID),
    row("coverage of other records", lambda w: covered(w, registry_root="00" * 32), Code.REGISTRY_INVALID),
    row("coverage of fewer records", lambda w: covered(w, registry_size=14), Code.REGISTRY_INVALID),
    row("coverage below the last seal", lambda w: covered(w, statement_size=22), Code.REGISTRY_INVALID),
    row(
        "coverage that forks at the last seal",
        lambda w: covered(w, statement_size=23, statement_root="00" * 32),
        Code.REGISTRY_INVALID,
    ),
    row("coverage by nobody", lambda w: unsigned_coverage(w), Code.REGISTRY_INVALID),
]


def unsigned_coverage(world: Years) -> Bundle:
    coverage = world.now_published.bundle.coverage
    zeros = tuple(replace(signature, signature=bytes(64)) for signature in coverage.signatures)
    return replace(world.now_published.bundle, coverage=replace(coverage, signatures=zeros))


def respelt(world: Years) -> bytes:
    """Return the bundle with other white space, order, escapes and base64 alphabet."""
    said = json.loads(world.now_published.bundle.to_json())
    for record in said["records"]:
        record["payload"] = record["payload"].replace("+", "-").replace("/", "_")
    return json.dumps(dict(reversed(said.items())), indent=2, ensure_ascii=True).encode()


def members(world: Years) -> dict[str, Any]:
    return dict(json.loads(world.destroyed_record(world.a).encode()))


def destroyed(world: Years) -> bytes:
    return world.destroyed_record(world.a).encode()


def policy_members(world: Years) -> dict[str, Any]:
    return dict(json.loads(world.policy_record().encode()))
