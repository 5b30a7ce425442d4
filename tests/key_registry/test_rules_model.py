"""Any history of records, tried in any order by anybody, against a model of what the registry should then say."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from key_registry.dsse import Envelope, Signature
from key_registry.errors import RecordError
from key_registry.record import RECORD_TYPE, Record, decode
from key_registry.replay import Registry
from tests.key_registry.software_registry import (
    SoftwareCosigner,
    SoftwareKey,
    SoftwareRegistry,
    envelope,
    policy_of,
    witness,
)

WITNESSES = (1, 2)
POLICIES = ("none", policy_of(SoftwareCosigner("x")), policy_of(SoftwareCosigner("x"), SoftwareCosigner("y")))


@dataclass
class Key:
    """What the model knows of a witness key."""

    key: SoftwareKey
    witness: int
    opened: int | None = None
    opened_after: int = 0
    closed: int | None = None
    cut: int | None = None
    destroyed: bool = False

    @property
    def is_open(self) -> bool:
        return self.opened is not None and self.closed is None

    @property
    def may_sign(self) -> bool:
        return self.is_open and self.cut is None


@dataclass
class Term:
    """From a size on: this statement-log key and policy."""

    since: int
    key: SoftwareKey
    policy: str


@dataclass
class Model:
    """The state of a registry in plain words."""

    leads: list[SoftwareKey]
    threshold: int
    terms: list[Term]
    keys: list[Key] = field(default_factory=list)
    records: int = 1

    def quorum(self, signers: list[SoftwareKey]) -> bool:
        return len({key.key_id for key in signers} & {key.key_id for key in self.leads}) >= self.threshold

    def leads_alone(self, signers: list[SoftwareKey]) -> bool:
        return self.quorum(signers) and all(key in self.leads for key in signers)

    def may_rotate(self, number: int, opens: Key | None, closes: Key | None, signers: list[SoftwareKey]) -> bool:
        if opens and (opens.witness != number or opens.opened is not None or opens.cut is not None or opens.destroyed):
            return False
        if closes and (closes.witness != number or not closes.is_open):
            return False
        candidates = [closes] if closes else self.keys
        sponsors = [it.key for it in candidates if it.witness == number and it.may_sign]
        own = [*sponsors, *([opens.key] if opens else [])]
        entitled = all(key in self.leads or key in own for key in signers)
        possession = opens is None or opens.key in signers
        return entitled and possession and (any(key in sponsors for key in signers) or self.quorum(signers))

    def policy_at(self, size: int) -> str:
        return next(term.policy for term in reversed(self.terms) if term.since < size)

    def statement_keys(self, size: int) -> list[SoftwareKey]:
        ends = [term.since for term in self.terms[1:]] + [2**63]
        return [term.key for term, end in zip(self.terms, ends, strict=True) if term.since <= size <= end]


class Histories(RuleBasedStateMachine):
    """Tries records that may follow and records that may not; registry and model must agree on each."""

    @initialize(leads=st.integers(1, 3), data=st.data())
    def begin(self, leads: int, data: st.DataObject) -> None:
        threshold = data.draw(st.integers(1, leads))
        self.world = SoftwareRegistry(leads=leads, threshold=threshold)
        first = Term(-1, self.world.statements.key, "none")
        self.model = Model(list(self.world.leads), threshold, [first])
        self.past_leads = list(self.world.leads)
        self.fresh = 0
        for number in WITNESSES:
            opened = self.world.new_witness(number)
            added = self.world.add_key(self.new_key(), witness(number))
            self.model.keys += [Key(opened, number, 0, self.world.registry.size - 1), Key(added, number)]
        self.model.records = self.world.registry.size

    def new_key(self) -> SoftwareKey:
        self.fresh += 1
        return SoftwareKey(f"fresh {self.fresh}")

    def signers(self, data: st.DataObject, *needed: SoftwareKey) -> list[SoftwareKey]:
        """Draw who signs: mostly whom it takes, sometimes anybody."""
        if data.draw(st.integers(0, 3), label="as it takes"):
            signers = [*needed, *self.model.leads]
        else:
            everybody = [*self.past_leads, *(it.key for it in self.model.keys), *needed, SoftwareKey("stranger")]
            signers = data.draw(st.lists(st.sampled_from(everybody), max_size=5), label="signers")
        return list({key.key_id: key for key in signers}.values())

    def attempt(self, body: Record, signers: list[SoftwareKey], allowed: bool) -> bool:
        """Append what the model allows; see that anything else is refused."""
        signed = envelope(RECORD_TYPE, body.encode(), *signers)
        if allowed:
            self.world.append(signed)
            self.model.records += 1
        else:
            with pytest.raises(RecordError):
                self.world.registry.append(signed)
        return allowed

    @rule(count=st.integers(1, 3))
    def attest(self, count: int) -> None:
        for _ in range(count):
            self.world.statements.append(b"%d" % self.world.statements.size)

    @rule(number=st.sampled_from(WITNESSES), data=st.data())
    def add_key(self, number: int, data: st.DataObject) -> None:
        key = self.new_key()
        signers = self.signers(data, key)
        allowed = key in signers and self.model.quorum(signers)
        allowed = allowed and all(it is key or it in self.model.leads for it in signers)
        if self.attempt(self.world.key_add(key, witness(number)), signers, allowed):
            self.model.keys.append(Key(key, number))

    @precondition(lambda self: self.model.keys)
    @rule(data=st.data())
    def open_a_key(self, data: st.DataObject) -> None:
        self.rotate(data, self.likely(data, [it for it in self.model.keys if it.opened is None]), None)

    @precondition(lambda self: self.model.keys)
    @rule(data=st.data())
    def close_a_key(self, data: st.DataObject) -> None:
        self.rotate(data, None, self.likely(data, [it for it in self.model.keys if it.is_open]))

    @precondition(lambda self: self.model.keys)
    @rule(data=st.data())
    def hand_over(self, data: st.DataObject) -> None:
        opens = self.likely(data, [it for it in self.model.keys if it.opened is None])
        mates = [it for it in self.model.keys if it.is_open and it.witness == opens.witness]
        self.rotate(data, opens, self.likely(data, mates))

    def likely(self, data: st.DataObject, right: list[Key]) -> Key:
        """Draw mostly one of the right keys, sometimes any."""
        return data.draw(st.sampled_from([*right, *right, *right, *self.model.keys]))

    def rotate(self, data: st.DataObject, opens: Key | None, closes: Key | None) -> None:
        assume(opens is not closes)
        about = opens or closes
        assert about is not None
        number = data.draw(st.sampled_from([about.witness, about.witness, about.witness, *WITNESSES]))
        needed = [opens.key] if opens else []
        if closes and closes.may_sign and data.draw(st.booleans()):
            needed.append(closes.key)
        signers = self.signers(data, *needed)
        body = self.world.rotation(
            witness(number), opens=opens.key if opens else None, closes=closes.key if closes else None
        )
        size = self.world.statements.size
        if self.attempt(body, signers, self.model.may_rotate(number, opens, closes, signers)):
            if opens:
                opens.opened, opens.opened_after = size, self.model.records
            if closes:
                closes.closed = size

    @precondition(lambda self: self.model.keys)
    @rule(cut=st.integers(0, 12), data=st.data())
    def compromise(self, cut: int, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.model.keys))
        signers = self.signers(data)
        allowed = self.model.leads_alone(signers) and (key.cut is None or cut < key.cut)
        if self.attempt(self.world.compromise_record(key.key, cut), signers, allowed):
            key.cut = cut

    @precondition(lambda self: self.model.keys)
    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.model.keys))
        signers = self.signers(data)
        allowed = self.model.leads_alone(signers) and not key.is_open and not key.destroyed
        if self.attempt(self.world.destroyed_record(key.key), signers, allowed):
            key.destroyed = True

    @rule(data=st.data())
    def change_leads(self, data: st.DataObject) -> None:
        candidates = [*self.past_leads, self.new_key(), *(it.key for it in self.model.keys)]
        new = data.draw(st.lists(st.sampled_from(candidates), min_size=1, max_size=4, unique=True), label="leads")
        threshold = data.draw(st.integers(1, len(new)))
        signers = self.signers(data, *new)
        allowed = self.model.quorum(signers) and all(key in signers for key in new)
        allowed = allowed and all(key in self.model.leads or key in new for key in signers)
        allowed = allowed and not any(it.key in new for it in self.model.keys)
        if self.attempt(self.world.leads_record(new, threshold), signers, allowed):
            self.model.leads, self.model.threshold = sorted(new, key=lambda key: key.key_id), threshold
            self.past_leads += [key for key in new if key not in self.past_leads]

    @rule(policy=st.sampled_from(POLICIES), data=st.data())
    def change_policy(self, policy: str, data: st.DataObject) -> None:
        present = self.world.statements.key
        others = [self.new_key(), self.world.registry_log.key, *self.past_leads, *(it.key for it in self.model.keys)]
        key = data.draw(st.sampled_from([present, present, *(term.key for term in self.model.terms), *others]))
        assume(key is not self.world.registry_log.key)
        replaced = [term.key for term in self.model.terms if term.key is not present]
        taken = [*self.past_leads, *(it.key for it in self.model.keys), *replaced]
        signers = self.signers(data)
        allowed = self.model.leads_alone(signers) and key not in taken
        if self.attempt(self.world.policy_record(policy, statement_key=key), signers, allowed):
            self.model.terms.append(Term(self.world.statements.size, key, policy))
            self.world.statements.key = key

    @precondition(lambda self: self.model.records > 1)
    @rule(data=st.data())
    def alter_the_last_record(self, data: st.DataObject) -> None:
        """A bit of it, a signature of it, or, signed anew by the same, its place: nothing follows any more."""
        before = self.world.registry.at_size(self.world.registry.size - 1)
        last = self.world.registry.envelopes[-1]
        assert before.append(last).root() == self.world.registry.root()
        altered = data.draw(st.sampled_from([self.flipped_body, self.flipped_signature, self.moved]))(data, last)
        with pytest.raises(RecordError):
            before.append(altered)

    def flipped_body(self, data: st.DataObject, last: Envelope) -> Envelope:
        body = bytearray(last.body)
        bit = data.draw(st.integers(0, 8 * len(body) - 1))
        body[bit // 8] ^= 1 << bit % 8
        return Envelope(last.payload_type, bytes(body), last.signatures)

    def flipped_signature(self, data: st.DataObject, last: Envelope) -> Envelope:
        number = data.draw(st.integers(0, len(last.signatures) - 1))
        raw = bytearray(last.signatures[number].signature)
        bit = data.draw(st.integers(0, 8 * len(raw) - 1))
        raw[bit // 8] ^= 1 << bit % 8
        spoilt = list(last.signatures)
        spoilt[number] = Signature(spoilt[number].key_id, bytes(raw))
        return Envelope(last.payload_type, last.body, tuple(spoilt))

    def moved(self, data: st.DataObject, last: Envelope) -> Envelope:
        record: Any = decode(last.body)
        places: dict[str, Any] = {
            "seq": record.seq + data.draw(st.sampled_from([-1, 1])),
            "prev": "00" * 32,
            "registry_id": "11" * 32,
            "created_at": "2025-12-31T23:59:59.999999Z",
        }
        name = data.draw(st.sampled_from(sorted(places)))
        signers = [self.by_id(it.key_id) for it in last.signatures]
        return envelope(RECORD_TYPE, replace(record, **{name: places[name]}).encode(), *signers)

    def by_id(self, key_id: str) -> SoftwareKey:
        known = [*self.past_leads, *(it.key for it in self.model.keys)]
        return next(key for key in known if key.key_id == key_id)

    @invariant()
    def registry_and_model_agree(self) -> None:
        registry, model = self.world.registry, self.model
        assert registry.size == model.records
        assert [lead.public_key for lead in registry.leads] == [key.public for key in model.leads]
        assert registry.threshold == model.threshold
        assert list(registry.keys) == [it.key.key_id for it in model.keys]
        for it in model.keys:
            version = registry.keys[it.key.key_id]
            assert (version.opened, version.closed, version.trusted_size) == (it.opened, it.closed, it.cut)
            assert (version.may_sign, version.is_destroyed) == (it.may_sign, it.destroyed)
        for size in range(self.world.statements.size + 2):
            assert registry.policy_at(size).text == model.policy_at(size)
            expected = {key.key_id for key in model.statement_keys(size)}
            assert {log.public_key.key_id for log in registry.statement_keys(size)} == expected
        assert registry.policy.text == model.terms[-1].policy
        assert registry.logs.statements.public_key == model.terms[-1].key.public
        for number in WITNESSES:
            able = [it for it in model.keys if it.witness == number and it.may_sign]
            last = max(able, key=lambda it: it.opened_after, default=None)
            chosen = registry.signing_key(witness(number))
            assert (chosen and chosen.key_id) == (last and last.key.key_id)

    def teardown(self) -> None:
        """Replayed from its envelopes the registry is the same, at its full and at earlier sizes."""
        if not hasattr(self, "world"):
            return
        registry = self.world.registry
        again = Registry.replay(registry.envelopes, registry_id=registry.registry_id)
        assert (again.root(), dict(again.keys), again.heads) == (registry.root(), dict(registry.keys), registry.heads)
        for size in {1, registry.size // 2, registry.size - 1}:
            view, fresh = registry.at_size(size), Registry.replay(registry.envelopes[:size], registry_id=None)
            assert (view.root(), dict(view.keys), view.leads) == (fresh.root(), dict(fresh.keys), fresh.leads)
            assert (view.threshold, view.logs, view.policy) == (fresh.threshold, fresh.logs, fresh.policy)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
