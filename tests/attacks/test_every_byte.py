"""Every byte of evidence and bundle, changed: never VALID, unless what is signed and what was asked for is the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from key_registry import note
from key_registry.bundle import Bundle
from key_registry.errors import FormatError
from key_registry.evidence import Evidence
from key_registry.judge import TrustedRegistry, judge, open_bundle
from key_registry.verdict import Outcome, Verdict
from tests.attacks.attack import PRODUCTION
from tests.attacks.years import Years
from tests.fix_attack_table import RecordAttack

pytestmark = pytest.mark.attacks

WORLDS = {"none": Years(cosigned=False), "cosigned": Years(cosigned=True)}
NUMBERS = {"ed25519": 12, "ecdsa-p256": 23, "compromised": 16}


def trusted(world: Years) -> TrustedRegistry:
    opened = open_bundle(world.now_published.bundle.to_json(), world.registry_id)
    assert isinstance(opened, TrustedRegistry)
    return opened


def flipped(data: bytes, step: int) -> Iterator[bytes]:
    """Yield the data with one bit of a byte changed: every step-th byte, another bit each time."""
    for position in range(0, len(data), step):
        changed = bytearray(data)
        changed[position] ^= 1 << (position // step) % 8
        yield bytes(changed)


def same_note(one: bytes, other: bytes) -> bool:
    """Tell whether the log says the same, and `other` has no line by a known name that `one` has not.

    A line whose name or key id was changed is by nobody, so it is as if it were not there; the quorum is met without.
    """
    before, after = note.parse(one), note.parse(other)
    known = {(line.name, line.key_hash): line.signature for line in before.signatures}
    own = before.signatures[0]
    lines = {(line.name, line.key_hash): line.signature for line in after.signatures}
    kept = {line: signature for line, signature in lines.items() if line in known}
    return (
        before.text == after.text
        and lines.get((own.name, own.key_hash)) == own.signature
        and all(known[line] == signature for line, signature in kept.items())
    )


def same_evidence(one: bytes, other: bytes) -> bool:
    before, after = Evidence.read(one), Evidence.read(other)
    assert before.proof is not None
    assert after.proof is not None
    return (
        (before.envelope, before.proof.index, before.proof.hashes)
        == (after.envelope, after.proof.index, after.proof.hashes)
    ) and same_note(before.proof.checkpoint, after.proof.checkpoint)


def same_bundle(one: bytes, other: bytes) -> bool:
    before, after = Bundle.from_json(one), Bundle.from_json(other)
    return (before.records, before.coverage) == (after.records, after.coverage) and same_note(
        before.checkpoint, after.checkpoint
    )


def is_harmless(world: Years, data: bytes) -> bool:
    """Tell whether the data is genuine evidence of this world, as far as anything in it is signed or asked for."""
    try:
        return any(same_evidence(world.genuine(number), data) for number in NUMBERS.values())
    except (FormatError, AssertionError):
        return False


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("policy", WORLDS)
def test_no_flipped_bit_of_evidence_makes_another_valid(policy: str, kind: str, record_attack: RecordAttack) -> None:
    """Every byte, one bit: no verdict of the class VALID but for the very same evidence, and most are refused."""
    world = WORLDS[policy]
    opened, evidence = trusted(world), world.genuine(NUMBERS[kind])
    valid, wrong, count = 0, 0, 0
    for data in flipped(evidence, 1):
        count += 1
        if judge(opened, data, event_hash=None, environments=PRODUCTION).outcome is Outcome.VALID:
            valid += 1
            wrong += not same_evidence(evidence, data)
    record_attack(policy, f"a bit of every byte of evidence ({kind})", "0 wrongly VALID", f"{wrong} wrongly VALID")
    assert wrong == 0
    assert count == len(evidence)
    # What is left: cosigners' names and key ids, of which one can be spared, and letters of base64 in the envelope.
    assert valid < count / 8


@pytest.mark.parametrize("policy", WORLDS)
def test_no_flipped_bit_of_a_bundle_makes_another_trusted(policy: str, record_attack: RecordAttack) -> None:
    """A sample of the bytes, one bit each: the bundle is refused, unless it says the same."""
    world = WORLDS[policy]
    data = world.now_published.bundle.to_json()
    evidence, wrong, refused = world.genuine(12), 0, 0
    for changed in flipped(data, 41):
        opened = open_bundle(changed, world.registry_id)
        if isinstance(opened, Verdict):
            refused += 1
            wrong += opened.outcome is Outcome.VALID
        elif judge(opened, evidence, event_hash=None, environments=PRODUCTION).outcome is Outcome.VALID:
            wrong += not same_bundle(data, changed)
    record_attack(policy, "a bit of every 41st byte of the bundle", "0 wrongly VALID", f"{wrong} wrongly VALID")
    assert wrong == 0
    assert refused > len(data) / 41 * 0.9


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """Return the data with a piece replaced: by random bytes, by another piece of itself, or by nothing."""
    places = st.integers(0, len(data))
    pieces = st.binary(max_size=20) | st.builds(lambda at, size: data[at : at + size], places, st.integers(0, 300))
    return st.builds(lambda at, size, piece: data[:at] + piece + data[at + size :], places, st.integers(0, 300), pieces)


@pytest.mark.parametrize("policy", WORLDS)
@settings(max_examples=250)
@given(data=st.data())
def test_whatever_is_cut_copied_or_put_in(policy: str, data: st.DataObject) -> None:
    """A verdict comes, never an exception, and VALID for nothing but what the log holds."""
    world = WORLDS[policy]
    number = data.draw(st.sampled_from(sorted(NUMBERS.values())))
    evidence = data.draw(mutated(world.genuine(number)))
    verdict = judge(trusted_once(policy), evidence, event_hash=None, environments=PRODUCTION)
    assert verdict.outcome is not Outcome.VALID or is_harmless(world, evidence)
    assert verdict.reason.isprintable()


@pytest.mark.parametrize("policy", WORLDS)
@settings(max_examples=120)
@given(data=st.data())
def test_whatever_is_done_to_a_bundle(policy: str, data: st.DataObject) -> None:
    """A verdict comes, never an exception, or a bundle that says the same."""
    world = WORLDS[policy]
    genuine = world.now_published.bundle.to_json()
    changed = data.draw(mutated(genuine))
    opened = open_bundle(changed, world.registry_id)
    assert isinstance(opened, Verdict) or same_bundle(genuine, changed)
    assert not isinstance(opened, Verdict) or (opened.outcome is not Outcome.VALID and opened.reason.isprintable())


@pytest.mark.parametrize("policy", WORLDS)
def test_pieces_of_genuine_evidence_do_not_mix(policy: str, record_attack: RecordAttack) -> None:
    """Each statement with each proof, index and checkpoint of the others: VALID where they belong together alone."""
    world = WORLDS[policy]
    opened = trusted(world)
    numbers = [0, 3, 9, 10, 12, 15, 16, 21, 23]
    wrong = 0
    for one in numbers:
        for other in numbers:
            for published in (world.now_published, world.rotated, world.first):
                if other >= published.size:
                    continue
                index, _ = world.attested[other]
                evidence = world.proof(index, world.attested[one][1], published)
                verdict = judge(opened, evidence, event_hash=None, environments=PRODUCTION)
                wrong += (verdict.outcome is Outcome.VALID) != (one == other)
    record_attack(policy, "each statement under each other's proof", "0 wrongly VALID", f"{wrong} wrongly VALID")
    assert wrong == 0


_TRUSTED: dict[str, TrustedRegistry] = {}


def trusted_once(policy: str) -> TrustedRegistry:
    if policy not in _TRUSTED:
        _TRUSTED[policy] = trusted(WORLDS[policy])
    return _TRUSTED[policy]
