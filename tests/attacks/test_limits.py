"""What judging does not show: every claim of docs/format.md ("What judging does and does not show") about its limits.

These are not wishes. Whoever makes one of them impossible changes the test and the document.
"""

from __future__ import annotations

import pytest

from key_registry import note
from key_registry.bundle import Bundle
from key_registry.contradiction import Fork, compare
from key_registry.judge import TrustedRegistry, judge, open_bundle
from key_registry.verdict import Code, Verdict
from tests.attacks.attack import PRODUCTION
from tests.attacks.replaced_keys import cosigned_by, new_cosigners
from tests.attacks.years import W1, Publication, Years
from tests.fix_attack_table import RecordAttack

pytestmark = pytest.mark.attacks


def opened(world: Years, bundle: Bundle) -> TrustedRegistry:
    trusted = open_bundle(bundle.to_json(), world.registry_id)
    assert isinstance(trusted, TrustedRegistry), trusted
    return trusted


def judged(world: Years, evidence: bytes, bundle: Bundle) -> Verdict:
    trusted = open_bundle(bundle.to_json(), world.registry_id)
    if isinstance(trusted, Verdict):
        return trusted
    return judge(trusted, evidence, event_hash=None, environments=PRODUCTION)


def test_without_cosigners_the_statement_log_key_forks(record_attack: RecordAttack) -> None:
    """A fork of a size that nobody holds is believed, as the operator's word, and falls to a genuine checkpoint."""
    world = Years(cosigned=False)
    evidence = world.forked(world.backdated(world.a), 5, 12)
    verdict = judged(world, evidence, world.now_published.bundle)
    record_attack(
        "limit",
        "none: retired key and statement log key fork an unpublished size",
        "VALID_KEY_ROTATED",
        verdict.code.name,
    )
    assert (verdict.code, verdict.completeness) == (Code.VALID_KEY_ROTATED, "operator")
    index, signed = world.attested[3]
    genuine = world.evidence(index, signed, size=12)
    trusted = opened(world, world.now_published.bundle)
    assert isinstance(compare(trusted, evidence, genuine, environments=PRODUCTION), Fork)


def test_without_cosigners_the_operator_leaves_records_out(record_attack: RecordAttack) -> None:
    """A bundle that ends before the rotation makes the retired key good, on the operator's word alone."""
    world = Years(cosigned=False)
    evidence, _ = world.take(world.backdated(world.a))
    verdict = judged(world, evidence, world.shortened(world.first))
    record_attack(
        "limit", "none: operator logs with a retired key, shortened registry", "VALID_KEY_ACTIVE", verdict.code.name
    )
    assert (verdict.code, verdict.completeness) == (Code.VALID_KEY_ACTIVE, "operator")
    assert verdict.as_of is not None
    assert verdict.as_of.completeness == "operator"


@pytest.mark.parametrize("cosigned", [False, True])
def test_a_bundle_does_not_know_what_comes_after_it(record_attack: RecordAttack, cosigned: bool) -> None:
    """What a stolen key signed before anybody knew is VALID as of a bundle from then, which the verdict says."""
    world = Years(cosigned=cosigned)
    verdict = judged(world, world.genuine(18, world.stolen), world.stolen.bundle)
    where = "cosigned" if cosigned else "none"
    record_attack(
        "limit", f"{where}: compromised key, all as of before the compromise", "VALID_KEY_ACTIVE", verdict.code.name
    )
    assert verdict.code is Code.VALID_KEY_ACTIVE
    assert verdict.as_of is not None
    assert verdict.as_of.registry_size == len(world.stolen.bundle.records) < world.registry.size


def withheld(world: Years) -> tuple[bytes, Publication]:
    """Return evidence of a statement that a closed key made before anybody outside knew, and what was shown then."""
    records = world.registry.envelopes
    world.rotate(W1, opens=world.spare, closes=world.b)
    signed = world.backdated(world.b, len(records))
    index = world.log(signed)
    world.tick()
    checkpoint = world.checkpoint(world.statements)
    bundle = world.bundle_with(records)
    published = Publication(world.statements.size, checkpoint, bundle)
    return world.proof(index, signed, published), published


def test_a_record_that_cosigners_have_not_seen_binds_nobody(record_attack: RecordAttack) -> None:
    """The operator holds a rotation back and uses the closed key; once it is shown, what follows is not VALID."""
    world = Years(cosigned=True)
    evidence, then = withheld(world)
    verdict = judged(world, evidence, then.bundle)
    record_attack(
        "limit", "cosigned: closed key before a cosigner has seen the record", "VALID_KEY_ACTIVE", verdict.code.name
    )
    assert (verdict.code, verdict.completeness) == (Code.VALID_KEY_ACTIVE, "cosigners")
    shown = world.publish()
    assert judged(world, evidence, shown.bundle).code is Code.KEY_NOT_ACTIVE
    later, _ = world.take(world.backdated(world.b, len(then.bundle.records)))
    assert judged(world, later, world.shortened(then)).code is Code.BUNDLE_TOO_OLD


def lagging_attack(world: Years) -> Verdict:
    """The operator and the first cosigner lie to the last one, which has not seen anything since the first time."""
    world.cosigners[-1].is_down = False
    signed = world.backdated(world.a)
    index = world.log(signed)
    world.tick()
    checkpoint = world._signed_by([0], world.checkpoint(world.statements), world.now())
    records = world.first.bundle.records
    bundle = world.bundle_with(records)
    bundle = Bundle(records, world._signed_by([0], bundle.checkpoint, world.now()), bundle.coverage)
    return judged(world, world.proof(index, signed, Publication(world.statements.size, checkpoint, bundle)), bundle)


@pytest.mark.parametrize(
    ("quorum", "code"),
    [((2, 3), Code.VALID_KEY_ACTIVE), ((3, 4), Code.QUORUM_NOT_MET), ((3, 3), Code.QUORUM_NOT_MET)],
    ids=["2 of 3", "3 of 4", "3 of 3"],
)
def test_two_quorums_must_share_an_honest_cosigner(
    record_attack: RecordAttack, quorum: tuple[int, int], code: Code
) -> None:
    """Two of three bear no cosigner that conspires with the operator while another lags; three of four bear one."""
    world = Years(cosigned=True, quorum=quorum, lagging=quorum != (3, 3))
    verdict = lagging_attack(world)
    name = f"{quorum[0]} of {quorum[1]}: operator, a corrupt cosigner, and one that lags"
    record_attack("limit", name, code.name, verdict.code.name)
    assert verdict.code is code, verdict.reason


def test_old_cosigners_with_the_log_key_own_the_past(record_attack: RecordAttack) -> None:
    """A quorum that a policy record replaced can sign another past together with the log key of that time."""
    world = Years(cosigned=True)
    old = new_cosigners(world)
    fork = world.forked(world.backdated(world.a), 5, 12)
    head, _, checkpoint = fork.partition(b"\n\n")
    only_log = note.serialize(note.parse(checkpoint).text, note.parse(checkpoint).signatures[:1])
    evidence = head + b"\n\n" + cosigned_by(old, only_log, world.now())
    verdict = judged(world, evidence, world.now_published.bundle)
    record_attack(
        "limit", "cosigned: all old cosigners and the log key fork an old size", "VALID_KEY_ROTATED", verdict.code.name
    )
    assert verdict.code is Code.VALID_KEY_ROTATED
