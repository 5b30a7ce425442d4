"""The paragraph about one verdict says everything an auditor asks next, and claims nothing that is not shown."""

import pytest

from key_registry.explanation import explain
from key_registry.judge import TrustedRegistry, judge, open_bundle
from key_registry.verdict import Code
from tests.key_registry.software_registry import (
    RotatedRegistry,
    SoftwareCosigner,
    SoftwareRegistry,
    event_hash,
    policy_of,
    witness,
)

WITHOUT_COSIGNERS = "nobody outside the operator has confirmed that there is only one history"


def opened(world: SoftwareRegistry, *cosigners: SoftwareCosigner) -> TrustedRegistry:
    trusted = open_bundle(world.bundle(cosigned_by=cosigners).to_json(), world.registry_id)
    assert isinstance(trusted, TrustedRegistry)
    return trusted


def explained(trusted: TrustedRegistry, evidence: bytes, code: Code) -> str:
    verdict = judge(trusted, evidence, event_hash=None, environments=frozenset({"production"}))
    assert verdict.code is code
    return explain(verdict, trusted)


def test_who_signed_what_when_and_by_which_key() -> None:
    """For a key that has been rotated since; every number in it can be looked up in the registry."""
    world = RotatedRegistry()
    trusted = world.open()
    text = explained(trusted, world.genuine(3), Code.VALID_KEY_ROTATED)
    key = world.registry.keys[world.a.key_id]
    for part in (
        Code.VALID_KEY_ROTATED.meaning,
        f'{witness(1)} signed that the event "event 3" (order.placed) with the hash {event_hash("orders", 3)}',
        'is at place 3 of the stream "orders"; by the signer\'s own clock',
        "stands at index 3 of the statement log",
        f"made by the key {world.a.key_id} (ed25519, on the token",
        f"was valid from index 0 to below 10; it was closed at {key.closed_at}, having signed 10 statements",
        "as the leads' record says, by their own clock",
        "Nobody outside the operator has confirmed by when it existed.",
        f"as of {trusted.as_of.time}: 8 registry records, 17 statements",
        "the registry id you pinned and on the records that 2 of 3 leads must sign",
        WITHOUT_COSIGNERS,
    ):
        assert part in text
    assert "has not been closed" in explained(world.open(), world.genuine(12), Code.VALID_KEY_ACTIVE)


def test_a_key_that_was_compromised_and_destroyed_since() -> None:
    """A qualified pass says from where on the key is distrusted, since when it was suspected, and why."""
    world = RotatedRegistry()
    evidence = world.genuine(3), world.genuine(8)
    world.compromise(world.a, 7, reason="the token was lost")
    world.destroy(world.a)
    text = explained(opened(world), evidence[0], Code.VALID_BEFORE_COMPROMISE)
    key = world.registry.keys[world.a.key_id]
    assert f"At {key.compromised_at} a quorum of the leads declared it compromised (the token was lost)" in text
    assert "what it signed at index 7 and above is distrusted" in text
    assert f"private key was destroyed, say the leads at {key.destroyed_at}" in text
    assert "declared it compromised" in explained(opened(world), evidence[1], Code.KEY_COMPROMISED)


def test_cosigners_are_named_and_their_times() -> None:
    """Under a policy the paragraph rests on the cosigners, with the interval they confirm, and not on the operator."""
    world = SoftwareRegistry()
    key = world.new_witness()
    cosigner = SoftwareCosigner("bystander")
    world.change_policy(policy_of(cosigner), cosigned_by=[cosigner])
    world.rotate(witness(1), closes=key)
    again = world.new_witness(2)
    index, signed = world.attest(again, 0)
    evidence = world.evidence(index, signed, cosigned_by=[cosigner])
    text = explained(opened(world, cosigner), evidence, Code.VALID_KEY_ACTIVE)
    assert "asks for cosigners (bystander); a quorum of them had seen these records and no more at" in text
    assert "It existed by" in text
    assert "as a quorum of cosigners confirmed" in text
    assert WITHOUT_COSIGNERS not in text


@pytest.mark.attacks
def test_what_is_not_shown_is_called_a_claim() -> None:
    """Before the signature has been checked nobody is said to have signed anything."""
    world = RotatedRegistry()
    forged = world.proven(world.sign(world.a, 3, witness_id=witness(2)))
    text = explained(world.open(), forged, Code.KEY_SCOPE)
    assert "it is a claim of whoever made the file" in text
    assert "signed that" not in text
    late = world.logged(world.sign(world.a, 40))
    assert "was valid from index 0 to below 10" in explained(world.open(), late, Code.KEY_NOT_ACTIVE)


def test_no_statement_and_no_registry() -> None:
    """Garbage, and a bundle that cannot be used: what is left to say is said."""
    world = RotatedRegistry()
    text = explained(world.open(), b"x", Code.BAD_FORMAT)
    assert text.startswith(Code.BAD_FORMAT.meaning)
    assert "signed that" not in text
    verdict = open_bundle(b"{}", world.registry_id)
    assert not isinstance(verdict, TrustedRegistry)
    assert explain(verdict, None) == Code.REGISTRY_INVALID.meaning
