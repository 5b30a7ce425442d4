"""Running services, each a process of its own over a real token and a real database.

`dev_service` is `witness dev`, shared by a worker. `service` is `witness serve` for one test alone, over a copy of a
registry that was founded once per worker: its own database, its own token, its own configuration file.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest
from psycopg import sql

from hsm import Algorithm, TokenRef, softhsm
from key_registry.migrations import AUDITOR, SERVICE, create_database
from key_registry.replay import Registry
from key_registry.store import Store
from tests.fix_postgres import TEMPLATE
from tests.hsm.signing import signer_pids
from witness_service import clock
from witness_service.custody import Custody
from witness_service.dev import DATABASE
from witness_service.embedded_postgres import SUPERUSER, EmbeddedPostgres
from witness_service.founding import Founding
from witness_service.lead_key import LeadKey

if TYPE_CHECKING:
    from tests.fix_softhsm import FaultyToken

START_SECONDS = 60.0
STOP_SECONDS = 40.0
FOUNDED = "witness_founded"
TOKEN_LABEL = "witness-test"
DSN_PASSWORD = "SENTINEL-password-of-the-dsn"
"""Stands in every connection string; peer authentication never asks for it."""

_numbers = itertools.count()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is so; fail when it is not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.01)


@dataclass
class Service:
    """One life after the other of one service; `kill` is kill -9."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    address: str = ""
    registry_id: str = ""

    @property
    def stderr(self) -> Path:
        return self.folder.with_name(self.folder.name + ".stderr")

    def said(self) -> str:
        """Return what it wrote to standard error."""
        return self.stderr.read_text() if self.stderr.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signers(self) -> list[int]:
        """Return its signer processes."""
        return signer_pids(self.pid)

    def spawn(self, *command: str, environment: dict[str, str] | None = None) -> None:
        """Start a `witness` command, its standard error going to a file."""
        with open(self.stderr, "ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "witness_service.cli", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=os.environ | {"NO_PROXY": "127.0.0.1"} | (environment or {}),
            )

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Wait until the process is ready; fail with what it said when it ends before."""
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"the service did not serve: {self.said()}")
            time.sleep(0.01)

    def terminate(self) -> None:
        """Send SIGTERM."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Send SIGTERM, wait, and return the exit code."""
        self.terminate()
        assert self.process is not None
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Kill the service process; its database goes on, as it would on a machine of its own."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def clean(self) -> None:
        """Kill whatever runs."""
        if self.process is not None:
            self.kill()


@dataclass
class DevService(Service):
    """One `witness dev` in a state folder; `start` returns when it serves."""

    announced: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.folder

    @property
    def lead_key(self) -> Path:
        return Path(self.announced["lead_key"])

    def start(self, *, environment: dict[str, str] | None = None) -> Self:
        """Start it and wait until it serves; fails with what it said when it does not."""
        dev_json = self.state / "dev.json"
        dev_json.unlink(missing_ok=True)
        self.spawn("dev", "--state", str(self.state), "--listen", "127.0.0.1:0", environment=environment)
        self.wait_for(dev_json.exists)
        self.announced = json.loads(dev_json.read_text())
        self.address = self.announced["address"]
        self.registry_id = self.announced["registry_id"]
        return self

    def postgres(self) -> EmbeddedPostgres:
        """Return the private cluster, running."""
        cluster = EmbeddedPostgres(self.state / "postgres")
        cluster.start()
        return cluster

    def auditor(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection that can only read."""
        return psycopg.connect(self.postgres().dsn(AUDITOR, DATABASE), autocommit=True)

    def clean(self) -> None:
        """Stop whatever runs and remove the cluster, which may lie elsewhere."""
        super().clean()
        cluster = EmbeddedPostgres(self.state / "postgres")
        cluster.stop()
        shutil.rmtree(cluster.home, ignore_errors=True)


@dataclass
class ServeService(Service):
    """One `witness serve` with a configuration that a test may change before it starts it."""

    configuration: dict[str, Any] = field(default_factory=dict)
    auditor_dsn: str = ""
    superuser_dsn: str = ""
    lead_key: Path = Path()

    def write_configuration(self) -> Path:
        """Write the configuration file and return its path."""
        file = self.folder / "witness.toml"
        file.write_text(toml(self.configuration))
        return file

    def start(self) -> Self:
        """Start it and wait until it serves; fails with what it said when it does not."""
        said_before = len(self.said())
        self.spawn("serve", "--config", str(self.write_configuration()))
        self.wait_for(lambda: "serving on " in self.said()[said_before:])
        until(lambda: self.said()[said_before:].partition("serving on ")[2].endswith("\n"))
        self.address = self.said()[said_before:].partition("serving on ")[2].split()[0]
        return self

    def refuses(self) -> subprocess.CompletedProcess[str]:
        """Start it, expecting that it ends by itself, and return how it ended."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "witness_service.cli", "serve", "--config", str(self.write_configuration())],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )

    def auditor(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection that can only read."""
        return psycopg.connect(self.auditor_dsn, autocommit=True)

    def superuser(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection that may do everything."""
        return psycopg.connect(self.superuser_dsn, autocommit=True)

    def replica(self) -> ServeService:
        """Return a second instance of the same service, not started yet."""
        folder = self.folder.with_name(self.folder.name + "-replica")
        folder.mkdir()
        return ServeService(
            folder,
            registry_id=self.registry_id,
            configuration=self.configuration,
            auditor_dsn=self.auditor_dsn,
            lead_key=self.lead_key,
        )

    def behind(self, fault_module: Path) -> FaultyToken:
        """Put the fault module in front of the token, and return what gives it its orders."""
        # A fixture module that another one imports first would not have its asserts rewritten.
        from tests.fix_softhsm import FaultyToken

        section = self.configuration["tokens"][0]
        folder = self.folder / "faults"
        folder.mkdir()
        section["environment"] |= {"FAULT_MODULE": section["module"], "FAULT_FOLDER": str(folder)}
        section["module"] = str(fault_module)
        ref = TokenRef(
            section["module"], section["label"], section["serial"], section["pin_file"], section["environment"]
        )
        return FaultyToken(ref, folder)


def toml(configuration: dict[str, Any]) -> str:
    """Return tables, and lists of tables, of texts, numbers and flat tables, as TOML."""
    lines = []
    for name, section in configuration.items():
        for table in section if isinstance(section, list) else [section]:
            lines.append(f"[[{name}]]" if isinstance(section, list) else f"[{name}]")
            lines += [f"{key} = {_inline(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {json.dumps(text)}" for name, text in value.items()) + " }"
    return json.dumps(value)


@dataclass(frozen=True)
class Foundation:
    """A registry with three witnesses and one lead that was founded but has signed nothing, to make copies of."""

    registry: Registry
    token: Path
    lead_key: Path
    database: str = FOUNDED


@pytest.fixture(scope="session")
def foundation(
    postgres: EmbeddedPostgres, softhsm_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Foundation:
    """The registry that every `service` of this worker has, in a database and a token to be copied."""
    folder = tmp_path_factory.mktemp("foundation")
    lead_key = folder / "lead.pem"
    create_database(postgres.dsn(SUPERUSER, "postgres"), FOUNDED, template=TEMPLATE)
    token = softhsm.create_token(folder / "token", TOKEN_LABEL)
    registry = asyncio.run(_found(postgres.dsn(SERVICE, FOUNDED), token, LeadKey.create(lead_key)))
    return Foundation(registry, folder / "token", lead_key)


async def _found(dsn: str, token: TokenRef, lead: LeadKey, policy: str = "none") -> Registry:
    store = await Store.open(dsn)
    custody = await Custody.open([(token, 1)], sign_timeout=10.0)
    try:
        founding = Founding(store, custody, [lead], clock.now)
        registry = await founding.genesis(
            environment="development",
            origin="test.witness-service.invalid",
            threshold=1,
            token_serial=token.serial,
            policy=policy,
        )
        for _ in range(3):
            registry = await founding.witness(registry, algorithm=Algorithm.ED25519, token_serial=token.serial)
        return registry
    finally:
        await custody.close()
        await store.close()


@contextmanager
def founded(postgres: EmbeddedPostgres, folder: Path, policy: str) -> Iterator[ServeService]:
    """Lend a service whose registry was founded with a cosigner policy, for one test alone."""
    folder.mkdir()
    database = f"founded_{os.getpid()}_{next(_numbers)}"
    create_database(postgres.dsn(SUPERUSER, "postgres"), database, template=TEMPLATE)
    token = softhsm.create_token(folder / "template", TOKEN_LABEL)
    lead_key = folder / "lead.pem"
    try:
        registry = asyncio.run(_found(postgres.dsn(SERVICE, database), token, LeadKey.create(lead_key), policy))
        with serving(
            Foundation(registry, folder / "template", lead_key, database), postgres, folder / "service"
        ) as made:
            yield made
    finally:
        drop_database(postgres, database)


def drop_database(postgres: EmbeddedPostgres, name: str) -> None:
    """Remove a database, whoever is connected to it."""
    with psycopg.connect(postgres.dsn(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def copy_token(template: Path, folder: Path) -> TokenRef:
    """Copy a SoftHSM token with its keys and return where the copy is."""
    shutil.copytree(template, folder)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(configuration.read_text().replace(str(template.resolve()), str(folder.resolve())))
    return softhsm.open_token(folder, TOKEN_LABEL)


@contextmanager
def serving(foundation: Foundation, postgres: EmbeddedPostgres, folder: Path) -> Iterator[ServeService]:
    """Lend a service over a copy of the foundation; its files lie in a folder, which is made."""
    folder.mkdir()
    database = f"service_{os.getpid()}_{next(_numbers)}"
    create_database(postgres.dsn(SUPERUSER, "postgres"), database, template=foundation.database)
    token = copy_token(foundation.token, folder / "token")
    made = ServeService(
        folder,
        registry_id=foundation.registry.registry_id,
        configuration={
            "service": {
                "listen": "127.0.0.1:0",
                "environment": "development",
                "registry_id": foundation.registry.registry_id,
                "drain_seconds": 20.0,
            },
            "database": {"dsn": f"{postgres.dsn(SERVICE, database)} password={DSN_PASSWORD}"},
            "tokens": [
                {
                    "module": token.module,
                    "label": token.label,
                    "serial": token.serial,
                    "pin_file": token.pin_file,
                    "environment": dict(token.environment),
                }
            ],
            "streams": [],
            "limits": {},
        },
        auditor_dsn=postgres.dsn(AUDITOR, database),
        superuser_dsn=postgres.dsn(SUPERUSER, database),
        lead_key=foundation.lead_key,
    )
    try:
        yield made
    finally:
        made.clean()
        drop_database(postgres, database)


@pytest.fixture
def service(foundation: Foundation, postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[ServeService]:
    """A service for one test alone, which may change, stop and kill it; not started yet."""
    with serving(foundation, postgres, tmp_path / "service") as made:
        yield made


@pytest.fixture(scope="session")
def dev_service(reachable_folder: Path) -> Iterator[DevService]:
    """A service that serves, shared by the tests of a worker: each takes stream names of its own."""
    shared = DevService(reachable_folder / "shared")
    yield shared.start()
    shared.clean()


@pytest.fixture
def own_service(reachable_folder: Path) -> Iterator[DevService]:
    """A `witness dev` for one test alone, which may stop and kill it; not started yet."""
    own = DevService(Path(tempfile.mkdtemp(prefix="own-", dir=reachable_folder)) / "state")
    own.state.parent.chmod(0o755)
    own.state.mkdir(mode=0o711)
    yield own
    own.clean()
