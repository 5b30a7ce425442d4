"""`witness keys list` and `witness keys history`: the rotation history of the witness keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from witness_service.cli.failure import Finding, command
from witness_service.cli.output import console, printable, write_json, write_line
from witness_service.cli.where import Address, Json, State, find

if TYPE_CHECKING:
    from witness_service.wire.answers import ListedKey, ListedRecord


@command
def list_keys(address: Address = None, state: State = None, as_json: Json = False) -> None:
    """List every key version there has ever been; with --json one per line.

    \b
    Example:
      witness keys list
    """
    from witness_service.wire.client import WitnessClient

    with WitnessClient(find(address, state).address) as client:
        found = client.keys()
    if as_json:
        for key in found.keys:
            write_json(key_object(key))
        return
    write_keys(found.keys)
    write_line(f"{found.registry_size} registry records, {found.statement_size} attestations")


@command
def history(
    position: Annotated[
        int | None,
        typer.Option("--at-position", metavar="N", min=0, help="As of this statement-log position."),
    ] = None,
    time: Annotated[
        str | None, typer.Option("--at-time", metavar="TIME", help="As of YYYY-MM-DDTHH:MM:SS.ffffffZ.")
    ] = None,
    witness: Annotated[
        str, typer.Option("--witness", metavar="ID", help="Only this witness; the start of its UUID will do.")
    ] = "",
    address: Address = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Show the registry's records, and the state they give every key, now or at a position or a time.

    \b
    Examples:
      witness keys history --at-position 1234
      witness keys history --witness 3f2a --json
    """
    from witness_service.wire.client import WitnessClient

    if position is not None and time is not None:
        raise typer.BadParameter("expected --at-position or --at-time, got both", param_hint="--at-time")
    with WitnessClient(find(address, state).address) as client:
        witness_id = find_witness(witness, (key.witness_id for key in client.keys().keys)) if witness else ""
        found = client.history(position=position, time=time, witness_id=witness_id)
    if as_json:
        write_json(
            {
                "records": [_record_object(it) for it in found.records],
                "keys": [key_object(it) for it in found.keys],
            }
        )
        return
    for record in found.records:
        write_line(f"{record.seq:>5}  {record.created_at}  {record.type:<10}  {_said(record)}")
    write_keys(found.keys)


def find_witness(text: str, witness_ids: Iterable[str]) -> str:
    """Return the one witness id that text names: whole, its UUID, or the start of its UUID; raises Finding."""
    start = "WITNESS:" + text.removeprefix("WITNESS:")
    found = sorted({witness_id for witness_id in witness_ids if witness_id.startswith(start)})
    if len(found) == 1:
        return found[0]
    if start in found:
        return start
    what = f"{len(found)}: {', '.join(found)}" if found else "none"
    raise Finding("UNKNOWN_WITNESS", f"expected one witness whose id starts with {start}, got {what}")


def find_key(text: str, key_ids: Iterable[str]) -> str:
    """Return the one key id that starts with text; raises Finding."""
    found = sorted(key_id for key_id in key_ids if key_id.startswith(text))
    if len(found) != 1 or not text:
        what = f"{len(found)}: {', '.join(it[:16] for it in found)}" if found else "none"
        raise Finding("UNKNOWN_KEY", f"expected one key whose id starts with {text}, got {what}")
    return found[0]


def key_object(key: ListedKey) -> dict[str, object]:
    """Return a key version as a JSON object; public_key is base64 of the DER SubjectPublicKeyInfo."""
    return {
        "key_id": key.key_id,
        "witness_id": key.witness_id,
        "algorithm": key.algorithm,
        "public_key": base64.b64encode(key.public_key).decode(),
        "streams": list(key.streams),
        "state": key.state,
        "opened": key.opened,
        "closed": key.closed,
        "signed_count": key.signed_count,
        "added_at": key.added_at,
        "opened_at": key.opened_at,
        "closed_at": key.closed_at,
        "token_serial": key.token_serial,
        "trusted_size": key.trusted_size,
        "compromised_at": key.compromised_at,
        "suspected_since": key.suspected_since,
        "compromise_reason": key.compromise_reason,
        "destroyed_at": key.destroyed_at,
        "reason": key.reason,
        "stopped_at": key.stopped_at,
        "stop_reason": key.stop_reason,
    }


STYLES = {"open": "green", "closed": "dim", "destroyed": "dim", "compromised": "bold red", "stopped": "bold red"}
"""Colours of key states; others are yellow."""


def write_keys(keys: Iterable[ListedKey]) -> None:
    """Write key versions as a table."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("witness", "key", "algorithm", "state", "positions", "signed", "added", "reason"):
        table.add_column(name, no_wrap=name not in ("added", "reason"), justify="right" if name == "signed" else "left")
    for key in keys:
        table.add_row(
            printable(key.witness_id.removeprefix("WITNESS:")[:8]),
            printable(key.key_id[:16]),
            printable(key.algorithm),
            Text(printable(key.state), style=STYLES.get(key.state, "yellow")),
            positions(key),
            "" if key.signed_count is None else f"{key.signed_count:,}",
            printable(key.added_at[:19]),
            printable(key.compromise_reason or key.stop_reason or key.reason),
        )
    console().print(table)


def positions(key: ListedKey) -> str:
    """Return the statement-log positions a key is valid for, in words of a table."""
    if key.opened is None:
        return "none yet"
    if key.closed is not None and key.closed <= key.opened:
        return "none"
    said = f"{key.opened} to {key.closed - 1}" if key.closed is not None else f"from {key.opened}"
    return said if key.trusted_size is None else f"{said}, trusted below {key.trusted_size}"


def _said(record: ListedRecord) -> str:
    return f"{record.summary}: {record.reason}" if record.reason else record.summary


def _record_object(record: ListedRecord) -> dict[str, object]:
    return {
        "seq": record.seq,
        "type": record.type,
        "created_at": record.created_at,
        "summary": record.summary,
        "reason": record.reason,
        "envelope": json.loads(record.envelope),
    }
