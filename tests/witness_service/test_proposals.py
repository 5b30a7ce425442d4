"""Two-person control: who may say what to a proposal, what ends it, and what every kind of it does."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from key_registry.base64_strict import encode
from key_registry.bundle import Bundle
from key_registry.canonical_json import JSONValue
from key_registry.public_key import PublicKey
from key_registry.record import Compromise, Destroyed, KeyAdd, LeadsChange, PolicyChange, Rotate, decode
from key_registry.replay import Registry
from tests.fix_service import ServeService, until
from tests.witness_service.chain import Chain
from tests.witness_service.judging import codes
from tests.witness_service.rotating import (
    approve,
    changed,
    propose,
    propose_rotation,
    reject,
    request,
    rotate,
    signatures,
    stop,
    witness_ids,
)
from witness_service import clock
from witness_service.lead_key import LeadKey
from witness_service.orders import REQUEST_TYPE, ProposalRequest
from witness_service.refusal import Code, Refused
from witness_service.wire.answers import ListedKey
from witness_service.wire.client import WitnessClient
from witness_service.wire.proposal_answers import ListedProposal

Leads = tuple[Path, ...]


@pytest.fixture
def quorum(quorum_service: ServeService) -> Iterator[WitnessClient]:
    """A connection to a service of the test's own, of whose three leads two decide."""
    with WitnessClient(quorum_service.start().address) as connected:
        yield connected


@pytest.fixture
def client(service: ServeService) -> Iterator[WitnessClient]:
    """A connection to a service of the test's own, whose one lead decides."""
    with WitnessClient(service.start().address) as connected:
        yield connected


def registry_of(client: WitnessClient) -> Registry:
    return Registry.replay(Bundle.from_json(client.bundle()).records, registry_id=client.status().registry_id)


def keys_of(client: WitnessClient) -> dict[str, ListedKey]:
    return {key.key_id: key for key in client.keys().keys}


def refused(work: Callable[[], object]) -> tuple[Code, str]:
    with pytest.raises(Refused) as caught:
        work()
    return caught.value.code, caught.value.reason


# -- who may say what -----------------------------------------------------------------------------------------------


def test_two_of_three(quorum: WitnessClient, leads: Leads) -> None:
    """One signature changes nothing, the second one of another lead does; the third comes too late and is told so."""
    (witness_id, _) = witness_ids(quorum.address)
    proposal = propose_rotation(quorum, witness_id)
    before = quorum.keys()
    first = approve(quorum, leads[0], proposal)
    assert (first.state, len(first.approved_by), first.missing) == ("open", 1, 1)
    assert quorum.keys() == before
    done = approve(quorum, leads[1], first)
    assert (done.state, done.missing) == ("done", 0)
    assert keys_of(quorum)[done.key_id].state == "open"
    assert refused(lambda: approve(quorum, leads[2], proposal)) == (Code.FAILED_PRECONDITION, "PROPOSAL_NOT_OPEN")


def test_case_10_approval_by_the_proposer(quorum: WitnessClient, leads: Leads) -> None:
    """Who asked for a change is not the second person: refused, keys unchanged; two others make the quorum."""
    (witness_id, _) = witness_ids(quorum.address)
    arguments = {"witness_id": witness_id, "algorithm": "", "reason": "rotation"}
    before = quorum.keys()
    proposal = propose(quorum, "rotate", leads[0], **arguments)
    assert proposal.proposer == LeadKey.load(leads[0]).public_key.key_id
    for _ in range(2):
        assert refused(lambda: approve(quorum, leads[0], proposal)) == (Code.PERMISSION_DENIED, "PROPOSER_APPROVES")
    approve(quorum, leads[1], proposal)
    assert refused(lambda: approve(quorum, leads[0], proposal)) == (Code.PERMISSION_DENIED, "PROPOSER_APPROVES")
    assert quorum.keys() == before
    assert approve(quorum, leads[2], proposal).state == "done"


def test_where_one_decides_the_proposer_may(service: ServeService, client: WitnessClient) -> None:
    """With a threshold of one, one lead proposes and approves."""
    arguments = {"witness_id": witness_ids(service.address)[0], "algorithm": "", "reason": "rotation"}
    proposal = propose(client, "rotate", service.lead_key, **arguments)
    assert approve(client, service.lead_key, proposal).state == "done"


def test_case_10_twice_by_one_lead(quorum: WitnessClient, leads: Leads) -> None:
    """The same signatures again are answered as there already, other ones refused; neither counts a second time."""
    (witness_id, _) = witness_ids(quorum.address)
    proposal = propose_rotation(quorum, witness_id)
    lead = LeadKey.load(leads[0])
    given = proposal.proposal_id, lead.public_key.key_id, signatures(lead, proposal)
    assert quorum.approve(*given)[1] is False
    again, already = quorum.approve(*given)
    assert (again.state, again.missing, already) == ("open", 1, True)
    with ThreadPoolExecutor(4) as pool:
        assert {item[1] for item in pool.map(lambda _: quorum.approve(*given), range(8))} == {True}
    assert quorum.proposal().missing == 1


def test_case_10_replayed(quorum: WitnessClient, leads: Leads) -> None:
    """Signatures of an earlier proposal of the same change are none of the next one."""
    (witness_id, _) = witness_ids(quorum.address)
    earlier = propose_rotation(quorum, witness_id)
    old = [signatures(LeadKey.load(lead), earlier) for lead in leads]
    quorum.abort(earlier.proposal_id)
    before = quorum.keys()
    proposal = propose_rotation(quorum, witness_id)
    for lead, given in zip(leads, old, strict=True):
        key_id = LeadKey.load(lead).public_key.key_id
        assert refused(lambda: quorum.approve(proposal.proposal_id, key_id, given)) == (  # noqa: B023 - called at once
            Code.INVALID_ARGUMENT,
            "BAD_APPROVAL",
        )
    assert quorum.keys() == before
    assert quorum.proposal().approved_by == ()


def test_the_same_request_again_is_the_same_proposal(quorum: WitnessClient) -> None:
    """A lost answer is asked for again: one proposal, one key. The id of another request is refused."""
    (witness_id, other) = witness_ids(quorum.address)
    asked = request(quorum, "rotate", witness_id=witness_id, algorithm="", reason="rotation")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: quorum.propose(asked.encode()), range(4)))
    assert len({item.key_id for item in made}) == 1
    changed_request = ProposalRequest(
        asked.registry_id, asked.proposal_id, "rotate", {**asked.arguments, "witness_id": other}, asked.created_at
    )
    assert refused(lambda: quorum.propose(changed_request.encode())) == (Code.ALREADY_EXISTS, "PROPOSAL_EXISTS")


BAD_REQUESTS: dict[str, tuple[Callable[[ProposalRequest], bytes], str]] = {
    "no JSON": (lambda _: b"", "FIELD_INVALID"),
    "respelt": (lambda it: b" " + it.encode(), "FIELD_INVALID"),
    "another registry": (
        lambda it: ProposalRequest("00" * 32, it.proposal_id, it.kind, it.arguments, it.created_at).encode(),
        "FIELD_INVALID",
    ),
    "unknown kind": (
        lambda it: ProposalRequest(it.registry_id, it.proposal_id, "reopen", it.arguments, it.created_at).encode(),
        "FIELD_INVALID",
    ),
    "old": (
        lambda it: ProposalRequest(
            it.registry_id, it.proposal_id, it.kind, it.arguments, "2020-01-01T00:00:00.000000Z"
        ).encode(),
        "FIELD_INVALID",
    ),
    "of the future": (
        lambda it: ProposalRequest(
            it.registry_id, it.proposal_id, it.kind, it.arguments, "2999-01-01T00:00:00.000000Z"
        ).encode(),
        "FIELD_INVALID",
    ),
    "an argument too many": (
        lambda it: ProposalRequest(
            it.registry_id, it.proposal_id, it.kind, {**it.arguments, "x": "y"}, it.created_at
        ).encode(),
        "FIELD_INVALID",
    ),
    "a drill of a witness of production": (
        lambda it: ProposalRequest(
            it.registry_id, it.proposal_id, it.kind, {**it.arguments, "reason": "drill"}, it.created_at
        ).encode(),
        "FIELD_INVALID",
    ),
}


def test_requests_that_propose_nothing(quorum: WitnessClient, leads: Leads) -> None:
    """What is not a request of now to this registry makes no key and no proposal; nor does a bad signature."""
    asked = request(quorum, "rotate", witness_id=witness_ids(quorum.address)[0], algorithm="", reason="rotation")
    for case, (make, reason) in BAD_REQUESTS.items():
        assert refused(lambda: quorum.propose(make(asked))) == (Code.INVALID_ARGUMENT, reason), case  # noqa: B023
    signed_otherwise = LeadKey.load(leads[0]).sign("text/plain", asked.encode())
    assert refused(lambda: quorum.propose(asked.encode(), signed_otherwise))[1] == "BAD_APPROVAL"
    assert quorum.proposals(ended=True) == []


def test_a_dry_run_makes_nothing(service: ServeService, client: WitnessClient) -> None:
    """No proposal and no key in the token; what needs no key is shown as it would be signed."""
    (witness_id, *_) = witness_ids(service.address)
    asked = request(client, "rotate", witness_id=witness_id, algorithm="", reason="rotation")
    draft = client.propose(asked.encode(), dry_run=True)
    assert (draft.state, draft.documents, draft.proposal_id) == ("drafted", (), "")
    key_id = client.keys().keys[0].key_id
    arguments = {"key_id": key_id, "reason": "a test", "suspected_since": None, "trusted_size": "0"}
    asked = request(client, "compromise", **arguments)
    assert len(client.propose(asked.encode(), dry_run=True).documents) == 1
    assert client.proposals(ended=True) == []


def test_a_dry_run_signs_nothing_that_stays(service: ServeService, client: WitnessClient) -> None:
    """The checkpoint in a record that is only tried is not among the stored ones."""
    chain = Chain()
    list(client.sign_stream([chain.events(0, 5)]))
    (key_id, *_) = keys_of(client)
    stop(client, service.lead_key, key_id)
    list(client.sign_stream([chain.events(5, 9)]))
    asked = request(client, "retire", key_id=key_id, reason="end")
    with service.auditor() as reader:
        count = "SELECT count(*) FROM witness.checkpoints WHERE log = 'statements' AND size = 9"
        assert reader.execute(count).fetchone() == (0,)
        (document,) = client.propose(asked.encode(), dry_run=True).documents
        assert reader.execute(count).fetchone() == (0,)
    assert b"\\n9\\n" in document.body


def test_asking_again_and_again_fills_no_token(service: ServeService, client: WitnessClient) -> None:
    """The key of a proposal that came to nothing is taken for the next of its kind, until the registry knows it."""
    (one, two, *_) = witness_ids(service.address)
    keys = set()
    for witness_id in (one, two, one):
        proposal = propose_rotation(client, witness_id)
        keys.add(proposal.key_id)
        client.abort(proposal.proposal_id)
    assert len(keys) == 1
    other = propose_rotation(client, one, "ecdsa-p256")
    client.abort(other.proposal_id)
    done = rotate(service.address, service.lead_key, one)
    assert done.key_id in keys
    fresh = propose_rotation(client, two)
    assert fresh.key_id not in {*keys, other.key_id}
    client.abort(fresh.proposal_id)
    logs = set()
    for _ in range(3):
        proposal = propose(client, "policy", policy=None, log_keys=["registry", "statements"], token_serial="")
        body = decode(proposal.documents[0].body)
        assert isinstance(body, PolicyChange)
        logs.add((body.logs.registry.public_key.key_id, body.logs.statements.public_key.key_id))
        client.abort(proposal.proposal_id)
    assert len(logs) == 1
    assert len(set(logs.pop())) == 2


def test_a_spare_key_that_is_gone_is_made_anew(service: ServeService, client: WitnessClient) -> None:
    """An operator who tidies the token up does not keep the next rotation from its key."""
    (witness_id, *_) = witness_ids(service.address)
    spare = propose_rotation(client, witness_id)
    client.abort(spare.proposal_id)
    body = decode(spare.documents[0].body)
    assert isinstance(body, KeyAdd)
    destroy_in_token(service, body.cka_id)
    assert rotate(service.address, service.lead_key, witness_id).key_id != spare.key_id
    assert [token.state for token in client.status().tokens] == ["ready"]


def test_what_no_signature_could_bring_in_is_refused_at_once(quorum: WitnessClient) -> None:
    """Nobody signs for an hour what the registry would not take: a second role, too many bytes, no change."""
    registry = registry_of(quorum)
    leads: list[JSONValue] = [
        {"name": lead.name, "public_key": encode(lead.public_key.spki)} for lead in registry.leads
    ]
    key = next(iter(registry.keys.values()))

    def with_lead(public_key: PublicKey) -> dict[str, JSONValue]:
        return {"leads": [*leads, {"name": "x", "public_key": encode(public_key.spki)}], "threshold": "2"}

    streams: list[JSONValue] = [f"stream {number}" for number in range(5000)]
    cases: list[tuple[str, dict[str, JSONValue]]] = [
        ("leads", with_lead(key.public_key)),
        ("leads", with_lead(registry.logs.statements.public_key)),
        ("leads", {"leads": leads, "threshold": "2"}),
        ("add-witness", {"streams": streams, "algorithm": "", "reason": "many", "token_serial": ""}),
        (
            "compromise",
            {**compromise_arguments(quorum, key.key_id), "suspected_since": "2999-01-01T00:00:00.000000Z"},
        ),
    ]
    for kind, arguments in cases:
        assert refused(lambda: propose(quorum, kind, **arguments))[1] == "FIELD_INVALID", kind  # noqa: B023
    assert quorum.proposals(ended=True) == []


# -- saying no ------------------------------------------------------------------------------------------------------


def test_rejected_when_the_quorum_cannot_be_reached(quorum: WitnessClient, leads: Leads) -> None:
    """Of three leads of whom two decide, one no leaves it open, the second one ends it; both reasons are kept."""
    proposal = propose_rotation(quorum, witness_ids(quorum.address)[0])
    assert reject(quorum, leads[0], proposal, "not announced").state == "open"
    assert refused(lambda: approve(quorum, leads[0], proposal))[1] == "ALREADY_REJECTED"
    assert refused(lambda: reject(quorum, leads[0], proposal))[1] == "ALREADY_REJECTED"
    ended = reject(quorum, leads[1], proposal, "nor to me")
    assert ended.state == "rejected"
    assert sorted(ended.rejected_by.values()) == ["nor to me", "not announced"]
    assert refused(lambda: approve(quorum, leads[2], proposal))[1] == "PROPOSAL_NOT_OPEN"


def test_who_proposed_is_missing_from_the_quorum_for_a_no_as_well(quorum: WitnessClient, leads: Leads) -> None:
    """With the proposer out, the no of one of the two others ends it."""
    arguments = {"witness_id": witness_ids(quorum.address)[0], "algorithm": "", "reason": "rotation"}
    proposal = propose(quorum, "rotate", leads[0], **arguments)
    assert reject(quorum, leads[1], proposal).state == "rejected"


def test_a_signature_is_not_taken_back(quorum: WitnessClient, leads: Leads) -> None:
    """Who has signed cannot reject; anybody can abort while the quorum is not there."""
    proposal = propose_rotation(quorum, witness_ids(quorum.address)[0])
    approve(quorum, leads[0], proposal)
    assert refused(lambda: reject(quorum, leads[0], proposal))[1] == "ALREADY_SIGNED"
    assert quorum.abort(proposal.proposal_id).state == "aborted"


# -- every kind -----------------------------------------------------------------------------------------------------


def test_a_new_witness(service: ServeService, client: WitnessClient) -> None:
    """It attests what its patterns cover, beside the others."""
    done = changed(
        client,
        service.lead_key,
        "add-witness",
        algorithm="ecdsa-p256",
        streams=["ledger", "books/*"],
        reason="growth",
        token_serial="",
    )
    key = keys_of(client)[done.key_id]
    assert (key.state, key.streams, key.algorithm, key.reason) == (
        "open",
        ("ledger", "books/*"),
        "ecdsa-p256",
        "growth",
    )
    chains = [Chain(f"books/{number}") for number in range(40)]
    signers = Counter(client.sign(chain.event(0))[0].key_id for chain in chains)
    assert signers[done.key_id] > 0
    assert sum(codes(service, chain)["VALID_KEY_ACTIVE"] for chain in chains) == 40


def test_other_leads(quorum: WitnessClient, leads: Leads, tmp_path: Path) -> None:
    """Old quorum and every new lead sign; from then on the new ones decide, and who left decides nothing."""
    dora = tmp_path / "dora.pem"
    public = LeadKey.create(dora, name="dora").public_key
    names = {lead.name: lead.public_key for lead in registry_of(quorum).leads} | {"dora": public}
    names.pop("carla")
    named = [{"name": name, "public_key": encode(key.spki)} for name, key in names.items()]
    proposal = propose(quorum, "leads", leads=named, threshold="2")
    assert approve(quorum, leads[2], proposal).missing == 3
    assert approve(quorum, leads[0], proposal).missing == 2
    assert approve(quorum, dora, proposal).missing == 1
    assert approve(quorum, leads[1], proposal).state == "done"
    assert isinstance(registry_of(quorum).records[-1], LeadsChange)
    assert [lead.name for lead in sorted(registry_of(quorum).leads, key=lambda it: it.name)] == ["anna", "ben", "dora"]
    rotation = propose_rotation(quorum, witness_ids(quorum.address)[0])
    assert refused(lambda: approve(quorum, leads[2], rotation)) == (Code.PERMISSION_DENIED, "NOT_A_LEAD")
    approve(quorum, dora, rotation)
    assert approve(quorum, leads[0], rotation).state == "done"


def test_new_log_keys_while_evidence_is_given_out(service: ServeService, client: WitnessClient) -> None:
    """Evidence from before the proposal, between it and the record, and after it: all of it is judged valid."""
    chain = Chain()
    list(client.sign_stream([chain.events(0, 5)]))
    proofs = [client.proof(chain.stream, 0)[0].tlog_proof]
    proposal = propose(client, "policy", policy=None, log_keys=["registry", "statements"], token_serial="")
    list(client.sign_stream([chain.events(5, 10)]))
    proofs.append(client.proof(chain.stream, 9)[0].tlog_proof)
    assert approve(client, service.lead_key, proposal).state == "done"
    list(client.sign_stream([chain.events(10, 15)]))
    proofs.append(client.proof(chain.stream, 14)[0].tlog_proof)
    registry = registry_of(client)
    assert isinstance(registry.records[-1], PolicyChange)
    assert registry.logs.key_ids.isdisjoint(registry.genesis.logs.key_ids)
    from key_registry.judge import judge
    from tests.witness_service.judging import ENVIRONMENTS, trusted

    found = [judge(trusted(service), proof, event_hash=None, environments=ENVIRONMENTS).code.name for proof in proofs]
    assert found == ["VALID_KEY_ACTIVE"] * 3
    assert codes(service, chain) == {"VALID_KEY_ACTIVE": 15}


def test_an_aborted_log_key_leaves_the_present_one(service: ServeService, client: WitnessClient) -> None:
    """Evidence of the time of a proposal that came to nothing is as good as any other."""
    chain = Chain()
    proposal = propose(client, "policy", policy=None, log_keys=["statements"], token_serial="")
    list(client.sign_stream([chain.events(0, 5)]))
    assert codes(service, chain) == {"VALID_KEY_ACTIVE": 5}
    client.abort(proposal.proposal_id)
    list(client.sign_stream([chain.events(5, 10)]))
    assert codes(service, chain) == {"VALID_KEY_ACTIVE": 10}


def test_a_key_that_is_destroyed(service: ServeService, client: WitnessClient) -> None:
    """Not while it is open, not while it is in its token; afterwards its attestations stay valid."""
    chain = Chain()
    list(client.sign_stream([chain.events(0, 30)]))
    (witness_id, *_) = witness_ids(service.address)
    done = rotate(service.address, service.lead_key, witness_id)
    assert refused(lambda: propose(client, "destroyed", key_id=done.key_id))[1] == "KEY_STATE"
    assert refused(lambda: propose(client, "destroyed", key_id=done.replaces))[1] == "KEY_STILL_THERE"
    before = codes(service, chain)
    destroy_in_token(service, registry_of(client).keys[done.replaces].cka_id)
    assert changed(client, service.lead_key, "destroyed", key_id=done.replaces).state == "done"
    assert isinstance(registry_of(client).records[-1], Destroyed)
    assert keys_of(client)[done.replaces].state == "destroyed"
    assert codes(service, chain) == before
    assert [token.state for token in client.status().tokens] == ["ready"]
    assert refused(lambda: propose(client, "destroyed", key_id=done.replaces))[1] == "KEY_STATE"
    assert service.stop() == 0
    service.start()


def destroy_in_token(service: ServeService, cka_id: bytes) -> None:
    """Destroy a key pair with the token's own tools."""
    import subprocess
    import sys

    section = service.configuration["tokens"][0]
    script = """
import sys, pkcs11
module, label, pin_file, cka_id = sys.argv[1:]
token = pkcs11.lib(module).get_token(token_label=label)
with token.open(rw=True, user_pin=open(pin_file).read().strip()) as session:
    found = [item for item in session.get_objects({pkcs11.Attribute.ID: bytes.fromhex(cka_id)})]
    for item in found:
        item.destroy()
assert found
"""
    subprocess.run(
        [sys.executable, "-c", script, section["module"], section["label"], section["pin_file"], cka_id.hex()],
        env=dict(section["environment"]),
        check=True,
        timeout=30,
    )


def test_a_destroyed_key_that_comes_back_ends_its_proposal(
    quorum_service: ServeService, quorum: WitnessClient, leads: Leads
) -> None:
    """With the quorum there and the key in its token again, nothing is recorded, and nothing is held up."""
    (witness_id, other) = witness_ids(quorum.address)
    rotation = propose_rotation(quorum, witness_id)
    approve(quorum, leads[0], rotation)
    assert approve(quorum, leads[1], rotation).state == "done"
    backup, token = quorum_service.folder / "backup", quorum_service.folder / "token"
    shutil.copytree(token, backup)
    destroy_in_token(quorum_service, registry_of(quorum).keys[rotation.replaces].cka_id)
    proposal = propose(quorum, "destroyed", key_id=rotation.replaces)
    approve(quorum, leads[0], proposal)
    assert quorum_service.stop() == 0
    shutil.rmtree(token)
    backup.rename(token)
    with WitnessClient(quorum_service.start().address) as client:
        ended = approve(client, leads[1], proposal)
        assert ended.state == "overtaken"
        assert "in its token again" in ended.note
        assert keys_of(client)[rotation.replaces].state == "closed"
        assert propose_rotation(client, other).state == "open"


# -- retire ---------------------------------------------------------------------------------------------------------


def test_retired_without_a_successor(service: ServeService, client: WitnessClient) -> None:
    """A key in use cannot be retired; a stopped one is closed by the leads at its seal, with its count."""
    chain = Chain()
    list(client.sign_stream([chain.events(0, 40)]))
    key_id = client.sign(chain.event(40))[0].key_id
    assert refused(lambda: propose(client, "retire", key_id=key_id, reason="end"))[1] == "KEY_IN_USE"
    stop(client, service.lead_key, key_id)
    done = changed(client, service.lead_key, "retire", key_id=key_id, reason="end")
    key = keys_of(client)[key_id]
    assert (key.state, str(key.signed_count)) == ("closed", done.facts["attestations"])
    assert key.signed_count is not None
    last = registry_of(client).records[-1]
    assert isinstance(last, Rotate)
    assert (last.close, last.reason) == (key_id, "end")
    list(client.sign_stream([chain.events(41, 60)]))
    assert codes(service, chain) == {"VALID_KEY_ROTATED": key.signed_count, "VALID_KEY_ACTIVE": 60 - key.signed_count}


def test_away_from_a_stopped_key(service: ServeService, client: WitnessClient) -> None:
    """The leads open the new key and close the old one in one step; the stopped key signs nothing of it."""
    chain = Chain()
    list(client.sign_stream([chain.events(0, 30)]))
    old = client.sign(chain.event(30))[0].key_id
    stop(client, service.lead_key, old)
    done = rotate(service.address, service.lead_key, keys_of(client)[old].witness_id)
    keys = keys_of(client)
    assert (keys[old].state, keys[done.key_id].state) == ("closed", "open")
    assert keys[old].closed == keys[done.key_id].opened
    envelope = registry_of(client).envelopes[-1]
    assert old not in {signature.key_id for signature in envelope.signatures}
    list(client.sign_stream([chain.events(31, 60)]))
    assert codes(service, chain)["VALID_KEY_ROTATED"] == keys[old].signed_count


def test_away_from_a_quarantined_key(service: ServeService, fault_module: Path) -> None:
    """The leads open the new key without it; what it had claimed keeps it from being closed until it is completed."""
    token = service.behind(fault_module)
    chain = Chain()
    with WitnessClient(service.start().address) as client:
        list(client.sign_stream([chain.events(0, 20)]))
        token.order("C_Sign", "flip", 0, 2)  # the first call only asks for the length
        assert refused(lambda: client.sign(chain.event(20))) == (Code.FAILED_PRECONDITION, "KEY_QUARANTINED")
        with service.auditor() as database:
            row = database.execute("SELECT encode(key_id, 'hex') FROM witness.unsealed").fetchone()
        assert row is not None
        old = row[0]
        done = rotate(service.address, service.lead_key, keys_of(client)[old].witness_id)
        assert "propose retire" in done.note
        assert (keys_of(client)[old].state, keys_of(client)[done.key_id].state) == ("open", "open")
        signed = [item[0] for item in (client.sign(event) for event in chain.events(21, 60))]
        assert done.key_id in {item.key_id for item in signed}
        # Nothing is chosen for it any more: the new key covers its streams.
        assert refused(lambda: propose(client, "retire", key_id=old, reason="bad"))[1] == "KEY_IN_USE"
    assert service.stop() == 0
    with WitnessClient(service.start().address) as client:
        until(lambda: len(client.get(chain.stream, 20)) == 1)
        assert changed(client, service.lead_key, "retire", key_id=old, reason="bad").state == "done"
        assert keys_of(client)[old].state == "closed"
    count = keys_of_closed(service, old)
    assert codes(service, chain) == {"VALID_KEY_ROTATED": count, "VALID_KEY_ACTIVE": 60 - count}


def keys_of_closed(service: ServeService, key_id: str) -> int:
    with WitnessClient(service.address) as client:
        count = keys_of(client)[key_id].signed_count
    assert count is not None
    return count


# -- compromise -----------------------------------------------------------------------------------------------------


def test_compromised_from_a_suspected_time(service: ServeService, client: WitnessClient) -> None:
    """The cut lies before the suspected time, with the right numbers on either side; then it can only be lowered."""
    chain = Chain()
    list(client.sign_stream([chain.events(0, 50)]))
    since = clock.now()
    later = [client.sign(event)[0] for event in chain.events(50, 80)]
    key_id = later[0].key_id
    mine = [item.leaf_index for item in later if item.key_id == key_id]
    arguments = {"key_id": key_id, "reason": "stolen", "suspected_since": since, "trusted_size": None}
    proposal = propose(client, "compromise", **arguments)
    assert proposal.facts["attestations_from_cut"] == str(len(mine))
    done = approve(client, service.lead_key, proposal)
    assert done.state == "done"
    record = registry_of(client).records[-1]
    assert isinstance(record, Compromise)
    assert record.trusted_size == 50
    key = keys_of(client)[key_id]
    assert (key.state, key.trusted_size, key.compromise_reason) == ("compromised", 50, "stolen")
    found = codes(service, chain)
    assert found["KEY_COMPROMISED"] == len(mine)
    assert found["VALID_BEFORE_COMPROMISE"] == int(proposal.facts["attestations_below_cut"])
    signed = [item[0] for item in (client.sign(event) for event in chain.events(80, 110))]
    assert key_id not in {item.key_id for item in signed}
    same = {**arguments, "trusted_size": "50"}
    assert refused(lambda: propose(client, "compromise", **same))[1] == "CUT_NOT_LOWER"
    changed(client, service.lead_key, "compromise", **{**arguments, "trusted_size": "10"})
    assert keys_of(client)[key_id].trusted_size == 10


def test_a_key_that_never_opened_is_compromised(service: ServeService, client: WitnessClient) -> None:
    """A key whose opening was overtaken can be distrusted: from position 0 on, without anybody naming a cut."""
    one, two, _ = witness_ids(service.address)
    rotation = propose_rotation(client, one)
    victim = next(key.key_id for key in client.keys().keys if key.witness_id == two)
    # Key-add and opening lie at two places; the lock holds the service up at the first one.
    with service.superuser() as blocker, ThreadPoolExecutor(1) as pool:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE witness.registry_records IN SHARE MODE")
        approving = pool.submit(approve, client, service.lead_key, rotation)
        until(lambda: waits_for_a_lock(service))
        # Made directly, because the service would have it wait for the lock too: an emergency for the second place.
        blocker.execute(EMERGENCY, (bytes.fromhex(victim),))
        blocker.execute("COMMIT")
        held = approving.result(60)
    assert held.state == "approved"
    assert keys_of(client)[rotation.key_id].state == "added"
    arguments = {"reason": "unsure", "suspected_since": None, "trusted_size": None}
    assert changed(client, service.lead_key, "compromise", key_id=rotation.key_id, **arguments).state == "done"
    until(lambda: client.proposal(rotation.proposal_id).state in ("approved", "overtaken"))
    key = keys_of(client)[rotation.key_id]
    assert (key.state, key.trusted_size, key.opened) == ("compromised", 0, None)


EMERGENCY = """
INSERT INTO witness.proposals (proposal_id, kind, key_id, request, facts, expires_at)
VALUES ('00000000-0000-4000-8000-00000000000e', 'compromise', %s, '', '{}', now() + interval '1 hour')
"""


def waits_for_a_lock(service: ServeService) -> bool:
    with service.superuser() as database:
        row = database.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
        return row is not None and row[0] > 0


# -- races ----------------------------------------------------------------------------------------------------------


def compromise_arguments(client: WitnessClient, key_id: str) -> dict[str, str | None]:
    return {"key_id": key_id, "reason": "stolen", "suspected_since": None, "trusted_size": "0"}


def test_an_emergency_goes_before_a_rotation(quorum: WitnessClient, leads: Leads) -> None:
    """While a compromise proposal is open, a rotation with its quorum waits; the record overtakes it and says so."""
    one, two = witness_ids(quorum.address)
    rotation = propose_rotation(quorum, one)
    approve(quorum, leads[0], rotation)
    victim = next(key.key_id for key in quorum.keys().keys if key.witness_id == two)
    emergency = propose(quorum, "compromise", **compromise_arguments(quorum, victim))
    held = approve(quorum, leads[1], rotation)
    assert (held.state, held.missing) == ("open", 0)
    assert rotation.key_id not in keys_of(quorum)
    approve(quorum, leads[0], emergency)
    assert approve(quorum, leads[2], emergency).state == "done"
    overtaken = quorum.proposal(rotation.proposal_id)
    assert overtaken.state == "overtaken"
    assert "another record" in overtaken.note
    assert refused(lambda: approve(quorum, leads[2], rotation))[1] == "PROPOSAL_NOT_OPEN"
    again = propose_rotation(quorum, one)
    approve(quorum, leads[0], again)
    assert approve(quorum, leads[1], again).state == "done"


def test_a_rotation_goes_on_when_the_emergency_is_called_off(quorum: WitnessClient, leads: Leads) -> None:
    """A compromise proposal that is aborted lets the rotation that waited for it go on by itself."""
    one, two = witness_ids(quorum.address)
    rotation = propose_rotation(quorum, one)
    victim = next(key.key_id for key in quorum.keys().keys if key.witness_id == two)
    emergency = propose(quorum, "compromise", **compromise_arguments(quorum, victim))
    assert refused(lambda: propose_rotation(quorum, two))[1] == "EMERGENCY_FIRST"
    approve(quorum, leads[0], rotation)
    approve(quorum, leads[1], rotation)
    quorum.abort(emergency.proposal_id)
    until(lambda: quorum.proposal(rotation.proposal_id).state == "done")


def test_case_47_two_replicas_approve_at_once(quorum_service: ServeService, leads: Leads) -> None:
    """The last signatures come to two instances at the same moment: the change is made once, both say so."""
    replica = quorum_service.replica()
    try:
        quorum_service.start()
        replica.start()
        with WitnessClient(quorum_service.address) as here, WitnessClient(replica.address) as there:
            for witness_id in witness_ids(here.address):
                proposal = propose_rotation(here, witness_id)
                with ThreadPoolExecutor(3) as pool:
                    pairs = zip((here, there, there), leads, strict=True)
                    approving = [pool.submit(approve, client, lead, proposal) for client, lead in pairs]
                    done = [future.exception() or future.result() for future in approving]
                # The third signature may come when two have done it.
                late = [item for item in done if isinstance(item, Refused)]
                assert len(late) <= 1
                assert {item.reason for item in late} <= {"PROPOSAL_NOT_OPEN"}
                assert all(isinstance(item, ListedProposal | Refused) for item in done)
                until(lambda: here.proposal(proposal.proposal_id).state == "done")  # noqa: B023
            keys = here.keys().keys
            assert Counter(key.state for key in keys) == {"open": 2, "closed": 2}
            assert registry_of(there).size == registry_of(here).size
    finally:
        replica.clean()


def test_who_leads_is_asked_anew_on_every_instance(
    quorum_service: ServeService, quorum: WitnessClient, leads: Leads, tmp_path: Path
) -> None:
    """Right after a change of leads another instance refuses the one who left, and takes the one who came."""
    registry = registry_of(quorum)
    (key_id, *_) = registry.keys
    gone = LeadKey.load(leads[0]).public_key.key_id
    dora = LeadKey.create(tmp_path / "dora.pem", name="dora").public_key
    named = [(it.name, it.public_key) for it in registry.leads if it.public_key.key_id != gone] + [("dora", dora)]
    asked: list[JSONValue] = [{"name": name, "public_key": encode(public_key.spki)} for name, public_key in named]
    replica = quorum_service.replica()
    try:
        replica.start()
        stop(quorum, leads[0], key_id)
        resumption = propose(quorum, "resume", key_id=key_id, reason="back")
        change = propose(quorum, "leads", leads=asked, threshold="2")
        with WitnessClient(replica.address) as there:
            for lead in (leads[1], leads[2], tmp_path / "dora.pem"):
                done = approve(quorum, lead, change)
            assert done.state == "done"
            assert refused(lambda: approve(there, leads[0], resumption))[1] == "NOT_A_LEAD"
            assert approve(there, tmp_path / "dora.pem", resumption).missing == 1
    finally:
        replica.clean()


def test_case_10_approvals_put_into_the_database(
    quorum_service: ServeService, quorum: WitnessClient, leads: Leads
) -> None:
    """Rows that say that leads have signed are no signatures: neither a resumption nor a record comes of them."""
    (key_id, *_) = keys_of(quorum)
    stop(quorum, leads[0], key_id)
    resumption = propose(quorum, "resume", key_id=key_id, reason="back")
    rotation = propose_rotation(quorum, witness_ids(quorum.address)[1])
    size = quorum.keys().registry_size
    with quorum_service.superuser() as administrator:
        for proposal in (resumption, rotation):
            for lead in leads[:2]:
                for position in range(len(proposal.documents)):
                    administrator.execute(
                        "INSERT INTO witness.approvals (proposal_id, lead_key_id, position, signature)"
                        " VALUES (%s, %s, %s, %s)",
                        (
                            proposal.proposal_id,
                            bytes.fromhex(LeadKey.load(lead).public_key.key_id),
                            position,
                            b"x" * 64,
                        ),
                    )
    assert quorum_service.stop() == 0
    with WitnessClient(quorum_service.start().address) as client:
        # The third lead's signatures are good, and still the only ones.
        for proposal in (resumption, rotation):
            answered = approve(client, leads[2], proposal)
            assert (answered.state, len(answered.approved_by), answered.missing) == ("open", 1, 1)
        assert keys_of(client)[key_id].state == "stopped"
        assert client.keys().registry_size == size


def test_the_store_keeps_what_was_proposed(quorum: WitnessClient, leads: Leads) -> None:
    """Everything that was asked, by whom, and what the leads said can be read again when it is over."""
    arguments = {"witness_id": witness_ids(quorum.address)[0], "algorithm": "", "reason": "rotation"}
    body = request(quorum, "rotate", **arguments).encode()
    quorum.propose(body, LeadKey.load(leads[0]).sign(REQUEST_TYPE, body))
    reject(quorum, leads[1], quorum.proposal(), "no")
    (listed,) = quorum.proposals(ended=True)
    assert (listed.request, listed.state, listed.kind) == (body, "rejected", "rotate")
    assert quorum.proposals() == []


@pytest.mark.parametrize("kind", ["compromise", "policy", "leads", "resume"])
def test_case_47_killed_with_the_quorum(service: ServeService, kind: str) -> None:
    """Killed when the last signature is stored and the change is not: the next start makes it, once."""
    service.start()
    with WitnessClient(service.address) as client, service.superuser() as blocker:
        key_id = client.keys().keys[0].key_id
        if kind == "resume":
            stop(client, service.lead_key, key_id)
        lead = registry_of(client).leads[0]
        arguments: dict[str, dict[str, JSONValue]] = {
            "compromise": {"key_id": key_id, "reason": "stolen", "suspected_since": None, "trusted_size": "0"},
            "policy": {"policy": None, "log_keys": ["statements"], "token_serial": ""},
            "leads": {
                "leads": [{"name": "renamed", "public_key": encode(lead.public_key.spki)}],
                "threshold": "1",
            },
            "resume": {"key_id": key_id, "reason": "back"},
        }
        proposal = propose(client, kind, **arguments[kind])
        size = client.keys().registry_size
        table = "key_orders" if kind == "resume" else "registry_records"
        blocker.execute("BEGIN")
        blocker.execute(f"LOCK TABLE witness.{table} IN SHARE MODE")
        with ThreadPoolExecutor(1) as pool:
            approving = pool.submit(approve, client, service.lead_key, proposal)
            until(lambda: waits_for_a_lock(service))
            service.kill()
            assert isinstance(approving.exception(30), Refused)
        blocker.execute("ROLLBACK")
    with WitnessClient(service.start().address) as client:
        until(lambda: client.proposal(proposal.proposal_id).state == "done")
        assert client.keys().registry_size == size + (kind != "resume")
        assert len(client.sign(Chain().event(0))) == 1
        key = keys_of(client)[key_id]
        assert key.state == {"compromise": "compromised"}.get(kind, "open")
