"""Stopping a key at once: on one lead's word, on every instance, over the wire or past it, and how it is lifted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from key_registry import dsse
from tests.fix_service import ServeService, until
from tests.witness_service.chain import Chain
from tests.witness_service.judging import check_log, check_stored, codes
from tests.witness_service.rotating import approve, changed, propose, reject, rotate, stop, stop_order, witness_ids
from witness_service import clock
from witness_service.lead_key import LeadKey
from witness_service.orders import StopOrder
from witness_service.refusal import Code, Refused
from witness_service.wire.answers import ListedKey
from witness_service.wire.client import WitnessClient


@pytest.fixture
def client(service: ServeService) -> Iterator[WitnessClient]:
    """A connection to a service of the test's own, which serves."""
    with WitnessClient(service.start().address) as connected:
        yield connected


def key_of(client: WitnessClient, key_id: str) -> ListedKey:
    (found,) = [key for key in client.keys().keys if key.key_id == key_id]
    return found


def signers(client: WitnessClient, chain: Chain, first: int, end: int) -> set[str]:
    return {
        item[0].key_id
        for outcomes in client.sign_stream([chain.events(first, end)])
        for item in outcomes
        if isinstance(item, tuple)
    }


def test_stopped_and_resumed(quorum_service: ServeService, leads: tuple[Path, ...]) -> None:
    """One lead stops it, others take its place; one lead cannot lift it, a quorum can; then it signs again."""
    chain = Chain()
    with WitnessClient(quorum_service.start().address) as client:
        everybody = signers(client, chain, 0, 60)
        assert len(everybody) == 2
        key_id = sorted(everybody)[0]
        stopped = stop(client, leads[0], key_id)
        assert stopped.was_stopped is False
        key = key_of(client, key_id)
        assert (key.state, key.stop_reason, key.stopped_at) == ("stopped", "a test", stopped.stopped_at)
        assert signers(client, chain, 60, 120) == everybody - {key_id}
        proposal = propose(client, "resume", key_id=key_id, reason="found again")
        approve(client, leads[0], proposal)
        assert key_of(client, key_id).state == "stopped"
        assert approve(client, leads[1], proposal).state == "done"
        assert key_of(client, key_id).state == "open"
        assert signers(client, chain, 120, 180) == everybody
    assert codes(quorum_service, chain) == {"VALID_KEY_ACTIVE": 180}


def test_every_key_stopped_blocks_writing(service: ServeService, client: WitnessClient) -> None:
    """With no key left nothing is signed, and health says so; what was signed is still given out."""
    chain = Chain()
    (first,) = client.sign(chain.event(0))
    for key in client.keys().keys:
        stop(client, service.lead_key, key.key_id)
    with pytest.raises(Refused) as caught:
        client.sign(chain.event(1))
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "NO_WITNESS_AVAILABLE")
    assert client.sign(chain.event(0)) == (first,)
    until(lambda: not serves(service.address))
    changed(client, service.lead_key, "resume", key_id=first.key_id, reason="back")
    until(lambda: serves(service.address))
    assert client.sign(chain.event(1))[0].key_id == first.key_id


def serves(address: str) -> bool:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)  # type: ignore[attr-defined]
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_stopping_is_idempotent_and_orders_have_no_second_life(service: ServeService, client: WitnessClient) -> None:
    """Stopping again changes nothing and says since when; an old order does not stop a key that was resumed."""
    key_id = client.keys().keys[0].key_id
    order = stop_order(service.lead_key, client.status().registry_id, key_id)
    first = client.stop_key(order)
    assert client.stop_key(order) == first
    again = client.stop_key(stop_order(service.lead_key, client.status().registry_id, key_id, 1, "once more"))
    assert (again.was_stopped, again.order, again.stopped_at) == (True, first.order, first.stopped_at)
    changed(client, service.lead_key, "resume", key_id=key_id, reason="back")
    with pytest.raises(Refused) as caught:
        client.stop_key(order)
    assert (caught.value.code, caught.value.reason) == (Code.ABORTED, "ORDER_MOVED")
    assert key_of(client, key_id).state == "open"
    stop(client, service.lead_key, key_id)
    assert key_of(client, key_id).state == "stopped"


def test_what_is_no_order(service: ServeService, client: WitnessClient, tmp_path: Path) -> None:
    """Strangers, other registries, other types, bent signatures and unknown keys stop nothing."""
    registry_id = client.status().registry_id
    key_id = client.keys().keys[0].key_id
    LeadKey.create(tmp_path / "stranger.pem")
    good = dsse.Envelope.from_json(stop_order(service.lead_key, registry_id, key_id))
    other = LeadKey.load(service.lead_key).sign("text/plain", good.body)
    cases = {
        "no envelope": (b"{}", "FIELD_INVALID"),
        "a stranger": (stop_order(tmp_path / "stranger.pem", registry_id, key_id), "NOT_A_LEAD"),
        "another registry": (stop_order(service.lead_key, "00" * 32, key_id), "FIELD_INVALID"),
        "an unknown key": (stop_order(service.lead_key, registry_id, "00" * 32), "UNKNOWN_KEY"),
        "another type": (dsse.Envelope("text/plain", good.body, (other,)).to_json(), "FIELD_INVALID"),
        "a signature of another type": (
            dsse.Envelope(good.payload_type, good.body, (other,)).to_json(),
            "BAD_APPROVAL",
        ),
        "a number too high": (stop_order(service.lead_key, registry_id, key_id, 3), "ORDER_MOVED"),
    }
    for case, (order, reason) in cases.items():
        with pytest.raises(Refused) as caught:
            client.stop_key(order)
        assert caught.value.reason == reason, case
    assert key_of(client, key_id).state == "open"


def test_no_claim_after_the_order_on_any_instance(service: ServeService) -> None:
    """Writers write through two instances, a key is stopped through one: no claim of it is younger than the order.

    Every claim made before ends with its attestation.
    """
    replica = service.replica()
    stopping = threading.Event()
    chains = [Chain() for _ in range(4)]
    released: dict[Chain, int] = {}

    def write(address: str, chain: Chain) -> None:
        with WitnessClient(address) as writer:
            sequence = 0
            while not stopping.is_set():
                writer.sign(chain.event(sequence))
                sequence += 1
            released[chain] = sequence

    try:
        service.start()
        replica.start()
        addresses = [service.address, replica.address] * 2
        threads = [threading.Thread(target=write, args=pair) for pair in zip(addresses, chains, strict=True)]
        for thread in threads:
            thread.start()
        with WitnessClient(service.address) as client, service.auditor() as database:
            key_id = client.keys().keys[0].key_id
            until(lambda: claims_of(database, key_id)[0] > 20)
            stop(client, service.lead_key, key_id)
            until(lambda: others_since(database, key_id) > 40)
            stopping.set()
            for thread in threads:
                thread.join(30)
            assert claims_of(database, key_id)[1] == 0, "claims younger than the order"
            assert len(released) == 4
            for chain in chains:
                assert len(check_stored(database, chain.stream, [])) == released[chain]
            check_log(database)
    finally:
        stopping.set()
        replica.clean()


def claims_of(database: psycopg.Connection[tuple[int, ...]], key_id: str) -> tuple[int, int]:
    """Return the claims of a key, and how many of them are younger than its last order."""
    row = database.execute(
        "SELECT count(*), count(*) FILTER (WHERE claimed_at > (SELECT max(created_at) FROM witness.key_orders))"
        " FROM witness.claims WHERE key_id = %s",
        (bytes.fromhex(key_id),),
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def others_since(database: psycopg.Connection[tuple[int, ...]], key_id: str) -> int:
    """Return the claims of other keys that are younger than the last order."""
    row = database.execute(
        "SELECT count(*) FROM witness.claims WHERE key_id <> %s"
        " AND claimed_at > (SELECT max(created_at) FROM witness.key_orders)",
        (bytes.fromhex(key_id),),
    ).fetchone()
    assert row is not None
    return row[0]


def witness(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "witness_service.cli", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_stopped_on_the_host_while_the_service_does_not_answer(service: ServeService) -> None:
    """The command goes past the service to the database; twice is as good as once; the service obeys afterwards."""
    import signal

    chain = Chain()
    with WitnessClient(service.start().address) as client:
        list(client.sign_stream([chain.events(0, 20)]))
        key_id = client.sign(chain.event(20))[0].key_id
    service.write_configuration()
    service.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
    arguments = ["keys", "stop", key_id[:12], "--lead", str(service.lead_key), "--reason", "stolen", "--json"]
    config = ["--config", str(service.folder / "witness.toml")]
    try:
        dry = witness(*arguments, *config, "--dry-run")
        assert json.loads(dry.stdout)["stopped_at"] == ""
        first = witness(*arguments, *config)
        assert first.returncode == 0, first.stderr
        second = witness(*arguments, *config)
    finally:
        service.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    assert json.loads(first.stdout)["was_stopped"] is False
    assert json.loads(second.stdout) == {**json.loads(first.stdout), "was_stopped": True}
    with WitnessClient(service.address) as client:
        assert key_of(client, key_id).state == "stopped"
        assert key_id not in signers(client, chain, 21, 60)


def test_a_service_starts_without_a_stopped_or_distrusted_key(service: ServeService, client: WitnessClient) -> None:
    """A token that has lost keys the leads have stopped or distrusted keeps no service from starting."""
    from tests.witness_service.test_proposals import destroy_in_token, registry_of

    chain = Chain()
    list(client.sign_stream([chain.events(0, 20)]))
    one, two, three = (key.key_id for key in client.keys().keys)
    stop(client, service.lead_key, one)
    arguments = {"reason": "lost", "suspected_since": None, "trusted_size": "20"}
    changed(client, service.lead_key, "compromise", key_id=two, **arguments)
    until(lambda: Counter(key.state for key in client.keys().keys)["stopped"] == 1)
    registry = registry_of(client)
    assert service.stop() == 0
    for key_id in (one, two):
        destroy_in_token(service, registry.keys[key_id].cka_id)
    with WitnessClient(service.start().address) as again:
        assert signers(again, chain, 20, 60) == {three}
        for key_id in (one, two):
            witness_id = registry.keys[key_id].witness_id
            done = rotate(service.address, service.lead_key, witness_id)
            assert key_of(again, done.key_id).state == "open"
        assert [key_of(again, key_id).closed is not None for key_id in (one, two)] == [True, True]
        assert len(signers(again, chain, 60, 120)) == 3


def test_resuming_ends_with_the_key(service: ServeService, client: WitnessClient) -> None:
    """What was compromised meanwhile cannot be resumed; nor can a key that is not stopped."""
    key_id = client.keys().keys[0].key_id
    with pytest.raises(Refused, match="KEY_STATE"):
        propose(client, "resume", key_id=key_id, reason="back")
    stop(client, service.lead_key, key_id)
    proposal = propose(client, "resume", key_id=key_id, reason="back")
    arguments = {"reason": "stolen", "suspected_since": clock.now(), "trusted_size": None}
    changed(client, service.lead_key, "compromise", key_id=key_id, **arguments)
    ended = approve(client, service.lead_key, proposal)
    assert (ended.state, "final" in ended.note) == ("overtaken", True)
    assert key_of(client, key_id).state == "compromised"


def test_a_resumption_is_rejected(service: ServeService, client: WitnessClient) -> None:
    """A no leaves the key stopped."""
    key_id = client.keys().keys[0].key_id
    stop(client, service.lead_key, key_id)
    proposal = propose(client, "resume", key_id=key_id, reason="back")
    assert reject(client, service.lead_key, proposal).state == "rejected"
    assert key_of(client, key_id).state == "stopped"
    assert len(witness_ids(service.address)) == 3


def test_orders_say_what_they_are() -> None:
    """A stop has an odd number and a resumption an even one, so that neither can stand in for the other."""
    StopOrder("00" * 32, "00" * 32, 1, "why", clock.now())
    from key_registry.errors import FormatError
    from witness_service.orders import ResumeOrder

    for order, number in ((StopOrder, 2), (ResumeOrder, 1), (StopOrder, 0), (ResumeOrder, 0)):
        with pytest.raises(FormatError, match="number"):
            order("00" * 32, "00" * 32, number, "why", clock.now())
