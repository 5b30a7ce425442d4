"""What a lead checks before signing a change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from key_registry.base64_strict import encode
from key_registry.canonical_json import JSONValue
from key_registry.dsse import Envelope
from key_registry.record import (
    RECORD_TYPE,
    Compromise,
    Destroyed,
    KeyAdd,
    Lead,
    LeadsChange,
    PolicyChange,
    Rotate,
    previous_hash,
)
from tests.key_registry.software_registry import SoftwareKey, SoftwareRegistry, envelope, witness
from witness_service.cli.approval import Approval, BadProposal, check_proposal
from witness_service.cli.decide import find_proposal
from witness_service.cli.failure import Finding
from witness_service.cli.rotate import _joined
from witness_service.cli.words import change_words, document_words
from witness_service.orders import ProposalRequest, ResumeOrder
from witness_service.wire.client import WitnessClient
from witness_service.wire.proposal_answers import ListedDocument, ListedProposal

PROPOSAL_ID = "00000000-0000-4000-8000-000000000000"
TIME = "2026-01-01T00:30:00.000000Z"


class Scene:
    """A registry with two witnesses, and a proposal to give the first one a new key."""

    def __init__(self) -> None:
        self.registry = SoftwareRegistry()
        self.old = self.registry.new_witness(1)
        self.other = self.registry.new_witness(2)
        self.new = SoftwareKey("new")
        self.asked: dict[str, JSONValue] = {"witness_id": witness(1), "algorithm": "", "reason": "a new key"}
        self.proposal = self.rotate()

    def proposed(self, kind: str, asked: dict[str, JSONValue], *documents: tuple[str, bytes]) -> ListedProposal:
        request = ProposalRequest(self.registry.registry_id, PROPOSAL_ID, kind, asked, TIME)
        return ListedProposal(
            proposal_id=PROPOSAL_ID,
            kind=kind,
            witness_id=witness(1),
            key_id=self.new.key_id,
            replaces=self.old.key_id,
            state="open",
            documents=tuple(ListedDocument(*document) for document in documents),
            request=request.encode(),
            proposer="",
            approved_by=(),
            rejected_by={},
            threshold=2,
            missing=2,
            created_at=TIME,
            expires_at="2026-01-01T01:00:00.000000Z",
            facts={"attestations": "7", "attestations_below_cut": "3", "attestations_from_cut": "4"},
            note="",
        )

    def rotate(self, opening: dict[str, Any] | None = None, **fields: Any) -> ListedProposal:
        """Return the proposal, with any field of the key-add or of the opening exchanged."""
        key_add = self.registry.key_add(self.new, witness(1), **fields)
        return self.proposed(
            "rotate",
            self.asked,
            (RECORD_TYPE, key_add.encode()),
            (RECORD_TYPE, self.opening(key_add, **(opening or {})).encode()),
        )

    def opening(self, key_add: KeyAdd, **fields: Any) -> Rotate:
        body = self.registry.rotation(witness(1), opens=self.new, reason="a new key")
        prev = previous_hash(Envelope(RECORD_TYPE, key_add.encode(), ()))
        return replace(replace(body, seq=key_add.seq + 1, prev=prev), **fields)

    def one(self, kind: str, asked: dict[str, JSONValue], body: Any) -> ListedProposal:
        return self.proposed(kind, asked, (RECORD_TYPE, body.encode()))

    def check(self, proposal: ListedProposal, lead: SoftwareKey | None = None) -> Approval:
        return check_proposal(proposal, self.registry.registry, lead=(lead or self.registry.leads[0]).public)

    def words(self, proposal: ListedProposal) -> str:
        approval = self.check(proposal)
        words = [change_words(approval), *(document_words(body, approval) for body in approval.bodies)]
        return " | ".join(f"{name}: {value}" for said in words for name, value in said.items())


@pytest.fixture
def scene() -> Scene:
    """A registry and an honest proposal."""
    return Scene()


def test_an_honest_rotation_passes_and_is_told_in_words(scene: Scene) -> None:
    """The words name everything the signatures say: registry, places, witness, key, streams, token, attributes."""
    words = scene.words(scene.proposal)
    registry = scene.registry.registry
    for fact in (
        registry.registry_id,
        registry.last_hash,
        witness(1),
        scene.new.key_id,
        scene.new.cka_id.hex(),
        "extractable=false",
        "token 01",
        "reason: a new key",
        "service says, still needed: 2, of a quorum of 2",
        "service says, proposed by: an operator",
    ):
        assert fact in words


def test_a_change_that_stopped_half_way_can_be_taken_up(scene: Scene) -> None:
    """When the first record stands in the registry already, signing it again changes nothing and is allowed."""
    key_add = scene.registry.key_add(scene.new, witness(1))
    second = scene.opening(key_add).encode()
    scene.registry.append(envelope(RECORD_TYPE, key_add.encode(), scene.new, *scene.registry.quorum))
    scene.check(scene.proposed("rotate", scene.asked, (RECORD_TYPE, key_add.encode()), (RECORD_TYPE, second)))


LIES: dict[str, tuple[Callable[[Scene], ListedProposal], str]] = {
    "no record": (lambda it: it.proposed("rotate", it.asked, (RECORD_TYPE, b"")), "document"),
    "no documents": (lambda it: it.proposed("rotate", it.asked), "documents: expected KeyAdd, Rotate"),
    "one document": (lambda it: replace(it.proposal, documents=it.proposal.documents[:1]), "documents: expected"),
    "one more document": (lambda it: replace(it.proposal, documents=it.proposal.documents * 2), "documents: expected"),
    "a record spelt otherwise": (
        lambda it: replace(
            it.proposal,
            documents=(ListedDocument(RECORD_TYPE, b" " + it.proposal.documents[0].body), it.proposal.documents[1]),
        ),
        "document",
    ),
    "a record as another kind": (lambda it: replace(it.proposal, kind="add-witness"), "documents"),
    "another payload type": (
        lambda it: it.proposed("rotate", it.asked, ("text/plain", it.proposal.documents[0].body)),
        "payload type",
    ),
    "another registry": (lambda it: it.rotate(registry_id="00" * 32), "registry id"),
    "another registry in the second": (lambda it: it.rotate({"registry_id": "00" * 32}), "registry id"),
    "another place": (lambda it: it.rotate(seq=99), "another place"),
    "another past": (lambda it: it.rotate(prev="00" * 32), "another place"),
    "a gap between the two": (lambda it: it.rotate({"seq": 99}), "another place"),
    "another witness": (lambda it: it.rotate(witness_id=witness(2)), "witness"),
    "another witness opens": (lambda it: it.rotate({"witness_id": witness(2)}), "witness"),
    "another key opens": (lambda it: it.rotate({"open": it.old.key_id}), "opened key"),
    "more streams": (lambda it: it.rotate(streams=("*", "payments")), "streams"),
    "another algorithm": (
        lambda it: it.rotate(algorithm="ecdsa-p256", public_key=SoftwareKey("p", "ecdsa-p256").public.spki),
        "algorithm",
    ),
    "another reason": (lambda it: it.rotate(reason="drill"), "reason"),
    "another witness's key closes": (
        lambda it: it.rotate(
            {"close": next(key for key in it.registry.registry.keys if key != it.old.key_id), "count": 0}
        ),
        "old key",
    ),
    "a log key as the new key": (
        lambda it: it.rotate(public_key=it.registry.statements.key.public.spki),
        "another role",
    ),
    "a lead's key as the new key": (
        lambda it: it.rotate(public_key=it.registry.leads[0].public.spki),
        "another role",
    ),
    "another witness's key as the new key": (
        lambda it: it.rotate(public_key=it.other.public.spki),
        "new to the registry",
    ),
    "the request of another proposal": (
        lambda it: replace(it.proposal, proposal_id=PROPOSAL_ID.replace("0", "1", 1)),
        "proposal id",
    ),
    "a checkpoint of nobody": (
        lambda it: it.rotate({"checkpoint": it.registry.registry_log.checkpoint()}),
        "document",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lead_signs_nothing_but_what_was_asked_for(scene: Scene, name: str) -> None:
    """A service that slips something else under the lead's signature is found out on the lead's machine."""
    make, said = LIES[name]
    with pytest.raises(BadProposal, match=said):
        scene.check(make(scene))


def test_the_request_that_was_made_counts(scene: Scene) -> None:
    """A proposal that answers another request than the one made on this machine is not signed."""
    mine = ProposalRequest(scene.registry.registry_id, PROPOSAL_ID, "rotate", {**scene.asked, "algorithm": "x"}, TIME)
    with pytest.raises(BadProposal, match="request"):
        check_proposal(scene.proposal, scene.registry.registry, asked=mine)


def test_the_proposal_that_was_named_counts(scene: Scene) -> None:
    """A service that answers with another proposal than the one a lead has named is found out."""

    class Liar(WitnessClient):
        def __init__(self) -> None:
            """Speak to nobody."""

        def proposal(self, proposal_id: str = "") -> ListedProposal:
            return scene.proposal

        def proposals(self, *, ended: bool = False) -> list[ListedProposal]:
            return [replace(scene.proposal, witness_id=witness(2))]

    assert find_proposal(Liar(), PROPOSAL_ID) == scene.proposal
    with pytest.raises(Finding, match="expected proposal"):
        find_proposal(Liar(), PROPOSAL_ID.replace("0", "1", 1))
    with pytest.raises(Finding, match="got one of another"):
        _joined(Liar(), scene.registry.registry, witness(2))


def test_only_a_lead_of_the_registry_signs(scene: Scene) -> None:
    """A key that is no lead's would sign in vain; the message comes before the signature."""
    with pytest.raises(BadProposal, match="lead key"):
        scene.check(scene.proposal, lead=SoftwareKey("stranger"))


# -- the other kinds: what is honest passes and is told, what differs does not ---------------------------------------


def link(scene: Scene) -> dict[str, Any]:
    return scene.registry.link()


def test_compromise(scene: Scene) -> None:
    """Both numbers are told; key, cut, time and reason must be the ones asked for."""
    asked: dict[str, JSONValue] = {
        "key_id": scene.old.key_id,
        "reason": "stolen",
        "suspected_since": TIME,
        "trusted_size": "0",
    }
    body = Compromise(**link(scene), witness_id=witness(1), key_id=scene.old.key_id, trusted_size=0,
                      suspected_since=TIME, reason="stolen")  # fmt: skip
    words = scene.words(scene.one("compromise", asked, body))
    for fact in (scene.old.key_id, TIME, "stolen", "3 attestations", "4 from it on", "7 in all", "position 0 on"):
        assert fact in words
    for lie in (
        {"trusted_size": 1},
        {"key_id": scene.new.key_id},
        {"reason": "lost"},
        {"suspected_since": None},
        {"witness_id": witness(2)},
    ):
        with pytest.raises(BadProposal):
            scene.check(scene.one("compromise", asked, replace(body, **lie)))


def test_leads(scene: Scene) -> None:
    """Who joins, leaves and stays is told, with the quorum; another set is not signed."""
    dora = SoftwareKey("dora")
    present = scene.registry.registry.leads
    leads = tuple(sorted((*present[1:], Lead("dora", dora.public)), key=lambda it: it.public_key.key_id))
    body = LeadsChange(**link(scene), leads=leads, threshold=3)
    asked: dict[str, JSONValue] = {
        "leads": [{"name": it.name, "public_key": encode(it.public_key.spki)} for it in leads],
        "threshold": "3",
    }
    words = scene.words(scene.one("leads", asked, body))
    assert f"joins: dora ({dora.key_id}" in words
    assert f"leaves: {present[0].name}" in words
    assert "quorum: 3 of 3; so far 2 of 3" in words
    for other in (replace(body, threshold=2), replace(body, leads=leads[1:], threshold=2)):
        with pytest.raises(BadProposal):
            scene.check(scene.one("leads", asked, other))
    assert scene.check(scene.one("leads", asked, body), lead=dora)


def test_policy(scene: Scene) -> None:
    """The quorum is told in words, beside the present one; a log key that nobody asked for is not signed."""
    from key_registry.cosignature import Cosigner, vkey

    names = ("north", "south")
    cosigners = [Cosigner(name, f"{name}.example/w", SoftwareKey(name).public) for name in names]
    text = "".join(f"witness {it.name} {vkey(it)} https://{it.name}.example/\n" for it in cosigners)
    text += "group both all north south\nquorum both\n"
    body = PolicyChange(
        **link(scene), policy=text, logs=scene.registry.registry.logs, checkpoint=scene.registry.statements.checkpoint()
    )
    asked: dict[str, JSONValue] = {"policy": text, "log_keys": [], "token_serial": ""}
    words = scene.words(scene.one("policy", asked, body))
    assert "cosigners: 2 of 2: north, south" in words
    assert "so far: none are asked" in words
    assert "+quorum both" in words
    with pytest.raises(BadProposal, match="policy"):
        scene.check(scene.one("policy", asked, replace(body, policy="none")))
    renewed: dict[str, JSONValue] = {**asked, "log_keys": ["statements"]}
    with pytest.raises(BadProposal, match="log key"):
        scene.check(scene.one("policy", renewed, body))


def test_retire_and_destroyed_and_resume(scene: Scene) -> None:
    """Each names its key and reason, and nothing else passes for it."""
    closing = scene.registry.rotation(witness(1), closes=scene.old, reason="end")
    asked: dict[str, JSONValue] = {"key_id": scene.old.key_id, "reason": "end"}
    assert f"key {scene.old.key_id} is not valid any more; it has signed 0" in scene.words(
        scene.one("retire", asked, closing)
    )
    lies: tuple[dict[str, Any], ...] = ({"open": scene.new.key_id}, {"reason": "start"}, {"witness_id": witness(2)})
    for lie in lies:
        with pytest.raises(BadProposal):
            scene.check(scene.one("retire", asked, replace(closing, **lie)))
    gone = Destroyed(**link(scene), witness_id=witness(1), key_id=scene.old.key_id)
    assert "destroyed" in scene.words(scene.one("destroyed", {"key_id": scene.old.key_id}, gone))
    with pytest.raises(BadProposal):
        scene.check(scene.one("destroyed", {"key_id": scene.new.key_id}, gone))
    order = ResumeOrder(scene.registry.registry_id, scene.old.key_id, 2, "end", TIME)
    proposal = scene.proposed("resume", asked, (ResumeOrder.PAYLOAD_TYPE, order.encode()))
    assert "may sign again" in scene.words(proposal)
    lies = ({"registry_id": "00" * 32}, {"key_id": "00" * 32}, {"reason": "start"})
    for lie in lies:
        other = replace(order, **lie)
        with pytest.raises(BadProposal):
            scene.check(scene.proposed("resume", asked, (ResumeOrder.PAYLOAD_TYPE, other.encode())))
    record_as_order = scene.proposed("resume", asked, (RECORD_TYPE, gone.encode()))
    with pytest.raises(BadProposal, match="documents"):
        scene.check(record_as_order)
