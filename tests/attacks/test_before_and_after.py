"""Every kind of record, under both policies: what was honestly signed stays VALID, what was forged stays not VALID."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from key_registry.policy import NONE
from key_registry.verdict import Code, Outcome
from tests.attacks.attack import verdict_on
from tests.attacks.years import W1, W2, HonestCosigner, Publication, Years
from tests.fix_attack_table import RecordAttack
from tests.key_registry.software_registry import SoftwareKey, policy_of

pytestmark = pytest.mark.attacks


def other_cosigners(world: Years) -> None:
    new = [HonestCosigner(f"d{number}") for number in (1, 2, 3)]
    world.change_policy(policy_of(*new, threshold=2))
    world.cosigners = new


def no_cosigners(world: Years) -> None:
    world.change_policy(NONE)
    world.cosigners = []


def other_leads(world: Years) -> None:
    world.change_leads([*world.leads[:2], SoftwareKey("a new lead"), SoftwareKey("another")], 3)


RECORDS: dict[str, Callable[[Years], object]] = {
    "key-add": lambda w: w.add_key(SoftwareKey("x"), W1),
    "rotate, opens": lambda w: w.rotate(W1, opens=w.spare),
    "rotate, closes": lambda w: w.rotate(W2, closes=w.d),
    "rotate, both": lambda w: w.rotate(W1, opens=w.spare, closes=w.b),
    "compromise of another key": lambda w: w.compromise(w.p, 0),
    "compromise at the head": lambda w: w.compromise(w.b, w.statements.size),
    "compromise, a lower cut": lambda w: w.compromise(w.c, 16),
    "leads": other_leads,
    "policy, the same": lambda w: w.change_policy(),
    "policy, statement log key": lambda w: w.change_policy(statement_key=SoftwareKey("new statements")),
    "policy, registry log key": lambda w: w.change_policy(registry_key=SoftwareKey("new registry")),
    "policy, cosigners": other_cosigners,
    "policy, no cosigners": no_cosigners,
    "destroyed": lambda w: w.destroy(w.a),
}
HONEST = {
    "replaced key": 3,
    "valid key": 12,
    "compromised key, below the cut": 15,
    "key since the compromise": 21,
}
FORGED = ["replaced key, logged late", "compromised key", "never logged", "borrowed proof"]


def honest(world: Years, published: Publication) -> dict[str, bytes]:
    return {name: world.genuine(number, published) for name, number in HONEST.items()}


@pytest.mark.parametrize("policy", ["none", "cosigned"])
@pytest.mark.parametrize("name", RECORDS)
def test_a_record_takes_nothing_from_honest_signatures(name: str, policy: str, record_attack: RecordAttack) -> None:
    """Evidence from before a record and evidence made after it are VALID by the bundle after it, and as before it."""
    world = Years(cosigned=policy == "cosigned")
    world.tick()
    before = world.publish()
    old = honest(world, before)
    assert all(verdict_on(world, (it, before.bundle)).outcome is Outcome.VALID for it in old.values())
    RECORDS[name](world)
    world.log(world.sign(world.d if name == "rotate, both" else world.b, 60))
    after = world.publish()
    for of, evidence in [("before", old), ("after", honest(world, after))]:
        verdicts = {key: verdict_on(world, (it, after.bundle)) for key, it in evidence.items()}
        found = sorted({verdict.outcome.name for verdict in verdicts.values()})
        record_attack(policy, f"{name}: honest evidence from {of} it", "VALID", ", ".join(found))
        assert found == ["VALID"], {key: verdict.reason for key, verdict in verdicts.items()}


@pytest.mark.parametrize("policy", ["none", "cosigned"])
@pytest.mark.parametrize("name", RECORDS)
def test_a_record_gives_nothing_to_forgeries(name: str, policy: str, record_attack: RecordAttack) -> None:
    """No forgery is VALID before a record, after it, or with a bundle of before and evidence of after."""
    world = Years(cosigned=policy == "cosigned")
    late, before_bundle = world.take(world.backdated(world.a))
    before = {
        "replaced key, logged late": late,
        "compromised key": world.genuine(18),
        "never logged": world.backdated(world.a).to_json(),
        "borrowed proof": world.proof(3, world.backdated(world.a)),
    }
    RECORDS[name](world)
    later, bundle = world.take(world.backdated(world.a))
    after = {
        "replaced key, logged late": later,
        "compromised key": world.genuine(18),
        "never logged": world.backdated(world.c, 7).to_json(),
        "borrowed proof": world.proof(3, world.backdated(world.a)),
    }
    assert list(before) == list(after) == FORGED
    for of, evidence, by in [
        ("before", before, before_bundle),
        ("before", before, bundle),
        ("after", after, bundle),
        ("after", after, before_bundle),
    ]:
        codes = {verdict_on(world, (it, by)).code for it in evidence.values()}
        valid = sorted(code.name for code in codes if code.outcome is Outcome.VALID)
        record_attack(policy, f"{name}: forgeries from {of} it", "none VALID", ", ".join(valid) or "none VALID")
        assert valid == []
    assert verdict_on(world, (after["compromised key"], bundle)).code is Code.KEY_COMPROMISED


def test_old_evidence_by_a_replaced_log_key_alone_is_asked_for_again(record_attack: RecordAttack) -> None:
    """Nobody can tell it from what a thief of that key makes; the same leaf under the present key is VALID."""
    world = Years(cosigned=False)
    index, signed = world.attested[12]
    old = world.evidence(index, signed, size=13)
    assert verdict_on(world, old).code is Code.VALID_KEY_ACTIVE
    world.change_policy(statement_key=SoftwareKey("new statements"))
    world.log(world.sign(world.b, 60))
    world.now_published = world.publish()
    verdict = verdict_on(world, old)
    record_attack(
        "none", "policy, statement log key: honest evidence of a size no record has", "NOT_LOGGED", verdict.code.name
    )
    assert verdict.code is Code.NOT_LOGGED
    assert verdict_on(world, world.genuine(12)).code is Code.VALID_KEY_ACTIVE


@pytest.mark.parametrize("name", ["policy, statement log key", "policy, cosigners"])
def test_cosigned_evidence_outlives_its_log_key_and_its_cosigners(name: str) -> None:
    """Under a policy that asks for cosigners evidence of any size keeps its verdict, and says whose word it is."""
    world = Years(cosigned=True)
    published = [world.publish()]
    for number in range(3):
        world.log(world.sign(world.b, 60 + number))
        published.append(world.publish())
    RECORDS[name](world)
    world.log(world.sign(world.b, 70))
    world.now_published = world.publish()
    for then in published:
        verdict = verdict_on(world, world.genuine(12, then))
        assert (verdict.code, verdict.completeness) == (Code.VALID_KEY_ACTIVE, "cosigners")


def test_evidence_from_before_the_cosigners_rests_on_the_operator() -> None:
    """It stays VALID, and says that nobody else was asked; evidence made after it says that they were."""
    world = Years(cosigned=False)
    old = world.genuine(12)
    other_cosigners(world)
    world.log(world.sign(world.b, 60))
    world.now_published = world.publish()
    found = [verdict_on(world, evidence) for evidence in (old, world.genuine(12))]
    assert [verdict.code for verdict in found] == [Code.VALID_KEY_ACTIVE] * 2
    assert [verdict.completeness for verdict in found] == ["operator", "cosigners"]
    assert {verdict.as_of.completeness for verdict in found if verdict.as_of} == {"cosigners"}
