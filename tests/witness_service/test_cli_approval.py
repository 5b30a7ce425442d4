"""What a lead checks before signing a key change."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from key_registry.record import RECORD_TYPE
from tests.key_registry.software_registry import SoftwareKey, SoftwareRegistry, witness
from witness_service.cli.approval import Approval, BadProposal, check_proposal
from witness_service.wire.answers import RotationProposal


class Scene:
    """A registry with two witnesses, and a proposal to give the first one a new key."""

    def __init__(self) -> None:
        self.registry = SoftwareRegistry()
        self.old = self.registry.new_witness(1)
        self.registry.new_witness(2)
        self.new = SoftwareKey("new")
        self.proposal = self.propose()

    def propose(self, **fields: Any) -> RotationProposal:
        """Return a proposal, with any field of its record exchanged."""
        return RotationProposal(
            proposal_id="00000000-0000-4000-8000-000000000000",
            witness_id=witness(1),
            state="open",
            record=self.registry.key_add(self.new, witness(1), **fields).encode(),
            payload_type=RECORD_TYPE,
            new_key_id=self.new.key_id,
            old_key_id=self.old.key_id,
            expires_at="2026-01-01T01:00:00.000000Z",
            approved_by=(),
            threshold=2,
        )

    def check(self, proposal: RotationProposal, lead: SoftwareKey | None = None, algorithm: str = "") -> Approval:
        return check_proposal(
            proposal,
            self.registry.registry,
            witness_id=witness(1),
            algorithm=algorithm,
            lead=(lead or self.registry.leads[0]).public,
        )


@pytest.fixture
def scene() -> Scene:
    """A registry and an honest proposal."""
    return Scene()


def test_an_honest_proposal_passes_and_is_told_in_words(scene: Scene) -> None:
    """The words name what the signature says: registry, witness, both keys, streams, token and attributes."""
    words = " ".join(scene.check(scene.proposal).in_words().values())
    for fact in (
        scene.registry.registry_id,
        witness(1),
        scene.old.key_id,
        scene.new.key_id,
        "extractable=false",
    ):
        assert fact in words


def test_a_rotation_that_stopped_half_way_can_be_taken_up(scene: Scene) -> None:
    """When the record stands in the registry already, signing it again changes nothing and is allowed."""
    scene.registry.add_key(scene.new, witness(1))
    standing = scene.registry.registry.envelopes[-1].body
    scene.check(replace(scene.proposal, record=standing, state="approved"))


LIES: dict[str, tuple[Callable[[Scene], RotationProposal], str]] = {
    "no record": (lambda it: replace(it.proposal, record=b""), "record"),
    "a record spelt otherwise": (lambda it: replace(it.proposal, record=b" " + it.proposal.record), "record"),
    "a record of another kind": (
        lambda it: replace(it.proposal, record=it.registry.rotation(witness(1), closes=it.old).encode()),
        "expected key-add, got rotate",
    ),
    "another payload type": (lambda it: replace(it.proposal, payload_type="text/plain"), "payload type"),
    "another registry": (lambda it: it.propose(registry_id="00" * 32), "registry id"),
    "another place": (lambda it: it.propose(seq=99), "another place"),
    "another past": (lambda it: it.propose(prev="00" * 32), "another place"),
    "another witness": (lambda it: it.propose(witness_id=witness(2)), "witness"),
    "another witness's old key": (lambda it: replace(it.proposal, old_key_id="00" * 32), "old key"),
    "another new key": (lambda it: replace(it.proposal, new_key_id="00" * 32), "key id"),
    "more streams": (lambda it: it.propose(streams=("*", "payments")), "streams"),
    "another algorithm": (lambda it: it.propose(algorithm="ecdsa-p256"), "algorithm"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lead_signs_nothing_but_what_was_asked_for(scene: Scene, name: str) -> None:
    """A service that slips something else under the lead's signature is found out on the lead's machine."""
    make, said = LIES[name]
    with pytest.raises(BadProposal, match=said):
        scene.check(make(scene))


def test_the_algorithm_that_was_asked_for_counts(scene: Scene) -> None:
    """A lead who asked for another algorithm does not sign a key of the old one."""
    with pytest.raises(BadProposal, match="algorithm"):
        scene.check(scene.proposal, algorithm="ecdsa-p256")


def test_only_a_lead_of_the_registry_signs(scene: Scene) -> None:
    """A key that is no lead's would sign in vain; the message comes before the signature."""
    with pytest.raises(BadProposal, match="lead key"):
        scene.check(scene.proposal, lead=SoftwareKey("stranger"))
