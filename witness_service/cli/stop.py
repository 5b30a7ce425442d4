"""`witness keys stop`: a key signs nothing new from now on, on one lead's word."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from witness_service.cli import change
from witness_service.cli.change import DryRun
from witness_service.cli.failure import Finding, InputProblem, command
from witness_service.cli.keys import find_key
from witness_service.cli.lead_option import LeadWhere, PassphraseFile, lead_opened
from witness_service.cli.output import write_facts, write_json
from witness_service.cli.where import Address, Json, RegistryId, State, find
from witness_service.refusal import Code, Reason, Refused

if TYPE_CHECKING:
    from key_registry.dsse import Envelope
    from key_registry.replay import Registry
    from witness_service.lead_signer import LeadSigner


@command
def stop(
    key: Annotated[str, typer.Argument(metavar="KEY_ID", help="Key; the start of its id will do.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")],
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Write straight to the database of this configuration, on the service's host: works when the "
            "service does not answer.",
        ),
    ] = None,
    dry_run: DryRun = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Stop a key at once: no instance signs anything new with it, and other witnesses take its place.

    Any one lead may. Statements that were claimed before are completed. A quorum lifts it (propose resume), or makes
    it final (propose compromise, propose retire, propose rotate).

    \b
    Examples:
      witness keys stop 5e1f --lead anna.pem --reason "laptop stolen"
      witness keys stop 5e1f --lead anna.pem --reason "laptop stolen" --config /etc/witness-service/witness.toml
    """
    if config is not None:
        facts = asyncio.run(_stop_locally(config, key, reason, lead, passphrase_file, dry_run))
    else:
        where = find(address, state, registry_id)
        facts = _stop_remotely(
            where.address, change.pinned(where), key, reason, lead or where.lead_key, passphrase_file, dry_run
        )
    if as_json:
        write_json(facts)
        return
    title = "would stop the key; nothing was changed" if dry_run else "the key is stopped"
    if facts.get("was_stopped"):
        title = "the key was stopped before"
    write_facts(title, {name.replace("_", " "): value for name, value in facts.items() if value not in (None, "")})


def _stop_remotely(
    address: str,
    registry_id: str,
    key: str,
    reason: str,
    lead: str | Path | None,
    passphrase_file: Path | None,
    dry_run: bool,
) -> dict[str, object]:
    from witness_service.wire.client import WitnessClient

    # No replay here: an emergency should not wait for a bundle, and a lie of the service could only spare the key.
    with WitnessClient(address) as client, lead_opened(lead, passphrase_file) as signer:
        keys = {item.key_id: item for item in client.keys().keys}
        key_id = find_key(key, keys)
        listed = keys[key_id]
        if dry_run or listed.stopped_at:
            return _facts(key_id, listed.witness_id, listed.stopped_at, bool(listed.stopped_at), dry_run)
        order = _order(signer, registry_id, key_id, listed.order_count + 1, reason)
        stopped = client.stop_key(order.to_json())
    return _facts(key_id, listed.witness_id, stopped.stopped_at, stopped.was_stopped, dry_run)


async def _stop_locally(
    config: Path, key: str, reason: str, lead: str | None, passphrase_file: Path | None, dry_run: bool
) -> dict[str, object]:
    from key_registry.errors import RecordError
    from key_registry.replay import Registry
    from key_registry.store import StoreError
    from witness_service import logs
    from witness_service.clock import utc_text
    from witness_service.config import ConfigurationError, load
    from witness_service.service import opened_store
    from witness_service.stops import stop_key

    logs.configure()
    try:
        configuration = load(config)
        async with opened_store(configuration) as store:
            registry = Registry.replay(await store.records(), registry_id=configuration.service.registry_id)
            key_id = find_key(key, registry.keys)
            witness_id = registry.keys[key_id].witness_id
            orders = await store.key_orders(key_id)
            if dry_run or (orders and orders[-1].stops):
                since = utc_text(orders[-1].created_at) if orders and orders[-1].stops else ""
                return _facts(key_id, witness_id, since, bool(since), dry_run)
            with lead_opened(lead, passphrase_file) as signer:
                _require_lead(signer, registry)
                order = _order(signer, registry.registry_id, key_id, len(orders) + 1, reason)
            stopped = await stop_key(store, registry, order)
            return _facts(key_id, witness_id, utc_text(stopped.order.created_at), stopped.was_before, dry_run)
    except ConfigurationError as error:
        raise InputProblem(str(error)) from error
    except StoreError as error:
        raise Refused(Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE, str(error)) from error
    except RecordError as error:
        raise Finding("CHECK_FAILED", f"the registry in the database does not hold: {error}") from error


def _require_lead(signer: LeadSigner, registry: Registry) -> None:
    if signer.public_key.key_id not in {lead.public_key.key_id for lead in registry.leads}:
        raise Finding("NOT_A_LEAD", f"expected the key of a lead of this registry, got {signer.public_key.key_id}")


def _order(signer: LeadSigner, registry_id: str, key_id: str, number: int, reason: str) -> Envelope:
    from key_registry import dsse
    from key_registry.errors import FormatError
    from witness_service import clock
    from witness_service.orders import StopOrder

    try:
        body = StopOrder(registry_id, key_id, number, reason, clock.now()).encode()
    except FormatError as error:
        raise typer.BadParameter(str(error), param_hint="--reason") from error
    return dsse.Envelope(StopOrder.PAYLOAD_TYPE, body, (signer.sign(StopOrder.PAYLOAD_TYPE, body),))


def _facts(key_id: str, witness_id: str, stopped_at: str, was_stopped: bool, dry_run: bool) -> dict[str, object]:
    facts: dict[str, object] = {"key_id": key_id, "witness_id": witness_id, "stopped_at": stopped_at}
    return {**facts, "was_stopped": was_stopped, **({"dry_run": True} if dry_run else {})}
