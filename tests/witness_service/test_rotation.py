"""Rotating a witness's key: while writers write, with every refusal a lead can meet, and through a crash."""

from __future__ import annotations

import copy
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from key_registry.bundle import Bundle
from key_registry.replay import Registry
from key_registry.statement import Statement
from tests.fix_service import ServeService, copy_token, until
from tests.witness_service.chain import Chain, batches
from tests.witness_service.judging import check_log, check_stored, codes, stored
from tests.witness_service.rotating import approve, propose_rotation, rotate, signatures, stop, witness_ids
from witness_service.event import Attested, Event
from witness_service.lead_key import LeadKey
from witness_service.orders import STOP_TYPE
from witness_service.refusal import Code, Refused
from witness_service.wire.answers import ListedKey
from witness_service.wire.client import WitnessClient
from witness_service.wire.proposal_answers import ListedProposal


@pytest.fixture
def client(service: ServeService) -> Iterator[WitnessClient]:
    """A connection to a service of the test's own, which serves."""
    with WitnessClient(service.start().address) as connected:
        yield connected


def key_of(client: WitnessClient, key_id: str) -> ListedKey:
    (found,) = [key for key in client.keys().keys if key.key_id == key_id]
    return found


class Writers:
    """Eight writers, each with a chain of its own; `signed` holds what they got, when they have stopped."""

    def __init__(self, address: str) -> None:
        self.signed: dict[Chain, list[Attested]] = {}
        self._address = address
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(8)
        self._writing = {chain: self._pool.submit(self._write, chain) for chain in (Chain() for _ in range(8))}
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with self._pool:
            self.signed = {chain: future.result(60) for chain, future in self._writing.items()}

    def _write(self, chain: Chain) -> list[Attested]:
        signed: list[Attested] = []
        with WitnessClient(self._address) as client:
            for outcomes in client.sign_stream(self._events(chain), window=4):
                for outcome in outcomes:
                    assert isinstance(outcome, tuple), outcome
                    signed.append(outcome[0])
        return signed

    def _events(self, chain: Chain) -> Iterator[list[Event]]:
        start = 0
        while not self._stopping.is_set():
            yield chain.events(start, start + 5)
            start += 5


def test_rotating_under_load(service: ServeService) -> None:
    """Eight writers notice nothing while every key is replaced; each signature counts for the key that made it.

    What a closing record counts is what the auditor finds in the statement log, and no leaf lies outside its key.
    """
    service.start()
    with Writers(service.address) as writers:
        rotations = [
            rotate(service.address, service.lead_key, witness_id) for witness_id in witness_ids(service.address)
        ]
    check_rotated(service, writers, rotations)


def test_rotating_on_another_instance(service: ServeService) -> None:
    """Writers of one instance notice nothing while the keys are replaced through another, which made the new ones."""
    replica = service.replica()
    try:
        service.start()
        replica.start()
        with Writers(replica.address) as writers:
            rotations = [
                rotate(service.address, service.lead_key, witness_id) for witness_id in witness_ids(service.address)
            ]
        check_rotated(service, writers, rotations)
    finally:
        replica.clean()


def check_rotated(service: ServeService, writers: Writers, rotations: list[ListedProposal]) -> None:
    """Check what the writers got against the keys' records, the database and an auditor's judgement."""
    with WitnessClient(service.address) as client:
        keys = {key.key_id: key for key in client.keys().keys}
    everything = [item for items in writers.signed.values() for item in items]
    signed_by = Counter(item.key_id for item in everything)
    for rotation in rotations:
        old, new = keys[rotation.replaces], keys[rotation.key_id]
        assert (old.state, new.state) == ("closed", "open")
        assert old.signed_count == signed_by[old.key_id]
        assert old.closed is not None
        assert new.opened is not None
        assert new.opened <= old.closed
    assert len({item.key_id for item in everything} & {rotation.key_id for rotation in rotations}) > 0
    for item in everything:
        key = keys[item.key_id]
        assert key.opened is not None
        assert key.opened <= item.leaf_index
        assert key.closed is None or item.leaf_index < key.closed
    with service.auditor() as database:
        for chain, items in writers.signed.items():
            assert len(check_stored(database, chain.stream, items)) == len(items)
        check_log(database)
    for chain, items in writers.signed.items():
        rotated = sum(keys[item.key_id].state == "closed" for item in items)
        assert codes(service, chain) == Counter(
            {"VALID_KEY_ROTATED": rotated, "VALID_KEY_ACTIVE": len(items) - rotated}
        )


def test_another_algorithm_by_rotation(service: ServeService, client: WitnessClient) -> None:
    """A witness changes to P-256 and back: each signature is raw r || s or Ed25519, and each is judged valid."""
    chain = Chain()
    for witness_id in witness_ids(service.address):
        done = rotate(service.address, service.lead_key, witness_id, "ecdsa-p256")
        assert key_of(client, done.key_id).algorithm == "ecdsa-p256"
    for outcomes in client.sign_stream(batches(chain.events(0, 100), 20)):
        for outcome in outcomes:
            assert isinstance(outcome, tuple), outcome
            assert len(outcome[0].signature) == 64
            assert key_of(client, outcome[0].key_id).algorithm == "ecdsa-p256"
    again = client.get(chain.stream, 50)
    assert client.sign(chain.event(50)) == again
    for witness_id in witness_ids(service.address):
        same = rotate(service.address, service.lead_key, witness_id)
        assert key_of(client, same.key_id).algorithm == "ecdsa-p256"
        rotate(service.address, service.lead_key, witness_id, "ed25519")
    client.sign(chain.event(100))
    assert codes(service, chain) == {"VALID_KEY_ROTATED": 100, "VALID_KEY_ACTIVE": 1}


def test_a_key_that_never_signed_can_be_replaced(service: ServeService, client: WitnessClient) -> None:
    """Opened and closed at one size of the log, it counts nothing; its witness signs on with the new key."""
    (witness_id, *_) = witness_ids(service.address)
    first = rotate(service.address, service.lead_key, witness_id)
    second = rotate(service.address, service.lead_key, witness_id)
    old = key_of(client, first.key_id)
    assert second.replaces == first.key_id
    assert (old.state, old.signed_count, old.opened) == ("closed", 0, old.closed)
    chain = Chain()
    list(client.sign_stream([chain.events(0, 30)]))
    assert codes(service, chain) == {"VALID_KEY_ACTIVE": 30}


# -- what a lead can meet -------------------------------------------------------------------------------------------


Approval = tuple[str, str, list[bytes]]


def signed_by_lead(service: ServeService, proposal: ListedProposal) -> Approval:
    return signed_by(LeadKey.load(service.lead_key), proposal)


def signed_by(lead: LeadKey, proposal: ListedProposal) -> Approval:
    return proposal.proposal_id, lead.public_key.key_id, signatures(lead, proposal)


def with_first(service: ServeService, proposal: ListedProposal, first: bytes) -> Approval:
    """Return the lead's approval with another signature over the first document."""
    proposal_id, key_id, (_, *others) = signed_by_lead(service, proposal)
    return proposal_id, key_id, [first, *others]


def flipped(approval: Approval, position: int) -> Approval:
    proposal_id, key_id, given = approval
    given[position] = bytes([given[position][0] ^ 1]) + given[position][1:]
    return proposal_id, key_id, given


BAD_APPROVALS: dict[str, tuple[Callable[[ServeService, ListedProposal, Path], Approval], Code, str]] = {
    "flipped bit": (
        lambda service, proposal, _: flipped(signed_by_lead(service, proposal), 0),
        Code.INVALID_ARGUMENT,
        "BAD_APPROVAL",
    ),
    "flipped bit in the last signature": (
        lambda service, proposal, _: flipped(signed_by_lead(service, proposal), -1),
        Code.INVALID_ARGUMENT,
        "BAD_APPROVAL",
    ),
    "empty signature": (
        lambda service, proposal, _: with_first(service, proposal, b""),
        Code.INVALID_ARGUMENT,
        "BAD_APPROVAL",
    ),
    "signature of 9,000 bytes": (
        lambda service, proposal, _: with_first(service, proposal, b"x" * 9000),
        Code.INVALID_ARGUMENT,
        "BAD_APPROVAL",
    ),
    "the record signed as another type": (
        lambda service, proposal, _: with_first(
            service,
            proposal,
            LeadKey.load(service.lead_key).sign(STOP_TYPE, proposal.documents[0].body).signature,
        ),
        Code.INVALID_ARGUMENT,
        "BAD_APPROVAL",
    ),
    "the documents exchanged": (
        lambda service, proposal, _: (
            *signed_by_lead(service, proposal)[:2],
            signed_by_lead(service, proposal)[2][::-1],
        ),
        Code.INVALID_ARGUMENT,
        "BAD_APPROVAL",
    ),
    "one document unsigned": (
        lambda service, proposal, _: (
            *signed_by_lead(service, proposal)[:2],
            signed_by_lead(service, proposal)[2][:1],
        ),
        Code.INVALID_ARGUMENT,
        "FIELD_INVALID",
    ),
    "somebody else's key": (
        lambda _, proposal, folder: signed_by(LeadKey.create(folder / "stranger.pem"), proposal),
        Code.PERMISSION_DENIED,
        "NOT_A_LEAD",
    ),
    "the new key's own id": (
        lambda service, proposal, _: (proposal.proposal_id, proposal.key_id, signed_by_lead(service, proposal)[2]),
        Code.PERMISSION_DENIED,
        "NOT_A_LEAD",
    ),
    "no key id": (
        lambda service, proposal, _: (proposal.proposal_id, "", signed_by_lead(service, proposal)[2]),
        Code.PERMISSION_DENIED,
        "NOT_A_LEAD",
    ),
    "key id of 100,000 characters": (
        lambda service, proposal, _: (proposal.proposal_id, "é" * 100_000, signed_by_lead(service, proposal)[2]),
        Code.PERMISSION_DENIED,
        "NOT_A_LEAD",
    ),
    "unknown proposal": (
        lambda service, proposal, _: (str(uuid.uuid4()), *signed_by_lead(service, proposal)[1:]),
        Code.NOT_FOUND,
        "UNKNOWN_PROPOSAL",
    ),
    "no proposal id": (
        lambda service, proposal, _: ("not a UUID", *signed_by_lead(service, proposal)[1:]),
        Code.INVALID_ARGUMENT,
        "FIELD_INVALID",
    ),
}


def test_case_10_what_is_no_approval(service: ServeService, client: WitnessClient, tmp_path: Path) -> None:
    """Each is refused with its reason and the keys stay as they are; the right signature is taken after all of them."""
    before = client.keys()
    proposal = propose_rotation(client, witness_ids(service.address)[0])
    for case, (approval, code, reason) in BAD_APPROVALS.items():
        with pytest.raises(Refused) as caught:
            client.approve(*approval(service, proposal, tmp_path))
        assert (caught.value.code, caught.value.reason) == (code, reason), case
        assert client.proposal() == proposal, case
    assert client.keys() == before
    assert approve(client, service.lead_key, proposal).state == "done"


def test_case_10_approved_twice(service: ServeService, client: WitnessClient) -> None:
    """The same approval again, at once or later, changes nothing more."""
    proposal = propose_rotation(client, witness_ids(service.address)[0])
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: approve(client, service.lead_key, proposal), range(8)))
    assert {item.state for item in done} == {"done"}
    after = client.keys()
    assert approve(client, service.lead_key, proposal).state == "done"
    assert client.keys() == after
    assert sum(key.state == "open" for key in after.keys) == 3


def test_a_second_proposal_while_one_runs(service: ServeService, client: WitnessClient) -> None:
    """One rotation at a time, whoever asks; aborted, it makes room for the next, and its key is never used."""
    one, two, _ = witness_ids(service.address)
    proposal = propose_rotation(client, one)
    for witness_id in (one, two):
        with pytest.raises(Refused) as caught:
            propose_rotation(client, witness_id)
        assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "ROTATION_RUNS")
    assert client.abort(proposal.proposal_id).state == "aborted"
    with pytest.raises(Refused) as caught:
        approve(client, service.lead_key, proposal)
    assert caught.value.reason == "PROPOSAL_NOT_OPEN"
    with pytest.raises(Refused) as caught:
        client.abort(proposal.proposal_id)
    assert caught.value.reason == "PROPOSAL_NOT_OPEN"
    assert proposal.key_id not in {key.key_id for key in client.keys().keys}
    assert rotate(service.address, service.lead_key, two).witness_id == two


def test_proposals_at_once(service: ServeService, client: WitnessClient) -> None:
    """Of several proposals at the same moment one is made, the others are told that one runs."""
    (witness_id, *_) = witness_ids(service.address)

    def propose(_: int) -> str:
        try:
            return propose_rotation(client, witness_id).state
        except Refused as refused:
            return refused.reason

    with ThreadPoolExecutor(6) as pool:
        assert Counter(pool.map(propose, range(6))) == {"open": 1, "ROTATION_RUNS": 5}


def test_case_10_an_expired_proposal(service: ServeService) -> None:
    """Not approved in time, a proposal can never be approved again, and makes room for the next."""
    service.configuration["limits"] = {"proposal_seconds": 0.5}
    with WitnessClient(service.start().address) as client:
        (witness_id, *_) = witness_ids(service.address)
        proposal = propose_rotation(client, witness_id)
        until(lambda: client.proposal(proposal.proposal_id).state == "expired")
        before = client.keys()
        with pytest.raises(Refused) as caught:
            approve(client, service.lead_key, proposal)
        assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "PROPOSAL_NOT_OPEN")
        assert client.keys() == before
        assert propose_rotation(client, witness_id).state == "open"


@pytest.mark.parametrize(
    ("witness_id", "algorithm", "code", "reason"),
    [
        ("WITNESS:00000000-0000-4000-8000-000000000000", "", Code.NOT_FOUND, "UNKNOWN_WITNESS"),
        ("", "", Code.NOT_FOUND, "UNKNOWN_WITNESS"),
        ("x" * 100_000, "", Code.NOT_FOUND, "UNKNOWN_WITNESS"),
        (None, "rsa", Code.INVALID_ARGUMENT, "FIELD_INVALID"),
        (None, "ED25519", Code.INVALID_ARGUMENT, "FIELD_INVALID"),
        (None, "x" * 100_000, Code.INVALID_ARGUMENT, "FIELD_INVALID"),
    ],
)
def test_a_proposal_that_cannot_be(
    dev_service: ServeService, witness_id: str | None, algorithm: str, code: Code, reason: str
) -> None:
    """An unknown witness or algorithm makes no key and no proposal."""
    with WitnessClient(dev_service.address) as client:
        with pytest.raises(Refused) as caught:
            propose_rotation(
                client, witness_ids(dev_service.address)[0] if witness_id is None else witness_id, algorithm
            )
        assert (caught.value.code, caught.value.reason) == (code, reason)
        with pytest.raises(Refused) as caught:
            client.proposal()
        assert (caught.value.code, caught.value.reason) == (Code.NOT_FOUND, "UNKNOWN_PROPOSAL")


# -- interrupted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["approved", "key-add", "open"])
def test_case_47_killed_in_the_middle_of_a_rotation(service: ServeService, step: str) -> None:
    """Killed after the quorum, after the key was added or after it was opened: the next start finishes the rotation.

    Signing goes on before, and goes on afterwards with the new key; every position has exactly one verdict.
    """
    service.start()
    chain = Chain()
    with WitnessClient(service.address) as client, service.superuser() as blocker:
        list(client.sign_stream([chain.events(0, 30)]))
        (witness_id, *_) = witness_ids(service.address)
        proposal = propose_rotation(client, witness_id)
        # A lock on the table of the next step holds the service up exactly there.
        blocker.execute("BEGIN")
        blocker.execute(HOLD_UP[step])
        approving = threading.Thread(target=approve_until_killed, args=(client, service.lead_key, proposal))
        approving.start()
        until(lambda: waits_for_a_lock(service))
        service.kill()
        approving.join(20)
        blocker.execute("ROLLBACK")
    service.start()
    with WitnessClient(service.address) as client:
        until(lambda: client.proposal(proposal.proposal_id).state == "done")
        assert key_of(client, proposal.key_id).state == "open"
        old = key_of(client, proposal.replaces)
        assert old.state == "closed"
        list(client.sign_stream([chain.events(30, 60)]))
        with service.auditor() as database:
            signers = Counter(Statement.decode(row[1]).key_id for row in stored(database, chain.stream))
        assert old.signed_count == signers[proposal.replaces]
        assert signers[proposal.key_id] > 0
    assert codes(service, chain) == {
        "VALID_KEY_ROTATED": signers[proposal.replaces],
        "VALID_KEY_ACTIVE": 60 - signers[proposal.replaces],
    }


HOLD_UP = {
    # The approval is stored; the key-add record is not.
    "approved": "LOCK TABLE witness.registry_records IN SHARE MODE",
    # The first record is to be stored, and with it the proposal's state.
    "key-add": "SELECT FROM witness.proposals FOR SHARE",
    # The new key is open; the checkpoint to close the old one under is not there.
    "open": "LOCK TABLE witness.key_counts IN ACCESS EXCLUSIVE MODE",
}


def approve_until_killed(client: WitnessClient, lead_key: Path, proposal: ListedProposal) -> None:
    with pytest.raises(Refused, match="UNREACHABLE"):
        approve(client, lead_key, proposal)


def waits_for_a_lock(service: ServeService) -> bool:
    with service.superuser() as database:
        row = database.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
        return row is not None and row[0] > 0


def test_a_key_that_one_replica_lacks(service: ServeService) -> None:
    """A rotation whose key does not reach a replica's token takes one witness from it, not the service, nor a stop."""
    replica = service.replica()
    replica.configuration = copy.deepcopy(service.configuration)
    token = copy_token(service.folder / "token", replica.folder / "token")
    replica.configuration["tokens"][0] |= {"pin_file": token.pin_file, "environment": dict(token.environment)}
    chain = Chain()
    try:
        service.start()
        with WitnessClient(service.address) as here, WitnessClient(replica.start().address) as there:
            list(there.sign_stream([chain.events(0, 5)]))
            new = rotate(service.address, service.lead_key, witness_ids(service.address)[0]).key_id
            by = [there.sign(chain.event(number))[0].key_id for number in range(5, 25)]
            assert len(set(by)) == 2
            assert new not in by
            assert new in [here.sign(chain.event(number))[0].key_id for number in range(25, 60)]
            assert Registry.replay(Bundle.from_json(there.bundle()).records, registry_id=service.registry_id)
            assert "a key that signs is not in its token" in replica.said()
            for file in (service.folder / "token").rglob("*"):
                if file.suffix in (".object", ".lock") or file.name == "generation":
                    shutil.copy(file, replica.folder / file.relative_to(service.folder))
            until(lambda: "a missing key is there now" in replica.said())
            assert new in [there.sign(chain.event(number))[0].key_id for number in range(60, 95)]
            stop(there, service.lead_key, new)
            assert key_of(here, new).state == "stopped"
    finally:
        replica.clean()
