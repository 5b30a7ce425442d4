"""Cosigners in the running service: their quorum, their outages, their misbehaviour, and no effect on signing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from key_registry import note, tlog_proof
from key_registry.evidence import Evidence
from key_registry.judge import judge
from key_registry.verdict import Code
from tests.fix_cosigner import RunningCosigner, StartCosigners
from tests.fix_service import ServeService, until
from tests.witness_service.chain import Chain
from tests.witness_service.cosigned import (
    REGISTRY,
    STATEMENTS,
    WAIT,
    client_of,
    cosigned_service,
    cosigner_status,
    evidence,
    judged,
    opened,
    status,
)
from tests.witness_service.judging import ENVIRONMENTS
from witness_service.embedded_postgres import EmbeddedPostgres


@pytest.fixture
def cosigners(start_cosigners: StartCosigners) -> list[RunningCosigner]:
    return start_cosigners(3)


@pytest.fixture
def service(postgres: EmbeddedPostgres, tmp_path: Path, cosigners: list[RunningCosigner]) -> Iterator[ServeService]:
    """A service under a policy of two of three cosigners; not started yet."""
    with cosigned_service(postgres, tmp_path / "service", cosigners, 2) as made:
        yield made


def sign(service: ServeService, chain: Chain, sequence: int) -> float:
    """Sign an event and return the seconds it took."""
    with client_of(service) as client:
        start = time.monotonic()
        client.sign(chain.event(sequence))
        return time.monotonic() - start


def lines_of(proof: bytes) -> list[str]:
    """Return the names on the signature lines of the checkpoint in evidence."""
    found = Evidence.read(proof).proof
    assert found is not None
    return [line.name for line in note.parse(found.checkpoint).signatures]


def test_fresh_evidence_is_valid_within_seconds(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """An event that was just signed is judged VALID under 2 of 3, when the caller waits for the cosigners."""
    service.start()
    chain = Chain()
    for sequence in range(3):
        sign(service, chain, sequence)
        start = time.monotonic()
        verdict = judged(service, chain, sequence, wait=WAIT)
        assert verdict.code is Code.VALID_KEY_ACTIVE, verdict
        assert verdict.existed_by is not None
        assert verdict.existed_by.source == "cosigners"
        assert time.monotonic() - start < 5


def test_without_waiting_the_quorum_comes_by_itself(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """What has grown is sent to every cosigner after the publication interval, and every cosigner's line is given."""
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    until(lambda: judged(service, chain, 0).code is Code.VALID_KEY_ACTIVE)
    until(lambda: lines_of(evidence(service, chain, 0))[1:] == [cosigner.key_name for cosigner in cosigners])
    for cosigner in cosigners:
        assert cosigner.latest(STATEMENTS)[0] == 1
        until(partial(has_cosigned, cosigner, REGISTRY, 7))
    said = cosigner_status(service, cosigners[0])
    assert (said.size, said.problem) == (1, "")
    assert said.cosigned_at.endswith("Z")


def has_cosigned(cosigner: RunningCosigner, origin: str, size: int) -> bool:
    """Tell whether a cosigner's latest checkpoint of a log is of this size."""
    return cosigner.latest(origin)[0] == size


def test_outages(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """One of three down: VALID. Two down: QUORUM_NOT_MET, and signing goes on. Back again: VALID, by itself."""
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    cosigners[0].stop()
    assert judged(service, chain, 0, wait=WAIT).code is Code.VALID_KEY_ACTIVE

    cosigners[1].stop()
    sign(service, chain, 1)
    assert judged(service, chain, 1, wait=0.7).code is Code.QUORUM_NOT_MET
    assert judged(service, chain, 0).code is Code.VALID_KEY_ACTIVE, "what was cosigned stays so"
    assert "no connection" in cosigner_status(service, cosigners[1]).problem
    assert status(service).contradictions == ()

    cosigners[1].start()
    until(lambda: judged(service, chain, 1).code is Code.VALID_KEY_ACTIVE)
    until(lambda: cosigner_status(service, cosigners[1]).problem == "")
    sign(service, chain, 2)
    assert judged(service, chain, 2, wait=WAIT).code is Code.VALID_KEY_ACTIVE


MISBEHAVIOURS = {
    "twice": "bad cosignature: expected one",
    "redirects": "answered 307",
    "signs wrongly": "bad cosignature: expected a cosignature of this checkpoint",
    "other key": "without a cosignature by the key",
    "garbage": "not of its form",
    "empty": "not of its form",
    "huge": "more than 65536 bytes",
    "no signature line": "not of its form",
    "bad size": "not of its form",
    "endless conflict": "the very size it was sent",
    "fails": "answered 500",
    "hangs": "no answer within 1 s",
}
"""What a cosigner does, and what the status says of it then."""


@pytest.mark.faults
def test_misbehaviour(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """Whatever one cosigner does, signing is as fast as ever, its line is never given, and the others make VALID."""
    bad = cosigners[1]
    bad.misbehave("fails")
    service.start()
    chain = Chain()
    for sequence, (how, said) in enumerate(MISBEHAVIOURS.items()):
        bad.misbehave(how)
        assert sign(service, chain, sequence) < 1, how
        verdict = judged(service, chain, sequence, wait=WAIT)
        assert verdict.code is Code.VALID_KEY_ACTIVE, (how, verdict)
        assert bad.key_name not in lines_of(evidence(service, chain, sequence)), how
        wait_for_problem(service, bad, how, said)
    assert status(service).contradictions == ()
    assert latest_line(service, bad) is None
    bad.misbehave(None)
    until(lambda: cosigner_status(service, bad).problem == "")


def wait_for_problem(service: ServeService, cosigner: RunningCosigner, how: str, said: str) -> None:
    """Wait until the status says this of a cosigner, which is let alone for longer each time."""
    deadline = time.monotonic() + 30
    while said not in (problem := cosigner_status(service, cosigner).problem):
        assert time.monotonic() < deadline, (how, problem, cosigner.requests()[-3:], service.said()[-3000:])
        time.sleep(0.05)


def latest_line(service: ServeService, cosigner: RunningCosigner) -> int | None:
    """Return the largest statement checkpoint of which the database has a line by the cosigner."""
    with service.auditor() as connection:
        ((size,),) = connection.execute(
            "SELECT max(size) FROM witness.cosignatures WHERE log = 'statements' AND line LIKE %s",
            (f"%{cosigner.key_name} %",),
        )
    return size


def test_a_stranger_beside_a_good_line_is_left_out(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """Lines by keys that the policy does not name are not handed on."""
    cosigners[0].misbehave("with stranger")
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    until(lambda: sorted(lines_of(evidence(service, chain, 0))[1:]) == [it.key_name for it in cosigners])


@pytest.mark.parametrize("by", [-400, 400])
def test_a_cosigner_with_a_wrong_clock_is_ignored(
    service: ServeService, cosigners: list[RunningCosigner], by: int
) -> None:
    """A cosignature of another time would make every verdict's interval wrong; it is not kept."""
    cosigners[2].set_time(int(time.time()) + by)
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    assert judged(service, chain, 0, wait=WAIT).code is Code.VALID_KEY_ACTIVE
    until(lambda: "clock" in cosigner_status(service, cosigners[2]).problem)
    assert cosigners[2].key_name not in lines_of(evidence(service, chain, 0))


def test_the_heartbeat_refreshes_the_registry(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """With nothing new the registry checkpoint is cosigned again, and a bundle carries the newest time of each."""
    service.configuration["cosigning"]["heartbeat_seconds"] = 1.0
    service.start()
    first = opened(service, wait=WAIT)

    def is_later() -> bool:
        later = opened(service)
        return all(later.cosigned[name] > time for name, time in first.cosigned.items())  # type: ignore[union-attr]

    assert first.cosigned  # type: ignore[union-attr]
    until(is_later)
    with service.auditor() as connection:
        ((rows, checkpoints),) = connection.execute(
            "SELECT count(*), count(DISTINCT size) FROM witness.cosignatures WHERE log = 'registry'"
        )
    assert (rows > len(cosigners), checkpoints) == (True, 1)


def test_a_cosigner_that_forgot_is_brought_up_again(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """A cosigner that lost its state, as after a restored backup of its own, says so by 409 and cosigns again."""
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    until(lambda: cosigner_status(service, cosigners[0]).size == 1)
    cosigners[0].forget()
    sign(service, chain, 1)
    until(lambda: cosigner_status(service, cosigners[0]).size == 2)
    assert status(service).contradictions == ()


def test_what_a_forger_shortens_is_too_old(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """A bundle from before the statement checkpoint was cosigned does not judge it, though coverage is not compared."""
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    before = opened(service, wait=WAIT)
    until(lambda: int(time.time()) > max(before.cosigned.values()))  # type: ignore[union-attr]
    sign(service, chain, 1)
    proof = evidence(service, chain, 1, wait=WAIT)
    verdict = judge(before, proof, event_hash=None, environments=ENVIRONMENTS)  # type: ignore[arg-type]
    assert verdict.code is Code.BUNDLE_TOO_OLD
    after = opened(service)
    assert judge(after, proof, event_hash=None, environments=ENVIRONMENTS).code is Code.VALID_KEY_ACTIVE  # type: ignore[arg-type]


def test_a_range_of_evidence_is_cosigned(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """Evidence for many places comes under one cosigned checkpoint when the caller waits."""
    service.start()
    chain = Chain()
    with client_of(service) as client:
        for sequence in range(5):
            client.sign(chain.event(sequence))
        portions = list(client.list_evidence(chain.stream, 0, None, wait_cosigned=WAIT))
        registry = opened(service)
    files = [file for portion in portions for file in portion.files]
    assert [file.sequence for file in files] == list(range(5))
    codes = {judge(registry, file.tlog_proof, event_hash=None, environments=ENVIRONMENTS).code for file in files}  # type: ignore[arg-type]
    assert codes == {Code.VALID_KEY_ACTIVE}
    assert len({tlog_proof.TlogProof.parse(file.tlog_proof).checkpoint for file in files}) == 1


def test_a_replica_joins_without_fighting(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """Two instances on one database have both logs cosigned, each using what the other got."""
    service.start()
    replica = service.replica()
    replica.start()
    try:
        chain = Chain()
        for sequence in range(6):
            sign((service, replica)[sequence % 2], chain, sequence)
            assert judged((replica, service)[sequence % 2], chain, sequence, wait=WAIT).code is Code.VALID_KEY_ACTIVE
        assert status(service).contradictions == status(replica).contradictions == ()
    finally:
        replica.clean()


def test_an_address_from_the_configuration(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """The configuration overrides where a cosigner is, and leaves one out."""
    service.configuration["cosigning"] |= {
        "urls": {cosigners[0].name: "http://127.0.0.1:9/nobody"},
        "ignore": [cosigners[1].name],
    }
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    until(lambda: cosigner_status(service, cosigners[2]).size == 1)
    until(lambda: "no connection" in cosigner_status(service, cosigners[0]).problem)
    assert {item.cosigner for item in status(service).cosigners} == {cosigners[0].name, cosigners[2].name}
    assert judged(service, chain, 0).code is Code.QUORUM_NOT_MET
    assert cosigners[0].requests() == cosigners[1].requests() == []
