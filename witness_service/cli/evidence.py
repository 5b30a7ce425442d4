"""`witness evidence`: .tlog-proof files that can be judged offline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from key_registry.export import to_line
from witness_service.cli.failure import Finding, command
from witness_service.cli.files import make_folder, stream_folder, write_file, writing_file
from witness_service.cli.output import progress, write_facts, write_json
from witness_service.cli.where import Address, Json, State, WaitCosigned, find
from witness_service.event import check_place

if TYPE_CHECKING:
    from witness_service.wire.answers import Evidence, EvidenceFile

SUFFIX = ".tlog-proof"


@command
def evidence(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="Name of the event log.", show_default=False)],
    sequence: Annotated[
        int | None, typer.Argument(metavar="SEQUENCE", min=0, help="One place in it.", show_default=False)
    ] = None,
    first: Annotated[int | None, typer.Option("--from", metavar="N", min=0, help="First place.")] = None,
    last: Annotated[
        int | None, typer.Option("--to", metavar="M", min=0, help="Last place; else the last one signed.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", metavar="PATH", help="File for one place, folder for a range.")
    ] = Path("evidence"),
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write everything to this one file instead.", show_default=False),
    ] = None,
    wait_cosigned: WaitCosigned = 0.0,
    address: Address = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Write evidence for one place to a file, or for a range to a folder, one file per place.

    A folder gets files like STREAM/000000000007.tlog-proof, with the stream's name percent-encoded; an export has a
    line for each piece of evidence instead, and is best named like orders.evidence.jsonl. Together
    with the bundle and the registry id a file proves what was signed, with no service at hand. Where a timestamp
    authority has seen the checkpoint, checkpoint-SIZE.tsr and the text it is over, checkpoint-SIZE.txt, lie beside.

    \b
    Examples:
      witness evidence orders 7 --output order-7.tlog-proof
      witness evidence orders --from 0 --output evidence/
      witness evidence orders --from 0 --export orders.evidence.jsonl
    """
    from witness_service.wire.client import WitnessClient

    if (sequence is None) == (first is None) or (last is not None and first is None):
        raise typer.BadParameter("expected one SEQUENCE, or --from N [--to M]", param_hint="SEQUENCE")
    check_place(stream, sequence or first or 0)
    where = find(address, state)
    with WitnessClient(where.address) as client:
        if export is not None:
            begin, end = (first or 0, last) if sequence is None else (sequence, sequence)
            portions = client.list_evidence(stream, begin, end, wait_cosigned=wait_cosigned)
            written = _write_export(portions, export, begin, end)
        elif sequence is not None:
            written = _write_place(client.evidence(stream, sequence, wait_cosigned=wait_cosigned), output)
        else:
            assert first is not None
            portions = client.list_evidence(stream, first, last, wait_cosigned=wait_cosigned)
            written = _write_range(portions, output / stream_folder(stream), first, last)
    if as_json:
        write_json({"stream": stream, "path": str(written.path), "files": written.files, "places": written.places})
        return
    files = f"{written.files:,} {'file' if written.files == 1 else 'files'}" if export is None else "an export"
    judge = f"witness-verify --bundle bundle.json --registry-id {where.registry_id or 'HEX'} {written.path}"
    write_facts(
        f"wrote {files} to {written.path}",
        {"judge with": judge},
    )


@dataclass
class _Written:
    path: Path
    files: int = 0
    places: int = 0
    _last: int | None = field(default=None, repr=False)

    def add(self, item: EvidenceFile) -> bool:
        """Count a file; say whether it is the first of its place."""
        fresh = item.sequence != self._last
        self._last = item.sequence
        self.files += 1
        self.places += fresh
        return fresh


def _write_place(found: Evidence, output: Path) -> _Written:
    """Write one place to the file output; what further witnesses attested goes beside it."""
    written = _Written(output)
    make_folder(output.parent)
    for item in found.files:
        path = output if written.add(item) else output.with_name(f"{output.stem}.{item.key_id[:16]}{SUFFIX}")
        write_file(path, item.tlog_proof)
    _write_timestamps(found, output.parent)
    return _some(written)


def _write_timestamps(found: Evidence, folder: Path) -> None:
    for stamp in found.timestamps:
        write_file(folder / f"checkpoint-{stamp.size}.txt", stamp.text.encode())
        write_file(folder / f"checkpoint-{stamp.size}.tsr", stamp.token)


def _write_range(portions: Iterator[Evidence], folder: Path, first: int, last: int | None) -> _Written:
    written = _Written(folder)
    total = None if last is None else last - first + 1
    with progress("evidence, places", total) as advance:
        for portion in portions:
            make_folder(folder)
            before = written.places
            for item in portion.files:
                name = f"{item.sequence:012d}"
                name = name if written.add(item) else f"{name}.{item.key_id[:16]}"
                write_file(f"{folder}/{name}{SUFFIX}", item.tlog_proof)
            _write_timestamps(portion, folder)
            advance(written.places - before)
    return _some(written)


def _write_export(portions: Iterator[Evidence], path: Path, first: int, last: int | None) -> _Written:
    written = _Written(path)
    total = None if last is None else last - first + 1
    make_folder(path.parent)
    with writing_file(path) as file, progress("evidence, places", total) as advance:
        for portion in portions:
            before = written.places
            for item in portion.files:
                written.add(item)
                file.write(to_line(item.tlog_proof))
            _write_timestamps(portion, path.parent)
            advance(written.places - before)
        _some(written)
    return replace(written, files=1)


def _some(written: _Written) -> _Written:
    if not written.files:
        raise Finding("NOT_ATTESTED", "expected at least one attested place, got none: nothing was written")
    return written
