"""One running instance: its parts, put together, started and stopped in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from hsm import Fault, HsmError, TokenRef
from key_registry.errors import RecordError
from key_registry.store import Store, StoreError
from witness_service import clock, logs
from witness_service.config import Configuration, ConfigurationError, TokenSection, load
from witness_service.custody import Custody
from witness_service.exit_codes import ExitCode
from witness_service.handover import HandOver
from witness_service.health import Health
from witness_service.log_signer import LogSigner
from witness_service.proofs import Proofs
from witness_service.refusal import Refused
from witness_service.registry_view import RegistryView
from witness_service.rotation import Rotation
from witness_service.sign_path import SignPath
from witness_service.status import Status
from witness_service.wire.key_admin_servicer import KeyAdminServicer
from witness_service.wire.key_registry_servicer import KeyRegistryServicer
from witness_service.wire.server import Server
from witness_service.wire.witness_servicer import WitnessServicer

log = structlog.get_logger(__name__)


class NotStarted(Exception):
    """The instance cannot serve; the message is one line that says what was expected and what to do."""


def token_ref(section: TokenSection) -> TokenRef:
    """Return where a configured token is."""
    return TokenRef(
        module=str(section.module),
        label=section.label,
        serial=section.serial,
        pin_file=str(section.pin_file),
        environment=section.environment,
    )


@asynccontextmanager
async def opened_custody(configuration: Configuration) -> AsyncIterator[Custody]:
    """Log in to the configured tokens for the length of the block; raises HsmError."""
    tokens = [(token_ref(section), section.processes) for section in configuration.tokens]
    timeout = min(section.sign_timeout_seconds for section in configuration.tokens)
    custody = await Custody.open(tokens, sign_timeout=timeout)
    try:
        yield custody
    finally:
        await custody.close()


@asynccontextmanager
async def opened_store(configuration: Configuration) -> AsyncIterator[Store]:
    """Connect to the database, check its schema, and hold it for the length of the block; raises StoreError."""
    database = configuration.database
    store = await Store.open(
        database.connection_string(), max_connections=database.max_connections, timeout=database.timeout_seconds
    )
    try:
        await store.check_schema()
        yield store
    finally:
        await store.close()


async def serve(
    configuration: Configuration, stop: asyncio.Event, on_serving: Callable[[str], None], now: clock.Clock = clock.now
) -> None:
    """Serve until `stop` is set: open the parts, complete what a predecessor left, answer calls, drain.

    on_serving: called with the address when the first call can be answered. Raises NotStarted, HsmError,
    StoreError, RecordError, OSError before that, and nothing afterwards.
    """
    limits = configuration.limits
    async with opened_store(configuration) as store, opened_custody(configuration) as custody:
        view = RegistryView(store, custody, configuration.service.registry_id)
        registry = await view.refresh()
        if registry.environment != configuration.service.environment:
            raise NotStarted(
                f"expected a {configuration.service.environment} registry, got one for {registry.environment}; "
                "check [service] environment and [database]"
            )
        signer = LogSigner(store, custody, view, now)
        handover = HandOver(store, custody, view, signer, now)
        rotation = Rotation(store, custody, view, handover, now, proposal_seconds=limits.proposal_seconds)
        sign_path = SignPath(store, custody, view, configuration, now)
        server = Server(
            WitnessServicer(sign_path, Proofs(store, signer), Status(store, custody, view, now()), limits),
            KeyRegistryServicer(store, view, signer),
            KeyAdminServicer(rotation),
            limits,
        )
        resuming: asyncio.Task[None] | None = None
        try:
            completed = await sign_path.start()
            if completed:
                log.info("claims of an earlier run completed", claims=completed)
            resuming = asyncio.create_task(_resume(rotation))
            health = Health(store, custody, view, sign_path)
            address = await server.start(configuration.service.listen, health.can_serve)
            log.info("serving", address=address, registry_id=registry.registry_id, environment=registry.environment)
            on_serving(address)
            await stop.wait()
            log.info("stopping", events_in_flight=sign_path.events_in_flight)
        finally:
            await _drain(server, sign_path, configuration.service.drain_seconds)
            if resuming is not None:
                resuming.cancel()
                await asyncio.gather(resuming, return_exceptions=True)


async def _resume(rotation: Rotation) -> None:
    """Finish an interrupted rotation beside the signing, which it must neither delay nor prevent."""
    try:
        await rotation.resume()
    except (Refused, HsmError, StoreError, RecordError) as error:
        log.error("rotation left unfinished; approve it again to go on", reason=str(error))


async def _drain(server: Server, sign_path: SignPath, seconds: float) -> None:
    """Refuse new work, finish what was accepted, then close the server under the callers that are left."""
    await server.say_not_serving()
    finished = await sign_path.stop(seconds)
    await server.stop(grace=0.5)
    log.info("stopped", everything_finished=finished)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def run(config: Path) -> int:
    """Run `witness serve`: serve the configuration in a file until SIGTERM; returns the exit code."""
    logs.configure()
    return exit_code_of(lambda: asyncio.run(_run(config)))


async def _run(config: Path) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    await serve(load(config), stop, lambda address: print(f"serving on {address}", file=sys.stderr, flush=True))


def exit_code_of(work: Callable[[], None]) -> int:
    """Run a service to its end and return its exit code; what keeps it from starting is one line on stderr."""
    try:
        with contextlib.suppress(KeyboardInterrupt):
            work()
    except HsmError as error:
        print(f"witness: cannot serve: {error}", file=sys.stderr)
        return ExitCode.LATCHED if error.fault is Fault.PIN else ExitCode.NOT_STARTED
    except (NotStarted, ConfigurationError, StoreError, RecordError, OSError) as error:
        print(f"witness: cannot serve: {error}", file=sys.stderr)
        return ExitCode.NOT_STARTED
    return ExitCode.DONE
