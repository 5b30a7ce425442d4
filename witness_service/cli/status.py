"""`witness status`: what an instance is and whether it can sign."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from witness_service.cli.failure import Finding, command
from witness_service.cli.output import console, printable, write_json
from witness_service.cli.where import Address, Json, RegistryId, State, Where, find
from witness_service.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.text import Text

    from witness_service.wire.answers import ServiceStatus, TokenStatus


@command
def status(address: Address = None, state: State = None, registry_id: RegistryId = None, as_json: Json = False) -> None:
    """Show what the service is, where its logs stand and whether its tokens can sign.

    Exit code 1 when a token is not ready or the registry is another than the pinned one, 3 when nobody
    answers.

    \b
    Example:
      witness status --address 127.0.0.1:7233
    """
    from witness_service.wire.client import WitnessClient

    where = find(address, state, registry_id)
    with WitnessClient(where.address) as client:
        found = client.status()
    if as_json:
        write_json({"address": where.address, **dataclasses.asdict(found)})
    else:
        _write(where, found)
    if where.registry_id not in (None, found.registry_id):
        raise Finding(
            "OTHER_REGISTRY", f"expected the service of registry {where.registry_id}, got {found.registry_id}"
        )
    if any(token.state != "ready" for token in found.tokens):
        raise typer.Exit(ExitCode.REFUSED)


def _write(where: Where, found: ServiceStatus) -> None:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    ready = all(token.state == "ready" for token in found.tokens)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for name, value in (
        ("environment", found.environment),
        ("registry", found.registry_id),
        ("registry log", f"{found.registry_size:,} records, root {found.registry_root}"),
        ("statement log", f"{found.statement_size:,} attestations, root {found.statement_root}"),
        ("in flight", f"{found.events_in_flight:,} events"),
        ("serving since", found.serving_since),
        ("version", found.version),
    ):
        facts.add_row(name, printable(value))
    for token in found.tokens:
        facts.add_row(f"token {printable(token.label)}", _token_text(token))
    title = Text(f"witness service at {where.address}", style="bold green" if ready else "bold red")
    console().print(Panel(facts, title=title, title_align="left", expand=False))


def _token_text(token: TokenStatus) -> Text:
    from rich.text import Text

    text = Text(printable(token.state), style="green" if token.state == "ready" else "bold red")
    text.append(f", serial {printable(token.serial)}", style="default not bold")
    if token.reason:
        text.append(f": {printable(token.reason)}", style="default not bold")
    return text
