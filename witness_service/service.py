"""One running instance: its parts, put together, started and stopped in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import structlog

from hsm import Fault, HsmError, TokenRef
from key_registry.errors import RecordError
from key_registry.store import Store, StoreError
from key_registry.timestamp import INSTALL
from witness_service import clock, logs
from witness_service.closing_seal import ClosingSeal
from witness_service.config import Configuration, ConfigurationError, TokenSection, load
from witness_service.cosigning.handing_out import HandingOut
from witness_service.cosigning.rollback import RollbackGuard
from witness_service.cosigning.rounds import Cosigning
from witness_service.cosigning.stamping import Stamping
from witness_service.custody import Custody
from witness_service.exit_codes import ExitCode
from witness_service.handover import HandOver
from witness_service.health import Health
from witness_service.log_reading import LogReading
from witness_service.log_signer import LogSigner
from witness_service.proofs import Proofs
from witness_service.proposals import Proposals
from witness_service.refusal import Refused
from witness_service.registry_view import RegistryView
from witness_service.sign_path import SignPath
from witness_service.status import Status
from witness_service.stops import Stops
from witness_service.wire.key_admin_servicer import KeyAdminServicer
from witness_service.wire.key_registry_servicer import KeyRegistryServicer
from witness_service.wire.server import Server
from witness_service.wire.witness_servicer import WitnessServicer

log = structlog.get_logger(__name__)

GO_ON_SECONDS = 2.0
"""How often proposals are looked at for what an instance that is gone has left."""


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
        if not registry.witnesses:
            log.warning("no witness can sign yet", do="propose the first one with `witness keys propose`")
        guard = RollbackGuard(now)
        signer = LogSigner(store, custody, view, now, guard)
        stamping = _stamping(configuration, store)
        handing_out = HandingOut(store, view, signer, now, prefers_timestamped=stamping is not None)
        cosigning = Cosigning(store, view, signer, handing_out, guard, configuration.cosigning, stamping, now)
        seal = ClosingSeal(signer, cosigning)
        handover = HandOver(store, custody, view, seal, guard, now)
        proposals = Proposals(store, custody, view, seal, handover, now, proposal_seconds=limits.proposal_seconds)
        sign_path = SignPath(store, custody, view, guard, configuration, now)
        server = Server(
            WitnessServicer(
                sign_path,
                Proofs(store, handing_out),
                cosigning,
                Status(store, custody, view, guard, cosigning, now()),
                limits,
            ),
            KeyRegistryServicer(store, view, signer, cosigning, LogReading(store, view, signer, handing_out)),
            KeyAdminServicer(proposals, Stops(store, view)),
            limits,
        )
        going_on: asyncio.Task[None] | None = None
        try:
            # Before anything is signed or sealed: on a restored backup a claim left behind must not be completed.
            await cosigning.start()
            completed = await sign_path.start()
            if completed:
                log.info("claims of an earlier run completed", claims=completed)
            going_on = asyncio.create_task(_go_on(view, proposals))
            health = Health(store, custody, view, guard, sign_path)
            address = await server.start(configuration.service.listen, health.can_serve)
            log.info("serving", address=address, registry_id=registry.registry_id, environment=registry.environment)
            on_serving(address)
            await stop.wait()
            log.info("stopping", events_in_flight=sign_path.events_in_flight)
        finally:
            await _drain(server, sign_path, configuration.service.drain_seconds)
            if going_on is not None:
                going_on.cancel()
                await asyncio.gather(going_on, return_exceptions=True)
            await cosigning.stop()


def _stamping(configuration: Configuration, store: Store) -> Stamping | None:
    section = configuration.timestamps
    if section.url is None:
        return None
    if find_spec("rfc3161_client") is None:
        raise NotStarted(f"[timestamps]: {INSTALL}")
    return Stamping(store, section, section.url, section.roots_pem())


async def _go_on(view: RegistryView, proposals: Proposals) -> None:
    """Finish what was interrupted beside the signing, which it must neither delay nor prevent; again and again."""
    while True:
        try:
            await view.hold_missing()
            await proposals.go_on()
        except (Refused, HsmError, StoreError, RecordError) as error:
            log.error("proposals are looked at again later", reason=str(error))
        except Exception as error:
            log.error("proposals are looked at again later", exc_info=error)
        await asyncio.sleep(GO_ON_SECONDS)


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
