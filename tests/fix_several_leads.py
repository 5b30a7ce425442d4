"""Services of a registry whose leads decide two of three: founded once per worker, copied for each test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hsm import Algorithm, TokenRef, softhsm
from key_registry.migrations import SERVICE, create_database
from key_registry.replay import Registry
from key_registry.store import Store
from tests.fix_postgres import TEMPLATE
from tests.fix_service import TOKEN_LABEL, Foundation, ServeService, serving
from witness_service import clock
from witness_service.custody import Custody
from witness_service.embedded_postgres import SUPERUSER, EmbeddedPostgres
from witness_service.founding import Founding
from witness_service.lead_key import LeadKey

DATABASE = "witness_quorum"
NAMES = ("anna", "ben", "carla")


@dataclass(frozen=True)
class QuorumFoundation(Foundation):
    """A foundation, and the key files of its leads: anna, ben and carla, of whom two decide."""

    leads: tuple[Path, ...] = ()


@pytest.fixture(scope="session")
def quorum_foundation(
    postgres: EmbeddedPostgres, softhsm_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> QuorumFoundation:
    """The registry that every `quorum_service` of this worker has: three leads, two witnesses."""
    folder = tmp_path_factory.mktemp("quorum")
    leads = tuple(folder / f"{name}.pem" for name in NAMES)
    keys = [LeadKey.create(file, name=name) for file, name in zip(leads, NAMES, strict=True)]
    create_database(postgres.dsn(SUPERUSER, "postgres"), DATABASE, template=TEMPLATE)
    token = softhsm.create_token(folder / "token", TOKEN_LABEL)
    registry = asyncio.run(_found(postgres.dsn(SERVICE, DATABASE), token, keys))
    return QuorumFoundation(registry, folder / "token", leads[0], DATABASE, leads)


async def _found(dsn: str, token: TokenRef, leads: list[LeadKey]) -> Registry:
    store = await Store.open(dsn)
    custody = await Custody.open([(token, 1)], sign_timeout=10.0)
    try:
        founding = Founding(store, custody, leads, clock.now)
        registry = await founding.genesis(
            environment="development", origin="quorum.witness-service.invalid", threshold=2, token_serial=token.serial
        )
        for _ in range(2):
            registry = await founding.witness(registry, algorithm=Algorithm.ED25519, token_serial=token.serial)
        return registry
    finally:
        await custody.close()
        await store.close()


@pytest.fixture
def quorum_service(
    quorum_foundation: QuorumFoundation, postgres: EmbeddedPostgres, tmp_path: Path
) -> Iterator[ServeService]:
    """A service whose leads decide two of three, for one test alone; not started yet."""
    with serving(quorum_foundation, postgres, tmp_path / "quorum") as made:
        yield made


@pytest.fixture
def leads(quorum_foundation: QuorumFoundation) -> tuple[Path, ...]:
    """The key files of anna, ben and carla."""
    return quorum_foundation.leads
