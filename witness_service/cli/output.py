"""How commands write: JSON for programs, plain or coloured text for people, progress on stderr."""

from __future__ import annotations

import base64
import json
import os
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import typer

from witness_service.event import Attested

if TYPE_CHECKING:
    from rich.console import Console

PIPE_COLUMNS = 200
"""Width of tables that no terminal cuts."""


class Advance(Protocol):
    """Takes note of work done, in steps of the bar."""

    def __call__(self, steps: int) -> None: ...


def json_line(value: Mapping[str, object]) -> str:
    """Return an object as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write_json(value: Mapping[str, object]) -> None:
    """Write an object as one line on stdout."""
    sys.stdout.write(json_line(value) + "\n")


def console(*, stderr: bool = False) -> Console:
    """Return a console that colours only a terminal, honours NO_COLOR and never reads markup in data."""
    from rich.console import Console

    width = None if (sys.stderr if stderr else sys.stdout).isatty() else PIPE_COLUMNS
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


def write_line(text: str, *, colour: str = "", stderr: bool = False) -> None:
    """Write a line; colour: a colour's name in typer, left out where nobody wants or sees it."""
    plain = printable(text)
    wanted = colour and not os.environ.get("NO_COLOR")
    typer.echo(typer.style(plain, fg=colour) if wanted else plain, err=stderr)


def printable(text: str) -> str:
    """Return text without anything that moves the cursor or turns the writing direction."""
    return "".join(character if _is_plain(character) else ascii(character)[1:-1] for character in text)


def _is_plain(character: str) -> bool:
    # Format characters hold the bidirectional overrides, which make a line read other than it is.
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def write_facts(title: str, facts: Mapping[str, object]) -> None:
    """Write a title and named facts below it, one per line, aligned."""
    from rich.text import Text

    out = console()
    out.print(Text(printable(title), style="bold"), soft_wrap=True)
    named = [(printable(name), value) for name, value in facts.items()]
    width = max((len(name) for name, _ in named), default=0)
    for name, value in named:
        line = Text(f"  {name:<{width}}  ", style="dim")
        line.append(Text(printable(str(value)), style="not dim"))
        out.print(line, soft_wrap=True)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Advance]:
    """Show a bar on stderr when it is a terminal; total is None when nobody knows it."""
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Left to itself the bar takes standard output to where it draws, out of a file or pipe it should go to.
    redirect = sys.stdout.isatty()
    with Progress(*columns, console=console(stderr=True), transient=True, redirect_stdout=redirect) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.update(task, advance=steps)


def attested_object(attested: Attested) -> dict[str, object]:
    """Return an attestation as a JSON object; envelope is a DSSE envelope that can be judged."""
    return {
        "leaf_index": attested.leaf_index,
        "key_id": attested.key_id,
        "envelope": {
            "payload": base64.b64encode(attested.statement).decode(),
            "payloadType": attested.payload_type,
            "signatures": [{"keyid": attested.key_id, "sig": base64.b64encode(attested.signature).decode()}],
        },
    }
