"""Both verifiers agree on registries nobody planned: records of every kind, right and wrong, one after the other."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from key_registry import base64_strict, canonical_json
from key_registry.bundle import Bundle
from key_registry.coverage import COVERAGE_TYPE
from key_registry.dsse import Envelope, Signature
from key_registry.errors import FormatError
from key_registry.evidence import Evidence
from key_registry.record import RECORD_TYPE, Record
from key_registry.tlog_proof import TlogProof
from tests.key_registry.agreement import agreed, agreed_on_bundle, opened
from tests.key_registry.software_registry import (
    ED448_SPKI,
    MemoryLog,
    SoftwareCosigner,
    SoftwareKey,
    SoftwareRegistry,
    envelope,
    policy_of,
    witness,
)

STEPS = 20


class Chance(SoftwareRegistry):
    """A registry to which records are added by chance."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.cosigners = [SoftwareCosigner(f"c{number}") for number in range(4)]
        super().__init__(policy=self.any_policy())
        self.pool = [
            SoftwareKey(f"key {number}", "ecdsa-p256" if number % 5 == 4 else "ed25519") for number in range(8)
        ]
        self.log_keys = [SoftwareKey(f"log key {number}") for number in range(4)]
        self.lead_keys = [*self.leads, *(SoftwareKey(f"lead {number}") for number in range(3))]
        self.key_of = {it.key_id: it for it in [*self.log_keys, self.registry_log.key, self.statements.key]}
        self.next_log_keys = self.registry_log.key, self.statements.key
        self.attested: list[tuple[int, Envelope]] = []
        for number, key in enumerate(self.pool[:2], start=1):
            self.add_key(key, witness(number))
            self.rotate(witness(number), opens=key)

    def any_policy(self) -> str:
        """Return a policy of some cosigners, or none."""
        if self.random.random() < 0.3:
            return "none"
        some = self.random.sample(self.cosigners, self.random.randint(1, 4))
        thresholds: list[str | int] = ["any", "all", self.random.randint(1, len(some))]
        return policy_of(*some, threshold=self.random.choice(thresholds))

    def some_cosigners(self) -> dict[SoftwareCosigner, int]:
        most = [cosigner for cosigner in self.cosigners if self.random.random() < 0.85]
        return {cosigner: self.now() + self.random.choice([-400, -1, 0, 0, 0, 0, 0, 0, 1]) for cosigner in most}

    def one_of(self, *keys: SoftwareKey) -> SoftwareKey:
        return self.random.choice(keys)

    def known(self) -> list[SoftwareKey]:
        return [key for key in self.pool if key.key_id in self.registry.keys]

    def spoil(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Leave the fields as they are, mostly."""
        if self.random.random() > 0.08:
            return fields
        wrong = {
            "seq": self.random.choice([0, 1, 99]),
            "prev": self.random.choice(["00" * 32, self.registry_id]),
            "registry_id": "11" * 32,
            "created_at": "2025-12-31T23:59:59.999999Z",
            "witness_id": witness(self.random.randint(1, 3)),
            "token_serial": "logs 01",
        }
        name = self.random.choice([name for name in wrong if name in fields or name in ("seq", "prev", "created_at")])
        return {**fields, name: wrong[name]}

    def key_add_by_chance(self) -> tuple[Record, list[SoftwareKey]]:
        key = self.one_of(*self.pool, *self.pool, *self.pool, *self.leads, *self.log_keys, self.cosigners[0].key)
        fields: dict[str, Any] = {"reason": "drill"}
        if self.random.random() < 0.1:
            fields["cka_id"] = self.one_of(*self.pool, self.statements.key).cka_id
            fields["token_serial"] = self.random.choice(["token 01", "logs 01"])
        return self.key_add(key, witness(self.random.randint(1, 2)), **self.spoil(fields)), [key, *self.quorum]

    def rotation_by_chance(self) -> tuple[Record, list[SoftwareKey]]:
        of = witness(self.random.randint(1, 2))
        mine = [key for key in self.known() if self.registry.keys[key.key_id].witness_id == of]
        right = self.random.random() < 0.8
        openable = [key for key in mine if self.registry.keys[key.key_id].opened is None] if right else self.pool
        closable = [key for key in mine if self.registry.keys[key.key_id].is_open] if right else self.pool
        opens = self.random.choice([None, *openable, *openable])
        closes = self.random.choice([None, *closable, *closable])
        count = None if closes is None else self.random.choice([0, 0, 1, 3])
        size = self.statements.size - self.random.choice([0, 0, 0, 0, 0, 1, 3])
        fields: dict[str, Any] = {"checkpoint": self.seal(max(size, 0)), "count": count}
        body = self.rotation(of, opens=opens, closes=closes, **self.spoil(fields))
        sponsor = self.one_of(*(closable or self.pool), *self.leads)
        return body, [*([opens] if opens else []), *([sponsor] if self.random.random() < 0.5 else self.quorum)]

    def seal(self, size: int, key: SoftwareKey | None = None) -> bytes:
        root = bytes(32) if self.random.random() < 0.03 else None
        sealed = self.statements.checkpoint(size, root, key=key, cosigned_by=self.some_cosigners())
        if self.random.random() < 0.05:
            sealed = self.one_line_changed(sealed)
        return sealed

    def one_line_changed(self, signed: bytes) -> bytes:
        """Flip a bit of one signature line, or repeat it."""
        text, _, below = signed.decode().rpartition("\n\n")
        lines = below.splitlines()
        at = self.random.randrange(len(lines))
        _, name, blob = lines[at].split(" ")
        raw = bytearray(base64_strict.decode(blob))
        raw[-1 - self.random.randrange(len(raw) - 4)] ^= 1 << self.random.randrange(8)
        changed = f"\u2014 {name} {base64_strict.encode(bytes(raw))}"
        lines[at : at + 1] = self.random.choice([[changed], [lines[at], lines[at]], [lines[at], changed]])
        return f"{text}\n\n{chr(10).join(lines)}\n".encode()

    def compromise_by_chance(self) -> tuple[Record, list[SoftwareKey]]:
        key = self.one_of(*self.known())
        since = self.random.choice([None, self.time(0), "9999-12-31T23:59:59.999999Z"])
        cut = self.random.randint(0, self.statements.size + 1)
        return self.compromise_record(key, cut, **self.spoil({"suspected_since": since})), self.quorum

    def leads_by_chance(self) -> tuple[Record, list[SoftwareKey]]:
        some = self.random.sample(self.lead_keys, self.random.randint(1, 4))
        if self.random.random() < 0.1:
            some.append(self.one_of(*self.pool, *self.log_keys, self.cosigners[1].key))
        body = self.leads_record(some, self.random.randint(1, len(some)), **self.spoil({}))
        return body, [*self.quorum, *some]

    def policy_by_chance(self) -> tuple[Record, list[SoftwareKey]]:
        of_registry, of_statements = (
            self.one_of(log.key, log.key, *self.log_keys) for log in (self.registry_log, self.statements)
        )
        sealed = self.seal(self.statements.size, self.one_of(*[of_statements] * 9, self.statements.key))
        fields: dict[str, Any] = {"checkpoint": sealed}
        body = self.policy_record(
            self.any_policy(), registry_key=of_registry, statement_key=of_statements, **self.spoil(fields)
        )
        self.next_log_keys = of_registry, of_statements
        return body, self.quorum

    def destroyed_by_chance(self) -> tuple[Record, list[SoftwareKey]]:
        return self.destroyed_record(self.one_of(*self.known()), **self.spoil({})), self.quorum

    def record_by_chance(self) -> Envelope:
        """Return a record that may follow or not."""
        makers = [self.key_add_by_chance, self.leads_by_chance, self.policy_by_chance]
        if self.known():
            makers += [self.rotation_by_chance] * 5 + [self.compromise_by_chance, self.destroyed_by_chance]
            makers += [self.key_add_by_chance]
        self.next_log_keys = self.registry_log.key, self.statements.key
        try:
            body, signers = self.random.choice(makers)()
        except FormatError:
            # No record of that form can be made; take another chance.
            return self.record_by_chance()
        if self.random.random() < 0.15:
            signers = [key for key in signers if self.random.random() < 0.7] or signers[:1]
        if self.random.random() < 0.1:
            signers = [*signers, self.one_of(*self.lead_keys, *self.pool)]
        encoded = body.encode()
        if self.random.random() < 0.05:
            encoded = self.changed(encoded)
        signed = envelope(RECORD_TYPE, encoded, *{key.key_id: key for key in signers}.values())
        if self.random.random() < 0.03 and signed.signatures:
            first, *others = signed.signatures
            signed = Envelope(RECORD_TYPE, encoded, (Signature(first.key_id, bytes(64)), *others))
        return signed

    def changed(self, encoded: bytes) -> bytes:
        """Take a member away, add one, or set one to something else."""
        body: Any = canonical_json.decode(encoded)
        name = self.random.choice(sorted(body))
        value: Any = self.random.choice(
            [None, "", "0", "-1", "01", "none", [], {}, base64_strict.encode(ED448_SPKI), self.registry_id, "policy"]
        )
        where = self.random.choice([body, *(it for it in body.values() if isinstance(it, dict) and it)])
        if where is not body:
            name = self.random.choice(sorted(where))
        if self.random.random() < 0.2:
            where.pop(name)
        else:
            where[self.random.choice([name, name, name, "more"])] = value
        return canonical_json.encode(body)

    def with_record(self, record: Envelope | None, **coverage: Any) -> Bundle:
        """Return the bundle of the registry and one record more."""
        kept = self.registry.envelopes + (() if record is None else (record,))
        log = MemoryLog(self.registry_log.origin, self.next_log_keys[0], self.now)
        for it in kept:
            log.append(it.entry())
        body = self.coverage(registry_size=log.size, registry_root=log.root().hex(), **coverage)
        covered = envelope(COVERAGE_TYPE, body.encode(), self.next_log_keys[0])
        return Bundle(kept, log.checkpoint(cosigned_by=self.some_cosigners()), covered)

    def accept(self, record: Envelope) -> None:
        before = self.registry
        self.append(record)
        self.registry_log.key, self.statements.key = self.next_log_keys
        if self.registry.leads != before.leads or self.registry.threshold != before.threshold:
            others = [cosigner.key for cosigner in self.cosigners]
            by_id = {key.key_id: key for key in [*self.lead_keys, *self.pool, *self.log_keys, *others]}
            self.leads = [by_id[lead.public_key.key_id] for lead in self.registry.leads]
            self.threshold = self.registry.threshold

    def attest_by_chance(self) -> None:
        signing = [key for key in self.known() if self.registry.keys[key.key_id].is_open] or self.known()
        for key in self.random.sample(signing, min(2, len(signing))):
            fields: dict[str, Any] = {}
            if self.random.random() < 0.2:
                fields["signed_at"] = self.random.choice(["2026-01-01T00:00:00.000000Z", "2026-01-01T01:30:00.000000Z"])
            self.attested.append(self.attest(key, self.statements.size, **fields))

    def evidence_by_chance(self) -> bytes:
        index, signed = self.random.choice(self.attested)
        size = self.random.randint(index + 1, self.statements.size)
        of_size = [self.key_of[it.public_key.key_id] for it in self.registry.statement_keys(size)]
        key = self.one_of(*[*of_size, self.statements.key] * 5, *self.log_keys)
        checkpoint = self.seal(size, key)
        proof = self.statements.proof(index, size)
        return Evidence(signed, TlogProof(index, proof, checkpoint, None)).to_bytes()


@pytest.mark.parametrize("seed", range(10))
def test_both_agree_on_a_history_by_chance(seed: int) -> None:
    """Bundle after bundle and evidence after evidence, both give the same code and the same interval."""
    world, seen = Chance(seed), Counter[str | None]()
    for _ in range(STEPS):
        record = world.record_by_chance()
        code = agreed_on_bundle(world.with_record(record).to_json(), world.registry_id)
        seen[code] += 1
        if code in (None, "QUORUM_NOT_MET"):
            world.accept(record)
        world.attest_by_chance()
        bundle = opened(world.with_record(None).to_json(), world.registry_id)
        for _ in range(4):
            seen[agreed(bundle, world.registry_id, world.evidence_by_chance())] += 1
    assert world.registry.size > 6
    assert seen["REGISTRY_INVALID"] > 0
