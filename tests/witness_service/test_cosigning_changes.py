"""Cosigners over changes of the registry: rotations, another policy, new log keys; and timestamps beside them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from key_registry import note, verify
from key_registry.judge import judge
from key_registry.record import Rotate
from key_registry.trusted_registry import TrustedRegistry
from key_registry.verdict import Code
from tests.fix_cosigner import RunningCosigner, StartCosigners, policy_text
from tests.fix_service import ServeService, until
from tests.fix_timestamp_authority import AuthorityServer, TimestampAuthority
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
    registry_of,
    status,
    trust_logs,
)
from tests.witness_service.judging import ENVIRONMENTS
from tests.witness_service.rotating import approve, changed, propose, propose_rotation, rotate, witness_ids
from witness_service.embedded_postgres import EmbeddedPostgres
from witness_service.refusal import Reason, Refused


@pytest.fixture
def cosigners(start_cosigners: StartCosigners) -> list[RunningCosigner]:
    return start_cosigners(3)


@pytest.fixture
def service(postgres: EmbeddedPostgres, tmp_path: Path, cosigners: list[RunningCosigner]) -> Iterator[ServeService]:
    """A service under a policy of two of three cosigners; not started yet."""
    with cosigned_service(postgres, tmp_path / "service", cosigners, 2) as made:
        yield made


def sign(service: ServeService, chain: Chain, sequence: int) -> None:
    with client_of(service) as client:
        client.sign(chain.event(sequence))


def change_policy(service: ServeService, policy: str | None, *log_keys: str) -> None:
    with client_of(service) as client:
        changed(client, service.lead_key, "policy", policy=policy, log_keys=list(log_keys), token_serial="")


def test_a_rotation_is_judged(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """Evidence from before and after a rotation is VALID, and the records embed cosigned checkpoints."""
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    before = evidence(service, chain, 0, wait=WAIT)
    for witness_id in witness_ids(service.address):
        rotate(service.address, service.lead_key, witness_id)
    sign(service, chain, 1)
    after = evidence(service, chain, 1, wait=WAIT)
    registry = opened(service, wait=WAIT)
    assert isinstance(registry, TrustedRegistry), registry
    verdicts = [judge(registry, proof, event_hash=None, environments=ENVIRONMENTS) for proof in (before, after)]
    assert [it.code for it in verdicts] == [Code.VALID_KEY_ROTATED, Code.VALID_KEY_ACTIVE], verdicts
    assert verdicts[1].not_before is not None
    assert verdicts[1].not_before.source == "cosigners"
    closing = [it for it in registry.registry.records if isinstance(it, Rotate) and it.close is not None]
    for record in closing:
        assert registry.registry.policy.is_met(registry.registry.policy.times(note.parse(record.checkpoint)).keys())


def test_a_rotation_goes_on_while_cosigners_are_down(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """The new key opens without them, the old one closes when they are back; until then it is QUORUM_NOT_MET."""
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    assert judged(service, chain, 0, wait=WAIT).code is Code.VALID_KEY_ACTIVE
    for cosigner in cosigners:
        cosigner.stop()
    sign(service, chain, 1)  # what was sealed before, they have cosigned already
    witness_id = witness_ids(service.address)[0]
    with client_of(service) as client:
        done = approve(client, service.lead_key, propose_rotation(client, witness_id))
        assert (done.state, done.note.partition(": ")[2]) == (
            "done",
            "too few cosigners answer; propose retire when they are back",
        )
        old, new = (key for key in client.keys().keys if key.witness_id == witness_id)
        assert (old.state, new.state) == ("open", "open")
        with pytest.raises(Refused) as refused:
            propose(client, "retire", key_id=old.key_id, reason="again")
        assert refused.value.reason == Reason.SEAL_NOT_COSIGNED
    assert judged(service, chain, 0).code is Code.QUORUM_NOT_MET
    for cosigner in cosigners[1:]:
        cosigner.start()
    until(lambda: judged(service, chain, 0).code is Code.VALID_KEY_ACTIVE)
    with client_of(service) as client:
        changed(client, service.lead_key, "retire", key_id=old.key_id, reason="the cosigners are back")
        assert [key.state for key in client.keys().keys if key.key_id == old.key_id] == ["closed"]


@pytest.mark.attacks
def test_a_shortened_registry_is_too_old(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """A genuine bundle that ends before the newest rotation does not judge what came after it."""
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    short = opened(service, wait=WAIT)
    assert isinstance(short, TrustedRegistry), short
    rotate(service.address, service.lead_key, witness_ids(service.address)[0])
    until(lambda: int(time.time()) > max(short.cosigned.values()))
    sign(service, chain, 1)
    proof = evidence(service, chain, 1, wait=WAIT)
    assert judge(short, proof, event_hash=None, environments=ENVIRONMENTS).code is Code.BUNDLE_TOO_OLD
    # Whoever holds both log keys can say that the short registry covers everything, and no cosigner helps him.
    assert all(cosigner.latest(REGISTRY)[0] > short.registry.size for cosigner in cosigners)


def test_another_policy(
    service: ServeService, cosigners: list[RunningCosigner], start_cosigners: StartCosigners
) -> None:
    """New cosigners start from nothing, old ones are left alone, and evidence from before is still VALID."""
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    before = evidence(service, chain, 0, wait=WAIT)
    newcomers = start_cosigners(2)
    trust_logs(service, newcomers)
    change_policy(service, policy_text(newcomers))
    sign(service, chain, 1)
    assert judged(service, chain, 1, wait=WAIT).code is Code.VALID_KEY_ACTIVE
    assert [it.latest(STATEMENTS)[0] for it in newcomers] == [2, 2]
    registry = opened(service)
    assert isinstance(registry, TrustedRegistry), registry
    assert judge(registry, before, event_hash=None, environments=ENVIRONMENTS).code is Code.VALID_KEY_ACTIVE
    assert {it.cosigner for it in status(service).cosigners} == {it.name for it in newcomers}
    asked = [len(it.requests()) for it in cosigners]
    sign(service, chain, 2)
    assert judged(service, chain, 2, wait=WAIT).code is Code.VALID_KEY_ACTIVE
    assert [len(it.requests()) for it in cosigners] == asked


def test_to_no_policy_and_back(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """A registry does without cosigners, and has them again; evidence is VALID all the way."""
    service.start()
    change_policy(service, "none")
    chain = Chain()
    sign(service, chain, 0)
    assert judged(service, chain, 0).code is Code.VALID_KEY_ACTIVE
    until(lambda: status(service).cosigners == ())
    change_policy(service, policy_text(cosigners, 2))
    sign(service, chain, 1)
    for sequence in (0, 1):
        assert judged(service, chain, sequence, wait=WAIT).code is Code.VALID_KEY_ACTIVE


def test_new_log_keys(service: ServeService, cosigners: list[RunningCosigner]) -> None:
    """Both logs get new keys; the cosigners are told, and evidence from before and after is VALID."""
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    before = evidence(service, chain, 0, wait=WAIT)
    change_policy(service, None, "registry", "statements")
    sign(service, chain, 1)
    until(lambda: "403" in cosigner_status(service, cosigners[0], "registry").problem)
    trust_logs(service, cosigners)
    after = evidence(service, chain, 1, wait=WAIT)
    registry = opened(service, wait=WAIT)
    assert isinstance(registry, TrustedRegistry), registry
    for proof in (before, after):
        assert judge(registry, proof, event_hash=None, environments=ENVIRONMENTS).code is Code.VALID_KEY_ACTIVE
    assert registry_of(service).logs.statements != registry_of(service).genesis.logs.statements


def test_timestamps_come_with_evidence(
    service: ServeService,
    cosigners: list[RunningCosigner],
    tmp_path: Path,
    authority_server: AuthorityServer,
    timestamp_authority: TimestampAuthority,
) -> None:
    """A token over the checkpoint is asked for beside everything else and written beside the evidence."""
    roots = tmp_path / "roots.pem"
    roots.write_bytes(timestamp_authority.roots_pem)
    service.configuration["timestamps"] = {
        "url": authority_server.url,
        "roots_file": str(roots),
        "interval_seconds": 0.0,
    }
    service.start()
    chain = Chain()
    sign(service, chain, 0)

    def is_stamped() -> bool:
        with client_of(service) as client:
            return bool(client.evidence(chain.stream, 0, wait_cosigned=WAIT).timestamps)

    until(is_stamped)
    folder = tmp_path / "out"
    command = [sys.executable, "-P", "-m", "witness_service.cli"]
    where = ["--address", service.address]
    proof, bundle = folder / "0.tlog-proof", folder / "bundle.json"
    for arguments in (
        ["evidence", chain.stream, "0", "--output", str(proof), "--wait-cosigned", "10"],
        ["bundle", "--output", str(bundle), "--wait-cosigned", "10"],
    ):
        subprocess.run([*command, *arguments, *where], check=True, capture_output=True, timeout=60)
    assert sorted(file.name for file in folder.iterdir()) == [
        "0.tlog-proof",
        "bundle.json",
        "checkpoint-1.tsr",
        "checkpoint-1.txt",
    ]
    assert (folder / "checkpoint-1.txt").read_text().startswith(f"{STATEMENTS}\n1\n")
    trust = ["--bundle", str(bundle), "--registry-id", service.registry_id, "--accept-environment", "development"]
    assert verify.main([*trust, "--tsa-roots", str(roots), str(proof)]) == 0


def test_a_timestamp_authority_that_is_away_is_said(
    service: ServeService, cosigners: list[RunningCosigner], tmp_path: Path, timestamp_authority: TimestampAuthority
) -> None:
    """Without a token evidence is given as ever, and the status says why there is none."""
    roots = tmp_path / "roots.pem"
    roots.write_bytes(timestamp_authority.roots_pem)
    service.configuration["timestamps"] = {
        "url": "http://127.0.0.1:9/tsa",
        "roots_file": str(roots),
        "interval_seconds": 0.0,
    }
    service.start()
    chain = Chain()
    sign(service, chain, 0)
    assert judged(service, chain, 0, wait=WAIT).code is Code.VALID_KEY_ACTIVE
    until(lambda: "timestamp authority" in status(service).timestamp_problem)
