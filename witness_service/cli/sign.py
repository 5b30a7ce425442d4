"""`witness sign`: attest one event, or a file of events."""

from __future__ import annotations

import hashlib
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from witness_service.cli.attestation_text import attestations_object, event_line, write_attestations
from witness_service.cli.event_lines import read_events
from witness_service.cli.failure import InputProblem, command, exit_code, refusal_object
from witness_service.cli.local_check import checker
from witness_service.cli.output import Advance, progress, write_json, write_line
from witness_service.cli.where import Address, Json, RegistryId, State, Where, find
from witness_service.event import Attested, Event
from witness_service.refusal import Refused

if TYPE_CHECKING:
    from witness_service.wire.client import WitnessClient

SEQUENCE_NEEDED = (
    "expected --sequence N: the place of the event in its stream, which its writer knows; "
    "the service does not number events"
)


@command
def sign(
    stream: Annotated[str | None, typer.Option("--stream", metavar="NAME", help="Name of the event log.")] = None,
    sequence: Annotated[
        int | None, typer.Option("--sequence", metavar="N", min=0, help="Place: the last one signed plus 1.")
    ] = None,
    event_hash: Annotated[
        str | None, typer.Option("--hash", metavar="sha256:HEX", help="Hash of the event; blake3:HEX too.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Sign the SHA-256 of this file's bytes.")
    ] = None,
    previous: Annotated[
        str | None, typer.Option("--previous", metavar="sha256:HEX", help="Hash of the event before it.")
    ] = None,
    event_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Your id of the event; else the sequence.")
    ] = None,
    event_type: Annotated[str, typer.Option("--type", metavar="TYPE", help="Your type of the event.")] = "event",
    events: Annotated[
        Path | None,
        typer.Option("--events", metavar="FILE", help="Sign every event of a file of JSON lines; - is stdin."),
    ] = None,
    retry_for: Annotated[
        float, typer.Option("--retry-for", metavar="SECONDS", min=0, help="How long to try again.")
    ] = 3.0,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Have an event attested; the same event again gives the same attestation.

    The answer is checked here before it is shown when the registry id is known: from --registry-id or a state
    folder. A line of --events holds stream, sequence, event_hash and, as wanted, previous_event_hash,
    event_id, event_type; after a refusal no more lines are read.

    \b
    Examples:
      witness sign --stream orders --sequence 0 --file order.json
      witness sign --stream orders --sequence 1 --hash sha256:9f86…0a08 --previous sha256:2c26…e7ae
      witness sign --events orders.jsonl --json
    """
    from witness_service.wire.client import WitnessClient

    if events is not None:
        if stream or sequence is not None or event_hash or file or previous or event_id:
            raise typer.BadParameter("expected it alone: the lines say the rest", param_hint="--events")
        where = find(address, state, registry_id)
        with WitnessClient(where.address) as client:
            _sign_file(client, where, events, retry_for, as_json)
        return
    event = _one_event(stream, sequence, event_hash, file, previous, event_id, event_type)
    where = find(address, state, registry_id)
    with WitnessClient(where.address) as client:
        attestations = client.sign(event, retry_for=retry_for)
        checker(where, client)(attestations, event)
    if as_json:
        write_json(attestations_object(attestations, checked=where.registry_id is not None))
    else:
        write_attestations(attestations, where.registry_id)


def _one_event(
    stream: str | None,
    sequence: int | None,
    event_hash: str | None,
    file: Path | None,
    previous: str | None,
    event_id: str | None,
    event_type: str,
) -> Event:
    if stream is None:
        raise typer.BadParameter("expected --stream NAME or --events FILE, got neither", param_hint="--stream")
    if sequence is None:
        raise typer.BadParameter(SEQUENCE_NEEDED, param_hint="--sequence")
    if (event_hash is None) == (file is None):
        raise typer.BadParameter("expected either --hash or --file, got both or neither", param_hint="--hash")
    content = event_hash if file is None else _hash_file(file)
    event = Event(stream, sequence, content or "", previous, event_id or str(sequence), event_type)
    event.check()
    return event


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as content:
            return "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise InputProblem(f"{path}: cannot be read: {error.strerror}") from error


def _sign_file(client: WitnessClient, where: Where, path: Path, retry_for: float, as_json: bool) -> None:
    """Sign a file of events in their order; ends with an exit code of its own when one was refused."""
    sent: deque[list[Event]] = deque()
    refused: list[Refused] = []
    check = checker(where, client)
    size = path.stat().st_size if path.is_file() else None
    # On a terminal the lines themselves show how far it is, and a bar would break them.
    bar: AbstractContextManager[Advance] = nullcontext(_shown_by_the_lines)
    if not sys.stdout.isatty():
        bar = progress("signing, bytes", size)
    with bar as advance:

        def batches() -> Iterator[list[Event]]:
            for batch in read_events(path, advance):
                if refused:
                    return
                sent.append(batch)
                yield batch

        for outcomes in client.sign_stream(batches(), retry_for=retry_for):
            for event, outcome in zip(sent.popleft(), outcomes, strict=True):
                if isinstance(outcome, Refused):
                    refused.append(outcome)
                    _write_refusal(event, outcome, as_json)
                else:
                    check(outcome, event)
                    _write_signed(event, outcome, where, as_json)
    if refused:
        raise typer.Exit(exit_code(refused[0]))


def _shown_by_the_lines(steps: int) -> None:
    pass


def _write_signed(event: Event, attestations: tuple[Attested, ...], where: Where, as_json: bool) -> None:
    if as_json:
        write_json(attestations_object(attestations, checked=where.registry_id is not None))
    else:
        write_line(event_line(event, attestations))


def _write_refusal(event: Event, refused: Refused, as_json: bool) -> None:
    if as_json:
        write_json({"stream": event.stream, "sequence": event.sequence, "error": refusal_object(refused)})
    else:
        line = f"{event.stream} {event.sequence}  refused: {refused.reason}: {refused.message}"
        write_line(line, colour="red")
