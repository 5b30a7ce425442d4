"""A database that has lost something: cosigners know, and nothing is signed on it until it is whole again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from key_registry.merkle import EMPTY_ROOT
from key_registry.verdict import Code as Verdicts
from tests.fix_cosigner import RunningCosigner, StartCosigners
from tests.fix_service import ServeService, drop_database, until
from tests.witness_service.chain import Chain
from tests.witness_service.cosigned import (
    REGISTRY,
    STATEMENTS,
    WAIT,
    client_of,
    cosigned_service,
    cosigner_status,
    judged,
    opened,
    status,
)
from tests.witness_service.judging import check_log
from tests.witness_service.test_health import serving
from witness_service.embedded_postgres import SUPERUSER, EmbeddedPostgres
from witness_service.refusal import Code, Reason, Refused

pytestmark = pytest.mark.faults


@pytest.fixture
def cosigners(start_cosigners: StartCosigners) -> list[RunningCosigner]:
    return start_cosigners(3)


@pytest.fixture
def service(postgres: EmbeddedPostgres, tmp_path: Path, cosigners: list[RunningCosigner]) -> Iterator[ServeService]:
    """A service under a policy of two of three cosigners; not started yet."""
    with cosigned_service(postgres, tmp_path / "service", cosigners, 2) as made:
        yield made


class Backups:
    """Copies of a service's database, made and put back while nobody is connected."""

    def __init__(self, postgres: EmbeddedPostgres, service: ServeService) -> None:
        self._postgres = postgres
        with service.superuser() as connection:
            ((self._name,),) = connection.execute("SELECT current_database()")
        self.names: list[str] = []

    def make(self) -> str:
        """Copy the database and return the copy's name."""
        copy = f"{self._name}_copy_{len(self.names)}"
        self.names.append(copy)
        self._create(copy, self._name)
        return copy

    def restore(self, copy: str) -> None:
        """Put a copy in the place of the database."""
        drop_database(self._postgres, self._name)
        self._create(self._name, copy)

    def clean(self) -> None:
        for name in self.names:
            drop_database(self._postgres, name)

    def _create(self, name: str, template: str) -> None:
        with psycopg.connect(self._postgres.dsn(SUPERUSER, "postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (template,))
            make = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            connection.execute(make)


@pytest.fixture
def backups(postgres: EmbeddedPostgres, service: ServeService) -> Iterator[Backups]:
    made = Backups(postgres, service)
    yield made
    made.clean()


def refusal(service: ServeService, chain: Chain, sequence: int) -> Refused:
    """Sign an event, expecting a refusal."""
    with client_of(service) as client, pytest.raises(Refused) as caught:
        client.sign(chain.event(sequence))
    return caught.value


def sign(service: ServeService, chain: Chain, *sequences: int) -> None:
    with client_of(service) as client:
        for sequence in sequences:
            client.sign(chain.event(sequence))


def unsealed(service: ServeService) -> int:
    with service.auditor() as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM witness.unsealed")
    return int(count)


def test_case_28_a_restored_backup_is_not_signed_on(
    service: ServeService, cosigners: list[RunningCosigner], backups: Backups
) -> None:
    """A restored backup signs nothing, not even claims left behind, says who knows more, and is whole again alone."""
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    assert judged(service, chain, 0, wait=WAIT).code is Verdicts.VALID_KEY_ACTIVE
    service.stop()
    old = backups.make()
    service.start()
    sign(service, chain, 1, 2)
    assert judged(service, chain, 2, wait=WAIT).code is Verdicts.VALID_KEY_ACTIVE
    until(lambda: [it.latest(STATEMENTS)[0] for it in cosigners] == [3, 3, 3])
    service.stop()
    newest = backups.make()

    backups.restore(old)
    leave_a_claim(service, chain)
    service.start()
    assert not serving(service.address)
    refused = refusal(service, chain.forked(), 1)
    assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, Reason.ROLLBACK_DETECTED)
    assert refused.metadata["log"] == "statements"
    assert refused.metadata["cosigned_size"] == "3"
    said = status(service).contradictions
    assert sorted(text.split()[0] for text in said) == [cosigner.name for cosigner in cosigners]
    assert all("3 entries; the database has 1" in text for text in said)
    assert "rollback detected" in service.said()
    assert unsealed(service) == 1
    with service.auditor() as connection:
        assert connection.execute("SELECT count(*) FROM witness.attestations").fetchall() == [(1,)]
    service.stop()

    backups.restore(newest)
    service.start()
    assert serving(service.address)
    sign(service, chain, 3)
    assert judged(service, chain, 3, wait=WAIT).code is Verdicts.VALID_KEY_ACTIVE
    with service.auditor() as connection:
        assert check_log(connection) == 4


def leave_a_claim(service: ServeService, chain: Chain) -> None:
    """Leave a claim of the next place in the database, as a service that died before it sealed would."""
    with service.superuser() as connection:
        connection.execute(
            """
            WITH place AS (
                INSERT INTO witness.places (stream_id, sequence, starts, event_hash, previous_event_hash)
                SELECT stream_id, 1, false, %s, event_hash FROM witness.places RETURNING stream_id, sequence
            ), claim AS (
                INSERT INTO witness.claims (stream_id, sequence, witness_id, key_id, statement)
                SELECT place.stream_id, place.sequence, one.witness_id, one.key_id, one.statement
                FROM place, witness.claims AS one RETURNING claim_id, key_id
            )
            INSERT INTO witness.unsealed (claim_id, key_id) SELECT claim_id, key_id FROM claim
            """,
            (chain.forked().hash(1),),
        )


def test_one_cosigner_is_enough_and_can_be_dropped(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """A single cosigner that says it knows more stops the signing; the operator can leave it out by its name."""
    liar = cosigners[0]
    liar.set_latest(STATEMENTS, 1000, EMPTY_ROOT)
    service.start()
    chain = Chain()
    assert refusal(service, chain, 0).metadata["cosigner"] == liar.name
    (said,) = status(service).contradictions
    assert said == f"{liar.name} says that the statement log had 1000 entries; the database has 0"
    service.stop()
    service.configuration["cosigning"]["ignore"] = [liar.name]
    service.start()
    sign(service, chain, 0)
    assert judged(service, chain, 0, wait=WAIT).code is Verdicts.VALID_KEY_ACTIVE


def test_a_fork_is_found_while_it_runs(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """A cosigner that knows another tree of a smaller size stops the signing, and is not believed to have agreed."""
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    until(lambda: cosigner_status(service, cosigners[2]).size == 1)
    cosigners[2].set_latest(STATEMENTS, 1, bytes(32))
    with client_of(service) as client:
        client.sign(chain.event(1))
    until(lambda: status(service).contradictions != ())
    assert refusal(service, chain, 2).reason == Reason.ROLLBACK_DETECTED
    until(lambda: not serving(service.address))
    (said,) = status(service).contradictions
    assert said == f"{cosigners[2].name} says that the statement log had another root at 1 entries"


def test_it_signs_again_when_the_cosigner_agrees(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """When the cosigner that contradicted cosigns a tree as large as it spoke of, the service signs without restart."""
    service.start()
    chain = Chain()
    sign(service, chain, 0, 1)
    until(lambda: cosigner_status(service, cosigners[0]).size == 2)
    root = cosigners[0].latest(STATEMENTS)[1]
    cosigners[0].set_latest(STATEMENTS, 2, bytes(32))
    sign(service, chain, 2)
    until(lambda: status(service).contradictions != ())
    cosigners[0].set_latest(STATEMENTS, 2, root)
    until(lambda: status(service).contradictions == ())
    until(lambda: serving(service.address))
    sign(service, chain, 3)
    assert judged(service, chain, 3, wait=WAIT).code is Verdicts.VALID_KEY_ACTIVE


def test_a_cosigner_that_forgets_what_it_said_does_not_lift_it(
    service: ServeService, cosigners: list[RunningCosigner]
) -> None:
    """A smaller tree than the one it spoke of shows nothing: the cosigner may have been restored as well."""
    cosigners[0].set_latest(STATEMENTS, 50, bytes(32))
    service.start()
    chain = Chain()
    assert refusal(service, chain, 0).reason == Reason.ROLLBACK_DETECTED
    cosigners[0].forget()
    asked = len(cosigners[0].requests())
    until(lambda: len(cosigners[0].requests()) > asked + 2)
    assert refusal(service, chain, 0).reason == Reason.ROLLBACK_DETECTED


def test_a_longer_registry_keeps_bundles_back(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """While a cosigner knows a longer registry, no coverage is signed that would call the shorter one complete."""
    cosigners[1].set_latest(REGISTRY, 99, bytes(32))
    service.start()
    assert refusal(service, Chain(), 0).metadata["log"] == "registry"
    with client_of(service) as client, pytest.raises(Refused) as caught:
        client.bundle()
    assert caught.value.reason == Reason.ROLLBACK_DETECTED


def test_a_cosigner_that_hangs_does_not_keep_it_from_starting(
    service: ServeService, cosigners: list[RunningCosigner]
) -> None:
    """At the start cosigners are asked for as long as one request may take; who does not answer is asked later."""
    for cosigner in cosigners:
        cosigner.misbehave("hangs")
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    assert opened(service).code is Verdicts.QUORUM_NOT_MET  # type: ignore[union-attr]
    for cosigner in cosigners:
        cosigner.misbehave(None)
    until(lambda: judged(service, chain, 0).code is Verdicts.VALID_KEY_ACTIVE)


def test_case_28_a_database_put_back_under_a_running_service(
    service: ServeService, cosigners: list[RunningCosigner], backups: Backups
) -> None:
    """Without any cosigner an instance notices that the log has lost what it saw, as after a failover, and recovers."""
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    service.stop()
    old = backups.make()
    service.start()
    sign(service, chain, 1)
    until(lambda: [cosigner_status(service, it).size for it in cosigners] == [2, 2, 2])
    for cosigner in cosigners:
        cosigner.stop()
    newest = backups.make()
    backups.restore(old)
    until(lambda: said_by(service) == ["this instance says that the statement log had 2 entries; the database has 1"])
    # Until health has found the database back, it is what callers are told of.
    until(lambda: refusal(service, chain.forked(), 1).reason == Reason.ROLLBACK_DETECTED)
    backups.restore(newest)
    until(lambda: said_by(service) == [])
    until(lambda: serving(service.address))
    sign(service, chain, 2)


def said_by(service: ServeService) -> list[str] | None:
    """Return what contradicts the database, None while that is away."""
    try:
        return list(status(service).contradictions)
    except Refused as refused:
        assert refused.code is Code.UNAVAILABLE, refused
        return None
