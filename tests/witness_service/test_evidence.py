"""What an auditor gets: evidence, bundles and history, each judged without the service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from key_registry.dsse import Envelope
from key_registry.evidence import Evidence
from key_registry.judge import TrustedRegistry, judge, open_bundle
from key_registry.record import previous_hash
from key_registry.replay import Registry
from key_registry.statement import Statement
from key_registry.verdict import Verdict
from tests.fix_service import DevService, ServeService
from tests.witness_service.chain import Chain, batches
from tests.witness_service.judging import ENVIRONMENTS, codes, evidence_of, signed_bytes, trusted
from tests.witness_service.rotating import approve, propose_rotation, rotate, witness_ids
from witness_service.refusal import Code, Refused
from witness_service.wire.client import WitnessClient


@pytest.fixture
def client(dev_service: DevService) -> Iterator[WitnessClient]:
    """A connection to the shared service."""
    with WitnessClient(dev_service.address) as connected:
        yield connected


def code(registry: TrustedRegistry, proof: bytes, event_hash: str | None = None, *, production: bool = False) -> str:
    environments = frozenset({"production"}) if production else ENVIRONMENTS
    return judge(registry, proof, event_hash=event_hash, environments=environments).code.name


def test_evidence_holds_what_was_signed(dev_service: DevService, client: WitnessClient) -> None:
    """A place's evidence is its attestation, byte for byte, with its index and a proof under a signed checkpoint."""
    chain = Chain()
    (attested,) = client.sign(chain.event(0))
    (file,) = client.proof(chain.stream, 0)
    assert (file.stream, file.sequence, file.key_id) == (chain.stream, 0, attested.key_id)
    evidence = Evidence.read(file.tlog_proof)
    assert evidence.proof is not None
    assert evidence.proof.index == attested.leaf_index
    assert signed_bytes(file.tlog_proof) == (attested.statement, attested.signature)
    registry = trusted(dev_service)
    assert code(registry, file.tlog_proof, chain.hash(0)) == "VALID_KEY_ACTIVE"
    assert code(registry, file.tlog_proof, chain.forked().hash(0)) == "EVENT_MISMATCH"
    assert code(registry, file.tlog_proof, chain.hash(0), production=True) == "WRONG_ENVIRONMENT"
    assert code(registry, evidence.envelope.to_json()) == "NOT_LOGGED"


def test_evidence_of_another_place_proves_nothing(dev_service: DevService, client: WitnessClient) -> None:
    """A proof belongs to one statement: put under another, and with any of its bits flipped, it is not valid."""
    chain = Chain()
    list(client.sign_stream([chain.events(0, 2)]))
    first, second = (Evidence.read(client.proof(chain.stream, sequence)[0].tlog_proof) for sequence in (0, 1))
    registry = trusted(dev_service)
    assert code(registry, Evidence(first.envelope, second.proof).to_bytes()) == "LOG_PROOF_INVALID"
    (signature,) = first.envelope.signatures
    forged = replace(signature, signature=bytes([signature.signature[0] ^ 1]) + signature.signature[1:])
    envelope = Envelope(first.envelope.payload_type, first.envelope.body, (forged,))
    assert code(registry, Evidence(envelope, first.proof).to_bytes()) == "BAD_SIGNATURE"


def test_evidence_for_a_range(dev_service: DevService, client: WitnessClient) -> None:
    """Every place of the range, in order, over more than one page, all under one checkpoint."""
    chain = Chain()
    list(client.sign_stream(batches(chain.events(10, 710), 100)))
    for first, last, expected in [
        (0, None, range(10, 710)),
        (0, 9, range(0)),
        (10, 10, range(10, 11)),
        (265, 266, range(265, 267)),
        (0, 2**63 - 1, range(10, 710)),
        (700, 5000, range(700, 710)),
        (710, None, range(0)),
        (20, 19, range(0)),
    ]:
        pages = list(client.list_proofs(chain.stream, first, last))
        assert [file.sequence for page in pages for file in page] == list(expected)
        notes = {
            proof.checkpoint
            for page in pages
            for file in page
            if (proof := Evidence.read(file.tlog_proof).proof) is not None
        }
        assert len(notes) == (1 if expected else 0)
    assert codes(dev_service, chain) == {"VALID_KEY_ACTIVE": 700}


@pytest.mark.parametrize(
    ("stream", "first", "last", "field"),
    [("", 0, None, "stream"), ("x", 2**63, None, "first_sequence"), ("x", 0, 2**64 - 1, "last_sequence")],
)
def test_a_range_that_cannot_be(client: WitnessClient, stream: str, first: int, last: int | None, field: str) -> None:
    """The field is named."""
    with pytest.raises(Refused) as caught:
        list(client.list_proofs(stream, first, last))
    assert (caught.value.code, caught.value.metadata["field"]) == (Code.INVALID_ARGUMENT, field)


def test_every_leaf_of_the_log_can_be_proved(service: ServeService) -> None:
    """Across tile borders (256 leaves) and with a log that grows between the requests, each proof holds."""
    chain = Chain()
    with WitnessClient(service.start().address) as client:
        for first, end in [(0, 1), (1, 255), (255, 256), (256, 257), (257, 600)]:
            list(client.sign_stream([chain.events(first, end)]))
            assert codes(service, chain) == {"VALID_KEY_ACTIVE": end}
        status = client.status()
        assert status.statement_size == 600
    with service.auditor() as database:
        ((root,),) = database.execute("SELECT root FROM witness.seals WHERE size = 600")
        assert bytes(root).hex() == status.statement_root


def test_an_old_bundle_does_not_judge_newer_evidence(service: ServeService) -> None:
    """What the old bundle does not cover is undecided with it, and valid with a new one; old evidence stays valid."""
    chain = Chain()
    with WitnessClient(service.start().address) as client:
        client.sign(chain.event(0))
        early = client.proof(chain.stream, 0)[0].tlog_proof
        old = open_bundle(client.bundle(), service.registry_id)
        client.sign(chain.event(1))
        late = client.proof(chain.stream, 1)[0].tlog_proof
        for witness_id in witness_ids(service.address):
            rotate(service.address, service.lead_key, witness_id)
        client.sign(chain.event(2))
        latest = client.proof(chain.stream, 2)[0].tlog_proof
        new = open_bundle(client.bundle(), service.registry_id)
    assert isinstance(old, TrustedRegistry)
    assert isinstance(new, TrustedRegistry)
    found = [[code(registry, proof) for proof in (early, late, latest)] for registry in (old, new)]
    assert found == [
        ["VALID_KEY_ACTIVE", "BUNDLE_TOO_OLD", "BUNDLE_TOO_OLD"],
        ["VALID_KEY_ROTATED", "VALID_KEY_ROTATED", "VALID_KEY_ACTIVE"],
    ]


def test_a_bundle_is_bound_to_its_registry(dev_service: DevService, client: WitnessClient) -> None:
    """It is judged by the id that the auditor pins, and falls when a record or its coverage is missing or swapped."""
    data = client.bundle()
    other = open_bundle(data, "00" * 32)
    assert isinstance(other, Verdict)
    assert other.code.name == "WRONG_REGISTRY"
    bundle = json.loads(data)
    for change in (
        bundle | {"records": bundle["records"][:-1]},
        bundle | {"records": [*bundle["records"][:-2], *bundle["records"][:-3:-1]]},
        bundle | {"registry_checkpoint": bundle["registry_checkpoint"].replace("registry", "statements")},
        bundle | {"coverage": bundle["records"][0]},
    ):
        verdict = open_bundle(json.dumps(change).encode(), dev_service.registry_id)
        assert isinstance(verdict, Verdict)
        assert verdict.code.name == "REGISTRY_INVALID"


def test_each_bundle_covers_what_was_signed_before_it(dev_service: DevService, client: WitnessClient) -> None:
    """Evidence asked for before the bundle can always be judged with it."""
    chain = Chain()
    for event in chain.events(0, 5):
        client.sign(event)
        proof = client.proof(chain.stream, event.sequence)[0].tlog_proof
        assert code(trusted(dev_service), proof, event.event_hash) == "VALID_KEY_ACTIVE"


# -- history --------------------------------------------------------------------------------------------------------


def test_history_at_a_position_and_at_a_time(service: ServeService) -> None:
    """Which key was valid is answered for any position of the log and for any time, with the records up to then."""
    chain = Chain()
    with WitnessClient(service.start().address) as client:
        list(client.sign_stream([chain.events(0, 50)]))
        witness_id, *others = witness_ids(service.address)
        before = client.history()
        first = rotate(service.address, service.lead_key, witness_id)
        list(client.sign_stream([chain.events(50, 100)]))
        between = client.history()
        second = rotate(service.address, service.lead_key, witness_id)
        list(client.sign_stream([chain.events(100, 150)]))
        now = client.history()
        assert client.history(position=49) == client.history(position=0) == before
        assert client.history(position=50) == client.history(position=99) == between
        assert client.history(position=100) == client.history(position=150) == now
        assert client.history(time=between.records[-1].created_at) == between
        assert client.history(time="9999-12-31T23:59:59.999999Z") == now
        genesis = client.history(time=now.records[0].created_at)
        assert [record.type for record in genesis.records] == ["genesis"]
        assert genesis.keys == ()
        for when, valid in [(0, first.replaces), (50, first.key_id), (100, second.key_id)]:
            keys = client.history(position=when, witness_id=witness_id).keys
            assert [key.key_id for key in keys if key.state == "open"] == [valid]
        mine = client.history(witness_id=witness_id)
        assert {key.witness_id for key in mine.keys} == {witness_id}
        assert all(other not in record.summary for other in others for record in mine.records)
    signed = {Statement.decode(signed_bytes(proof)[0]).key_id for proof in evidence_of(service, chain.stream).values()}
    assert signed <= {key.key_id for key in now.keys}


def test_history_while_a_key_waits_to_be_opened(service: ServeService) -> None:
    """A proposal is not history: its key appears when its record does."""
    with WitnessClient(service.start().address) as client:
        before = client.history()
        proposal = propose_rotation(client, witness_ids(service.address)[0])
        assert client.history() == before
        approve(client, service.lead_key, proposal)
        assert len(client.history().records) == len(before.records) + 3


def test_the_records_of_the_history_are_the_registry(dev_service: DevService, client: WitnessClient) -> None:
    """They replay by themselves, without the service's word for anything, to the keys that it lists."""
    history = client.history()
    assert [record.seq for record in history.records] == list(range(len(history.records)))
    envelopes = [Envelope.from_json(record.envelope) for record in history.records]
    assert previous_hash(envelopes[0]) == dev_service.registry_id
    registry = Registry.replay(envelopes, registry_id=dev_service.registry_id)
    assert list(registry.keys) == [key.key_id for key in history.keys]
    assert registry.root().hex() == client.status().registry_root


@pytest.mark.parametrize(
    ("time", "witness_id", "field"),
    [
        ("yesterday", "", "time"),
        ("2024-01-01", "", "time"),
        ("2024-02-30T00:00:00.000000Z", "", "time"),
        ("1970-01-01T00:00:00.000000Z", "", "time"),
        ("", "", "time"),
        (None, "WITNESS:00000000-0000-4000-8000-000000000000", "witness_id"),
        (None, "x" * 10_000, "witness_id"),
    ],
)
def test_a_history_that_cannot_be(client: WitnessClient, time: str | None, witness_id: str, field: str) -> None:
    """The field is named, and there is no answer about a time before the registry was."""
    with pytest.raises(Refused) as caught:
        client.history(time=time, witness_id=witness_id)
    assert (caught.value.code, caught.value.metadata["field"]) == (Code.INVALID_ARGUMENT, field)


def test_history_at_a_position_that_is_not_there_yet(client: WitnessClient) -> None:
    """What would be valid for the next attestation is what is valid now."""
    assert client.history(position=2**63 - 1) == client.history()
