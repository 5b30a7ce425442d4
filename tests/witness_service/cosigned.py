"""A service under a cosigner policy: its cosigners know its logs, and evidence and bundle are judged together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from key_registry import note
from key_registry.judge import judge
from key_registry.opening import open_bundle
from key_registry.replay import Registry
from key_registry.trusted_registry import TrustedRegistry
from key_registry.verdict import Verdict
from tests.fix_cosigner import RunningCosigner, policy_text
from tests.fix_service import ServeService, founded
from tests.witness_service.chain import Chain
from tests.witness_service.judging import ENVIRONMENTS
from witness_service.embedded_postgres import EmbeddedPostgres
from witness_service.wire.answers import CosignerStatus, ServiceStatus
from witness_service.wire.client import WitnessClient

STATEMENTS = "test.witness-service.invalid/statements"
REGISTRY = "test.witness-service.invalid/registry"
WAIT = 10.0
"""Seconds in which cosigners that can answer have answered on a busy machine."""


@contextmanager
def client_of(service: ServeService) -> Iterator[WitnessClient]:
    """Lend a client that is connected, however busy the machine is."""
    with WitnessClient(service.address) as client:
        client.wait_ready(timeout=20)
        yield client


@contextmanager
def cosigned_service(
    postgres: EmbeddedPostgres, folder: Path, cosigners: Sequence[RunningCosigner], threshold: int
) -> Iterator[ServeService]:
    """Lend a service, not started yet, whose policy asks for so many of the cosigners, which know its logs."""
    with founded(postgres, folder, policy_text(cosigners, threshold)) as made:
        made.configuration["cosigning"] = {
            "publish_seconds": 0.2,
            "heartbeat_seconds": 600.0,
            "timeout_seconds": 1.0,
        }
        trust_logs(made, cosigners)
        yield made


def trust_logs(service: ServeService, cosigners: Sequence[RunningCosigner]) -> None:
    """Tell the cosigners the keys of the service's logs as its registry has them now."""
    logs = registry_of(service).logs
    vkeys = [note.vkey(key.origin, key.public_key) for key in (logs.statements, logs.registry)]
    for cosigner in cosigners:
        cosigner.trust(*vkeys)


def registry_of(service: ServeService) -> Registry:
    """Return the registry in the service's database."""
    from key_registry.dsse import Envelope

    with service.auditor() as connection:
        rows = connection.execute("SELECT envelope FROM witness.registry_records ORDER BY seq").fetchall()
    return Registry.replay([Envelope.from_json(bytes(row[0])) for row in rows], registry_id=service.registry_id)


def opened(service: ServeService, *, wait: float = 0.0) -> TrustedRegistry | Verdict:
    """Fetch a bundle and open it."""
    with client_of(service) as client:
        return open_bundle(client.bundle(wait_cosigned=wait), service.registry_id)


def evidence(service: ServeService, chain: Chain, sequence: int, *, wait: float = 0.0) -> bytes:
    """Fetch the evidence for one place."""
    with client_of(service) as client:
        (found,) = client.proof(chain.stream, sequence, wait_cosigned=wait)
    return found.tlog_proof


def judged(service: ServeService, chain: Chain, sequence: int, *, wait: float = 0.0) -> Verdict:
    """Fetch evidence and then a bundle, and return the verdict, which may be one on the bundle already."""
    proof = evidence(service, chain, sequence, wait=wait)
    registry = opened(service)
    if isinstance(registry, Verdict):
        return registry
    return judge(registry, proof, event_hash=chain.hash(sequence), environments=ENVIRONMENTS)


def status(service: ServeService) -> ServiceStatus:
    """Return what the service says about itself."""
    with WitnessClient(service.address) as client:
        return client.wait_ready(timeout=20)


def cosigner_status(service: ServeService, cosigner: RunningCosigner, log: str = "statements") -> CosignerStatus:
    """Return what the service says about a cosigner and a log."""
    (found,) = [item for item in status(service).cosigners if (item.cosigner, item.log) == (cosigner.name, log)]
    return found
