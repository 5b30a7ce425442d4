"""`witness status`: what an instance is and whether it can sign."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from witness_service.cli.failure import Finding, command
from witness_service.cli.output import console, printable, write_json
from witness_service.cli.where import Address, Json, RegistryId, State, Where, find
from witness_service.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.text import Text

    from witness_service.wire.answers import CosignerStatus, ServiceStatus, TokenStatus


@command
def status(address: Address = None, state: State = None, registry_id: RegistryId = None, as_json: Json = False) -> None:
    """Show what the service is, where its logs stand, who cosigned them and whether it can sign.

    Exit code 1 when a token is not ready, no witness has an open key, a cosigner knows more than the database, or the
    registry is another than the pinned one; 3 when nobody answers. A cosigner that does not answer is shown, and
    changes no exit code.

    \b
    Example:
      witness status --address 127.0.0.1:7233
    """
    from witness_service.wire.client import WitnessClient

    where = find(address, state, registry_id)
    with WitnessClient(where.address) as client:
        found = client.status()
        keys = client.keys().keys
    open_keys = sum(1 for key in keys if key.state == "open")
    stopped = [key.key_id for key in keys if key.state == "stopped"]
    if as_json:
        write_json(
            {"address": where.address, **dataclasses.asdict(found), "open_keys": open_keys, "stopped_keys": stopped}
        )
    else:
        _write(where, found, open_keys, stopped)
    if where.registry_id not in (None, found.registry_id):
        raise Finding(
            "OTHER_REGISTRY", f"expected the service of registry {where.registry_id}, got {found.registry_id}"
        )
    if not _can_sign(found, open_keys):
        raise typer.Exit(ExitCode.REFUSED)


def _can_sign(found: ServiceStatus, open_keys: int) -> bool:
    return open_keys > 0 and not found.contradictions and all(token.state == "ready" for token in found.tokens)


def _write(where: Where, found: ServiceStatus, open_keys: int, stopped: Sequence[str]) -> None:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for name, value in (
        ("environment", found.environment),
        ("registry", found.registry_id),
        ("registry log", f"{found.registry_size:,} records, root {found.registry_root}"),
        ("statement log", f"{found.statement_size:,} attestations, root {found.statement_root}"),
        (
            "witness keys",
            f"{open_keys} open" if open_keys else "none open; add a witness: witness keys propose",
        ),
        ("in flight", f"{found.events_in_flight:,} events"),
        ("serving since", found.serving_since),
        ("version", found.version),
    ):
        facts.add_row(name, printable(value))
    for key_id in stopped:
        facts.add_row("stopped key", Text(f"{printable(key_id)}; witness keys list says why", style="bold red"))
    for token in found.tokens:
        facts.add_row(f"token {printable(token.label)}", _token_text(token))
    for cosigner in found.cosigners:
        facts.add_row(f"{printable(cosigner.cosigner)}, {printable(cosigner.log)}", _cosigner_text(cosigner))
    if found.timestamp_problem:
        facts.add_row("timestamps", Text(printable(found.timestamp_problem), style="yellow"))
    for contradiction in found.contradictions:
        facts.add_row("nothing is signed", Text(printable(contradiction), style="bold red"))
    style = "bold green" if _can_sign(found, open_keys) else "bold red"
    title = Text(f"witness service at {where.address}", style=style)
    console().print(Panel(facts, title=title, title_align="left", expand=False))


def _cosigner_text(cosigner: CosignerStatus) -> Text:
    from rich.text import Text

    if cosigner.size is None:
        text = Text("cosigned nothing yet", style="yellow" if cosigner.problem else "")
    else:
        text = Text(f"cosigned {cosigner.size:,} entries at {printable(cosigner.cosigned_at)}")
    if cosigner.problem:
        text.append(f": {printable(cosigner.problem)}", style="yellow")
    return text


def _token_text(token: TokenStatus) -> Text:
    from rich.text import Text

    text = Text(printable(token.state), style="green" if token.state == "ready" else "bold red")
    text.append(f", serial {printable(token.serial)}", style="default not bold")
    if token.reason:
        text.append(f": {printable(token.reason)}", style="default not bold")
    return text
