"""Faults of database and token: health says the truth, callers are told in time, and service resumes by itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.fix_service import DevService, ServeService, until
from tests.witness_service.chain import Chain, batches, rich_status, sign_at_once
from tests.witness_service.judging import check_log, check_stored, codes
from witness_service.event import Attested, Event
from witness_service.refusal import Code, Refused
from witness_service.v1 import witness_pb2, witness_pb2_grpc
from witness_service.wire.answers import event_message
from witness_service.wire.client import WitnessClient

pytestmark = pytest.mark.faults

CKR_DEVICE_REMOVED = 0x32
CKR_DEVICE_ERROR = 0x30


def serving(address: str, service: str = "") -> bool:
    """Ask the standard health service."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    assert answer.status in (health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def refused(client: WitnessClient, event: Event, timeout: float = 10.0) -> tuple[Refused, float]:
    """Sign an event, expecting a refusal; returns it and the seconds it took."""
    start = time.monotonic()
    with pytest.raises(Refused) as caught:
        client.sign(event, timeout=timeout)
    return caught.value, time.monotonic() - start


def signs_again(client: WitnessClient, event: Event) -> bool:
    try:
        client.sign(event)
    except Refused as refusal:
        assert refusal.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED), refusal
        return False
    return True


def test_every_service_says_how_it_is(dev_service: DevService) -> None:
    """The server as a whole and each service by its name; an unknown name is not found."""
    for name in ("Witness", "KeyRegistry", "KeyAdmin"):
        assert serving(dev_service.address, f"witness_service.v1.{name}")
    assert serving(dev_service.address)
    with pytest.raises(grpc.RpcError) as caught:
        serving(dev_service.address, "another")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]


# -- the database ---------------------------------------------------------------------------------------------------


def test_case_23_database_down_and_hung(own_service: DevService) -> None:
    """While the database is down or hung the service says so and refuses in time; then it signs, not restarted."""
    own_service.start()
    chain = Chain()
    cluster = own_service.postgres()
    with WitnessClient(own_service.address) as client:
        client.sign(chain.event(0))

        cluster.stop()
        until(lambda: not serving(own_service.address), 3)
        refusal, seconds = refused(client, chain.event(1))
        assert (refusal.code, refusal.reason) == (Code.UNAVAILABLE, "STORE_UNAVAILABLE")
        assert seconds < 9
        assert not serving(own_service.address)
        cluster.start()
        until(lambda: serving(own_service.address), 10)
        until(lambda: signs_again(client, chain.event(1)), 10)

        pids = processes_of(cluster.pid)
        with stopped(pids):
            until(lambda: not serving(own_service.address), 8)
            refusal, seconds = refused(client, chain.event(2), timeout=30)
            assert refusal.code is Code.UNAVAILABLE
            assert seconds < 29
        until(lambda: serving(own_service.address), 10)
        until(lambda: signs_again(client, chain.event(2)), 20)
        client.sign(chain.event(3))
    with own_service.auditor() as database:
        assert len(check_stored(database, chain.stream, [])) == 4
        check_log(database)
    assert codes(own_service, chain) == {"VALID_KEY_ACTIVE": 4}
    assert own_service.stop() == 0
    cluster.stop()  # reaps what this process had started


def processes_of(postmaster: int | None) -> list[int]:
    """Return the server process and its children."""
    assert postmaster is not None
    found = [postmaster]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == postmaster:
            found.append(int(stat.parent.name))
    return found


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_case_24_25_connections_cut_while_signing(service: ServeService) -> None:
    """Every connection cut, again and again, at whatever statement or COMMIT it is: nothing lost, nothing twice."""
    service.start()
    chain = Chain()
    signed: list[Attested] = []
    cuts = 0
    with WitnessClient(service.address) as client, service.superuser() as database:
        for outcomes in client.sign_stream(batches(chain.events(0, 2000), 20), window=20, retry_for=20):
            for outcome in outcomes:
                assert isinstance(outcome, tuple), outcome
                signed.append(outcome[0])
            if len(signed) % 100 == 0:
                rows = database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND usename = 'witness_service'"
                ).fetchall()
                cuts += len(rows)
    assert cuts > 20
    assert [item.sequence for item in signed] == list(range(2000))
    with service.auditor() as database:
        assert len(check_stored(database, chain.stream, signed)) == 2000
        until(lambda: serving(service.address), 10)
        check_log(database)
    assert codes(service, chain) == {"VALID_KEY_ACTIVE": 2000}


def test_case_23_locked_tables(service: ServeService) -> None:
    """A lock that somebody holds on the database delays and refuses; it does not stop the service for good."""
    service.configuration["database"]["timeout_seconds"] = 1.0
    service.start()
    chain = Chain()
    with WitnessClient(service.address) as client, service.superuser() as database:
        client.sign(chain.event(0))
        database.execute("BEGIN")
        database.execute("LOCK TABLE witness.places IN ACCESS EXCLUSIVE MODE")
        refusal, seconds = refused(client, chain.event(1))
        assert (refusal.code, refusal.reason) == (Code.UNAVAILABLE, "STORE_UNAVAILABLE")
        assert seconds < 9
        database.execute("ROLLBACK")
        until(lambda: signs_again(client, chain.event(1)), 10)
    assert codes(service, chain) == {"VALID_KEY_ACTIVE": 2}


# -- the token ------------------------------------------------------------------------------------------------------


def test_case_17_signer_processes_killed_while_signing(service: ServeService) -> None:
    """Signer processes killed again and again: they come back by themselves, and every event is signed once."""
    service.start()
    chain = Chain()
    signed: list[Attested] = []
    killed = 0
    with WitnessClient(service.address) as client:
        for outcomes in client.sign_stream(batches(chain.events(0, 1500), 30), window=20, retry_for=30):
            for outcome in outcomes:
                assert isinstance(outcome, tuple), outcome
                signed.append(outcome[0])
            if len(signed) % 450 == 0:
                for pid in service.signers():
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
    assert killed >= 4
    assert [item.sequence for item in signed] == list(range(1500))
    until(lambda: serving(service.address), 10)
    with service.auditor() as database:
        assert len(check_stored(database, chain.stream, signed)) == 1500
        check_log(database)
    assert codes(service, chain) == {"VALID_KEY_ACTIVE": 1500}


def test_case_14_device_removed(service: ServeService, fault_module: Path) -> None:
    """Without its device the service says so within a second, tells callers when to come back, and recovers alone."""
    token = service.behind(fault_module)
    service.start()
    chain = Chain()
    with WitnessClient(service.address) as client:
        client.sign(chain.event(0))
        token.order("C_Initialize", "return", CKR_DEVICE_ERROR)
        token.order("C_Sign", "return", CKR_DEVICE_REMOVED)
        refusal, seconds = refused(client, chain.event(1))
        assert (refusal.code, refusal.reason) == (Code.UNAVAILABLE, "HSM_UNAVAILABLE")
        assert seconds < 9
        until(lambda: not serving(service.address), 2)
        assert retry_delay(service.address, chain.event(1)) > 0
        (state,) = client.status().tokens
        assert state.state == "down"
        assert state.reason
        token.mend("C_Initialize")
        token.mend("C_Sign")
        until(lambda: serving(service.address), 15)
        until(lambda: signs_again(client, chain.event(1)), 10)
        assert client.status().tokens[0].state in ("ready", "degraded")
    with service.auditor() as database:
        assert len(check_stored(database, chain.stream, [])) == 2


def retry_delay(address: str, event: Event) -> float:
    """Return the seconds after which a refused caller is asked to come back."""
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        witness_pb2_grpc.WitnessStub(channel).Sign(witness_pb2.SignRequest(event=event_message(event)), timeout=10)
    status = rich_status(caught.value)
    retry = error_details_pb2.RetryInfo()
    (found,) = [detail for detail in status.details if detail.Is(retry.DESCRIPTOR)]
    found.Unpack(retry)
    return float(retry.retry_delay.ToMilliseconds()) / 1000


def test_case_16_a_token_that_hangs(service: ServeService, fault_module: Path) -> None:
    """A caller is answered by its own deadline; the process that hangs is replaced, and replay gets the signature."""
    token = service.behind(fault_module)
    service.start()
    chain = Chain()
    with WitnessClient(service.address) as client:
        client.sign(chain.event(0))
        before = service.signers()
        token.order("C_Sign", "sleep", 60_000, 1)
        refusal, seconds = refused(client, chain.event(1), timeout=1.0)
        assert refusal.code is Code.DEADLINE_EXCEEDED
        assert seconds < 3
        other = Chain().event(0)
        until(lambda: signs_again(client, other), 8)
        until(lambda: signs_again(client, chain.event(1)), 8)
        until(lambda: len(set(service.signers()) - set(before)) > 0)
    with service.auditor() as database:
        assert len(check_stored(database, chain.stream, [])) == 2
    assert codes(service, chain) == {"VALID_KEY_ACTIVE": 2}


def test_case_18_a_signature_that_is_none(service: ServeService, fault_module: Path) -> None:
    """A token that flips one bit is caught before release: its key is not used again, the other witnesses go on.

    After a restart, which proves the key anew, the claim is completed with the bytes it was made with.
    """
    token = service.behind(fault_module)
    service.start()
    chains = [Chain() for _ in range(30)]
    with WitnessClient(service.address) as client:
        token.order("C_Sign", "flip", 5, 2)  # the first call only asks for the length
        refusal, _ = refused(client, chains[0].event(0))
        assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "KEY_QUARANTINED")
        key_id = refusal.metadata["key_id"]
        for chain in chains[1:]:
            (attested,) = client.sign(chain.event(0))
            assert attested.key_id != key_id
        assert serving(service.address)
        assert '"level": "critical"' in service.said()
        refusal, _ = refused(client, chains[0].event(0))
        assert refusal.reason == "KEY_QUARANTINED"
    assert service.stop() == 0
    service.start()
    with WitnessClient(service.address) as client:
        (attested,) = client.sign(chains[0].event(0))
        assert attested.key_id == key_id
    with service.auditor() as database:
        check_log(database)
    assert codes(service, chains[0]) == {"VALID_KEY_ACTIVE": 1}


def test_case_18_no_witness_left(service: ServeService, fault_module: Path) -> None:
    """When no key can be trusted any more nothing is signed, and health does not pretend otherwise."""
    token = service.behind(fault_module)
    service.start()
    reasons = set()
    with WitnessClient(service.address) as client:
        token.order("C_Sign", "flip", 5)
        for _ in range(60):
            refusal, _ = refused(client, Chain().event(0))
            reasons.add(refusal.reason)
            if refusal.reason == "NO_WITNESS_AVAILABLE":
                break
        assert reasons == {"KEY_QUARANTINED", "NO_WITNESS_AVAILABLE"}
        assert refusal.code is Code.FAILED_PRECONDITION
        until(lambda: not serving(service.address), 3)
    with service.auditor() as database:
        assert database.execute("SELECT count(*) FROM witness.attestations").fetchone() == (0,)


def test_case_19_the_pin_is_changed_while_it_serves(service: ServeService, fault_module: Path) -> None:
    """A PIN that is refused later is offered once; then the service waits for a person, and says so."""
    token = service.behind(fault_module)
    service.start()
    chain = Chain()
    with WitnessClient(service.address) as client:
        client.sign(chain.event(0))
        Path(service.configuration["tokens"][0]["pin_file"]).write_text("wrong-SENTINEL-pin")
        before = token.calls("C_Login")
        for pid in service.signers():
            os.kill(pid, signal.SIGKILL)
        until(lambda: not serving(service.address), 10)
        until(lambda: client.status().tokens[0].state == "latched", 10)
        refusal, seconds = refused(client, chain.event(1))
        assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "HSM_LATCHED")
        assert seconds < 3
        assert client.get(chain.stream, 0)
        assert token.calls("C_Login") - before == 1
    assert "SENTINEL" not in service.said()


# -- load -----------------------------------------------------------------------------------------------------------


def test_case_39_more_than_it_takes(service: ServeService, fault_module: Path) -> None:
    """With a full queue the rest is refused at once and leaves nothing behind; what was taken in is signed."""
    token = service.behind(fault_module)
    service.configuration["limits"] = {"events_in_flight": 512, "batch_events": 64}
    service.start()
    token.order("C_Sign", "sleep", 15)
    chains = [Chain() for _ in range(1500)]
    start = time.monotonic()
    answers = sign_at_once(service.address, [chain.event(0) for chain in chains])
    seconds = time.monotonic() - start
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    assert {(item.code, item.reason) for item in refusals} == {(Code.RESOURCE_EXHAUSTED, "OVERLOADED")}
    assert len(answers) - len(refusals) >= 512
    assert seconds < 20
    with service.auditor() as database:
        ((streams,),) = database.execute("SELECT count(*) FROM witness.streams")
        assert streams == len(answers) - len(refusals)
        check_log(database)
    token.mend("C_Sign")
    assert serving(service.address)


def test_case_39_a_stream_waits_for_room(service: ServeService, fault_module: Path) -> None:
    """A writer that streams more than fits is slowed down, not refused."""
    token = service.behind(fault_module)
    service.configuration["limits"] = {"events_in_flight": 512, "batch_events": 64}
    service.start()
    token.order("C_Sign", "sleep", 1)
    chain = Chain()
    with WitnessClient(service.address) as client:
        outcomes = [
            one for batch in client.sign_stream(batches(chain.events(0, 2000), 100), window=20) for one in batch
        ]
    assert all(isinstance(outcome, tuple) for outcome in outcomes)
    assert len(outcomes) == 2000


def test_case_37_not_serving_while_it_drains(service: ServeService, fault_module: Path) -> None:
    """From SIGTERM on, health says no and new events are sent elsewhere, while what was taken in is finished."""
    token = service.behind(fault_module)
    service.start()
    chain = Chain()
    with grpc.insecure_channel(service.address) as channel:
        stub = witness_pb2_grpc.WitnessStub(channel)
        token.order("C_Sign", "sleep", 2_500, 1)
        request = witness_pb2.SignRequest(event=event_message(chain.event(0)))
        taken = stub.Sign.future(request, timeout=20)  # type: ignore[attr-defined]
        with WitnessClient(service.address) as client:
            until(lambda: client.status().events_in_flight == 1)
            service.terminate()
            until(lambda: not serving(service.address), 2)
            refusal, _ = refused(client, Chain().event(0))
            assert (refusal.code, refusal.reason) == (Code.UNAVAILABLE, "STOPPING")
        assert taken.result(timeout=20).attestations
    assert service.stop() == 0
