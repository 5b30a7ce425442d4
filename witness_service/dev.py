"""`witness dev`: the whole service in one state folder, through the same code path as `witness serve`.

The folder holds a SoftHSM token, a private PostgreSQL cluster, one lead key, and the configuration file that
`witness serve` could be given. Everything is made on the first start and found again on the next.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hsm import Algorithm, TokenRef, softhsm
from key_registry.migrations import OWNER, SERVICE, migrate
from key_registry.replay import Registry
from witness_service import clock, durable_file, logs, service
from witness_service.config import Configuration, load
from witness_service.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from witness_service.founding import Founding
from witness_service.lead_key import LeadKey

WITNESSES = 3
DATABASE = "witness"
TOKEN_LABEL = "witness-dev"


@dataclass(frozen=True)
class State:
    """The files of a state folder."""

    folder: Path

    @property
    def token(self) -> Path:
        return self.folder / "token"

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def lead_key(self) -> Path:
        return self.folder / "lead.pem"

    @property
    def configuration(self) -> Path:
        return self.folder / "witness.toml"

    @property
    def log(self) -> Path:
        return self.folder / "witness.log"

    @property
    def announcement(self) -> Path:
        return self.folder / "dev.json"

    def make(self) -> None:
        """Make the folder; others may pass through it, as the database account must, but not list it."""
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process alone; raises NotStarted when another one holds it."""
        with open(self.folder / "lock", "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise service.NotStarted(
                    f"expected nobody else in {self.folder}, but a witness dev runs there; stop it or take --state"
                ) from None
            yield


def run(state: Path, listen: str) -> int:
    """Run `witness dev` in a folder until SIGTERM or Ctrl-C; returns the exit code."""
    return service.exit_code_of(lambda: _run(State(state.absolute()), listen))


def _run(state: State, listen: str) -> None:
    state.make()
    with state.locked(), open(state.log, "a", buffering=1) as log:
        logs.configure(log)
        postgres = EmbeddedPostgres(state.postgres)
        try:
            postgres.start()
            asyncio.run(_prepare_and_serve(state, postgres, listen))
        except EmbeddedPostgresError as error:
            raise service.NotStarted(str(error)) from error
        finally:
            state.announcement.unlink(missing_ok=True)
            postgres.stop()


async def _prepare_and_serve(state: State, postgres: EmbeddedPostgres, listen: str) -> None:
    stop = asyncio.Event()
    service.stop_on_signals(stop)
    await asyncio.to_thread(postgres.ensure_database, DATABASE)
    await asyncio.to_thread(migrate, postgres.dsn(OWNER, DATABASE))
    token = await asyncio.to_thread(_token, state)
    dsn = postgres.dsn(SERVICE, DATABASE)
    registry = await _founded(state, _write_configuration(state, token, dsn, None, listen))
    configuration = _write_configuration(state, token, dsn, registry.registry_id, listen)
    await service.serve(configuration, stop, lambda address: _announce(state, registry, address))


def _token(state: State) -> TokenRef:
    """Return the token of the folder, made on the first start."""
    if (state.token / "serial").exists():
        return softhsm.open_token(state.token, TOKEN_LABEL)
    # A token that was being made when the process died has no serial yet, and has signed nothing.
    shutil.rmtree(state.token, ignore_errors=True)
    return softhsm.create_token(state.token, TOKEN_LABEL)


async def _founded(state: State, configuration: Configuration) -> Registry:
    """Return the registry of the folder; found it, or finish founding it, with the folder's lead key."""
    lead = LeadKey.load(state.lead_key) if state.lead_key.exists() else LeadKey.create(state.lead_key)
    serial = configuration.tokens[0].serial
    async with service.opened_store(configuration) as store:
        envelopes = await store.records()
        registry = Registry.replay(envelopes, registry_id=None) if envelopes else None
        if registry is not None and _open_witnesses(registry) >= WITNESSES:
            return registry
        async with service.opened_custody(configuration) as custody:
            founding = Founding(store, custody, [lead], clock.now)
            if registry is None:
                origin = f"{secrets.token_hex(6)}.witness-service.invalid"
                registry = await founding.genesis(
                    environment="development", origin=origin, threshold=1, token_serial=serial
                )
            while _open_witnesses(registry) < WITNESSES:
                registry = await founding.witness(registry, algorithm=Algorithm.ED25519, token_serial=serial)
        return registry


def _open_witnesses(registry: Registry) -> int:
    return sum(1 for witness_id in registry.witnesses if registry.open_keys(witness_id))


def _write_configuration(
    state: State, token: TokenRef, dsn: str, registry_id: str | None, listen: str
) -> Configuration:
    """Write the file `witness serve` would be given, and read it back: both commands go through it.

    registry_id: None until the registry is founded.
    """
    names_registry = f'registry_id = "{registry_id}"\n' if registry_id else ""
    text = f"""# Written by witness dev at each start.
[service]
listen = {json.dumps(listen)}
environment = "development"
{names_registry}
[database]
dsn = {json.dumps(dsn)}

[[tokens]]
module = {json.dumps(token.module)}
label = {json.dumps(token.label)}
serial = {json.dumps(token.serial)}
pin_file = {json.dumps(token.pin_file)}
environment = {{ {", ".join(f"{name} = {json.dumps(value)}" for name, value in token.environment.items())} }}
"""
    _write(state.configuration, text)
    return load(state.configuration, founded=registry_id is not None)


def _announce(state: State, registry: Registry, address: str) -> None:
    """Tell people and the other commands where the service is."""
    facts = {
        "address": address,
        "environment": registry.environment,
        "lead_key": str(state.lead_key),
        "pid": os.getpid(),
        "registry_id": registry.registry_id,
    }
    _write(state.announcement, json.dumps(facts, indent=2) + "\n")
    witnesses = "\n".join(f"                {witness_id}" for witness_id in registry.witnesses)
    print(
        f"""witness dev     serving on {address}, statements say "{registry.environment}"
registry id     {registry.registry_id}
state folder    {state.folder}
log             {state.log}
witnesses
{witnesses}
try             witness status --state {state.folder}
stop            Ctrl-C""",
        file=sys.stderr,
        flush=True,
    )


def _write(path: Path, text: str) -> None:
    """Write a file for its owner only, whole or not at all."""
    durable_file.replace(path, text.encode(), mode=0o600)
