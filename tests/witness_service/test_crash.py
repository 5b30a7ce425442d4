"""The service is killed or stopped in the middle of signing: nothing claimed is lost, nothing is signed twice."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import grpc
import pytest

from tests.fix_service import DevService, ServeService, until
from tests.witness_service.chain import Chain
from tests.witness_service.judging import check_log, check_stored, codes, stored
from witness_service.event import Attested, Event
from witness_service.v1 import witness_pb2, witness_pb2_grpc
from witness_service.wire.answers import attested, event_message
from witness_service.wire.client import WitnessClient

pytestmark = pytest.mark.faults


class Writer:
    """Writes a chain over SignStream until the service goes away; notes what was released to it."""

    def __init__(self, address: str, chain: Chain, first: int, *, size: int = 10) -> None:
        self.released: list[Attested] = []
        self.refused: list[str] = []
        self.sent = first
        self.ended = ""
        self._chain = chain
        self._size = size
        self._stopping = threading.Event()
        self._answered = threading.Semaphore(20)
        self._thread = threading.Thread(target=self._write, args=(address,))
        self._thread.start()

    def _write(self, address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            try:
                for response in witness_pb2_grpc.WitnessStub(channel).SignStream(self._requests()):
                    self._answered.release()
                    for result in response.results:
                        if result.HasField("refusal"):
                            self.refused.append(result.refusal.reason)
                        else:
                            self.released += [attested(item) for item in result.attestations]
                self.ended = "answered"
            except grpc.RpcError as error:
                self.ended = error.code().name  # type: ignore[attr-defined]

    def _requests(self) -> Iterator[witness_pb2.SignStreamRequest]:
        while self._answered.acquire(timeout=10) and not self._stopping.is_set():
            events = self._chain.events(self.sent, self.sent + self._size)
            self.sent += self._size
            yield witness_pb2.SignStreamRequest(events=[event_message(event) for event in events])

    def close(self) -> None:
        """Send nothing more and wait for what is due."""
        self._stopping.set()
        self._answered.release()
        self.join()

    def join(self) -> None:
        """Wait until the call has ended."""
        self._thread.join(40)
        assert not self._thread.is_alive()


def replay(address: str, events: Sequence[Event]) -> list[Attested]:
    """Send events again, in messages of 200, and return their attestations."""
    with WitnessClient(address) as client:
        messages = [events[start : start + 200] for start in range(0, len(events), 200)]
        outcomes = [outcome for batch in client.sign_stream(messages, retry_for=20) for outcome in batch]
    found = []
    for outcome in outcomes:
        assert isinstance(outcome, tuple), outcome
        found.append(outcome[0])
    return found


def test_case_32_killed_again_and_again_while_signing(service: ServeService) -> None:
    """Four writers, kill -9 four times: every claim ends with one attestation over the bytes it was claimed with.

    The claims are read between kill and restart, as an auditor; what was released before a kill stands after it.
    """
    chains = [Chain() for _ in range(4)]
    claimed: dict[str, dict[int, bytes]] = {chain.stream: {} for chain in chains}
    released: dict[str, list[Attested]] = {chain.stream: [] for chain in chains}
    unfinished = 0
    for size in (2, 5, 10, 20):
        service.start()
        writers = {
            chain.stream: Writer(service.address, chain, len(claimed[chain.stream]), size=size) for chain in chains
        }
        until(lambda: released_by(writers) > 200)  # noqa: B023 - called before the next round
        service.kill()
        with service.auditor() as database:
            for stream, writer in writers.items():
                writer.join()
                assert (writer.refused, writer.ended) == ([], "UNAVAILABLE")
                released[stream] += writer.released
                rows = stored(database, stream)
                unfinished += sum(row[2] is None for row in rows)
                assert claimed[stream].items() <= {row[0]: row[1] for row in rows}.items()
                claimed[stream] = {row[0]: row[1] for row in rows}
    assert unfinished > 0, "no kill hit a claim that was not sealed: the test shows less than it says"
    service.start()
    with service.auditor() as database:
        for chain in chains:
            rows = check_stored(database, chain.stream, released[chain.stream])
            assert {row[0]: row[1] for row in rows} == claimed[chain.stream]
        assert check_log(database) == sum(map(len, claimed.values()))
    for chain in chains:
        statements = claimed[chain.stream]
        again = replay(service.address, chain.events(0, len(statements)))
        assert [item.statement for item in again] == list(statements.values())
        assert codes(service, chain) == {"VALID_KEY_ACTIVE": len(statements)}


def released_by(writers: Mapping[str, Writer]) -> int:
    return sum(len(writer.released) for writer in writers.values())


@pytest.mark.parametrize("step", ["sign", "seal"])
def test_case_32_killed_at_a_step(service: ServeService, fault_module: Path, step: str) -> None:
    """Held up before the signature or before the seal and killed there: the restart completes the same bytes."""
    token = service.behind(fault_module)
    service.start()
    chain = Chain()
    with WitnessClient(service.address) as client:
        client.sign(chain.event(0))
    with service.auditor() as database, service.superuser() as blocker:
        if step == "sign":
            token.order("C_Sign", "sleep", 60_000)
        else:
            blocker.execute("BEGIN; LOCK TABLE witness.seals IN ACCESS EXCLUSIVE MODE")
        writer = Writer(service.address, chain, 1)
        until(lambda: len(stored_claims(service, chain)) > 10)
        service.kill()
        writer.join()
        assert writer.released == []
        token.mend("C_Sign")
        blocker.execute("ROLLBACK" if step == "seal" else "SELECT 1")
        claimed = stored_claims(service, chain)
        assert [row[2] for row in claimed[1:]] == [None] * (len(claimed) - 1)
        service.start()
        rows = check_stored(database, chain.stream, [])
    assert [row[:2] for row in rows] == [row[:2] for row in claimed]
    assert codes(service, chain) == {"VALID_KEY_ACTIVE": len(claimed)}


def stored_claims(service: ServeService, chain: Chain) -> list[tuple[int, bytes, int | None]]:
    """Return sequence, statement and leaf index of the claims, without touching the seals."""
    with service.auditor() as database:
        return [row[:3] for row in stored(database, chain.stream)]


def test_case_37_stopped_under_load(service: ServeService) -> None:
    """SIGTERM while four writers write: exit 0, and every event that was taken in is answered with its attestation."""
    service.start()
    chains = [Chain() for _ in range(4)]
    writers = [Writer(service.address, chain, 0) for chain in chains]
    until(lambda: all(len(writer.released) > 100 for writer in writers))
    assert service.stop() == 0
    for writer in writers:
        writer.join()
    with service.auditor() as database:
        check_log(database)
        for chain, writer in zip(chains, writers, strict=True):
            assert set(writer.refused) <= {"STOPPING"}
            rows = check_stored(database, chain.stream, writer.released)
            assert len(rows) == len(writer.released), "an event was taken in and not answered"


def test_case_37_stopped_twice_during_a_hang(service: ServeService, fault_module: Path) -> None:
    """A token that hangs does not keep the service: it ends with 0, and completes the claims at its next start."""
    token = service.behind(fault_module)
    service.configuration["service"]["drain_seconds"] = 1.0
    service.start()
    chain = Chain()
    token.order("C_Sign", "sleep", 60_000)
    writer = Writer(service.address, chain, 0)
    until(lambda: len(stored_claims(service, chain)) > 0)
    service.terminate()
    assert service.stop() == 0
    writer.join()
    assert writer.released == []
    token.mend("C_Sign")
    claimed = stored_claims(service, chain)
    service.start()
    with service.auditor() as database:
        assert [row[:2] for row in check_stored(database, chain.stream, [])] == [row[:2] for row in claimed]


def test_dev_goes_on_where_it_was(own_service: DevService) -> None:
    """`witness dev` stopped, killed and started again: the same registry, the same attestations, its own cluster."""
    chain = Chain()
    own_service.start()
    registry_id = own_service.registry_id
    with WitnessClient(own_service.address) as client:
        first = [client.sign(event) for event in chain.events(0, 3)]
        keys = client.keys().keys
    assert own_service.stop() == 0
    own_service.start()
    own_service.kill()
    own_service.start()
    with WitnessClient(own_service.address) as client:
        assert own_service.registry_id == registry_id
        assert client.keys().keys == keys
        assert [client.sign(event) for event in chain.events(0, 3)] == first
        client.sign(chain.event(3))
    assert codes(own_service, chain) == {"VALID_KEY_ACTIVE": 4}


def test_a_second_dev_in_one_folder_is_refused(dev_service: DevService) -> None:
    """Two processes never share a state folder; the one that runs is not disturbed."""
    second = DevService(dev_service.state.with_name("second"))
    second.spawn("dev", "--state", str(dev_service.state), "--listen", "127.0.0.1:0")
    assert second.process is not None
    assert second.process.wait(30) == 5
    assert second.said().startswith("witness: cannot serve: expected nobody else in")
    assert second.said().count("\n") == 1
    with WitnessClient(dev_service.address) as client:
        assert client.sign(Chain().event(0))


def test_signer_processes_end_with_a_killed_service(service: ServeService) -> None:
    """Nobody stays logged in to the token when the service is gone."""
    service.start()
    signers = service.signers()
    assert len(signers) == 2
    service.kill()
    until(lambda: not any(alive(pid) for pid in signers))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
