"""`witness dev`, `witness serve`, `witness migrate`: the commands that run the service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from witness_service.cli.failure import Finding, InputProblem, command
from witness_service.cli.where import DEFAULT_STATE, Json
from witness_service.refusal import Code, Reason, Refused


@command
def dev(
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="Folder for all of it; else WITNESS_STATE, else .witness."),
    ] = None,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")
    ] = "127.0.0.1:7233",
    as_json: Json = False,
) -> None:
    """Run the whole service in one folder: for trying out, never for production.

    It holds a SoftHSM token, a private PostgreSQL and one security lead; statements say "development". The
    file dev.json in the folder tells the other commands where it listens. Ctrl-C stops it; started again it
    goes on.

    \b
    Example:
      witness dev --state .witness
    """
    from witness_service import dev as program

    folder = state or Path(os.environ.get("WITNESS_STATE") or DEFAULT_STATE)
    raise typer.Exit(program.run(folder, listen))


@command
def serve(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="Configuration, a TOML file.")],
    as_json: Json = False,
) -> None:
    """Run the service of a configuration file, in the foreground.

    \b
    Example:
      witness serve --config /etc/witness-service/witness.toml
    """
    from witness_service import service

    raise typer.Exit(service.run(config))


@command
def migrate(
    dsn_file: Annotated[
        Path,
        typer.Option("--dsn-file", metavar="FILE", help="File that holds the migration role's connection string."),
    ],
    as_json: Json = False,
) -> None:
    """Bring the database schema to the version this program needs; `serve` never does that by itself.

    The connection string stays in a file, so that it shows in no list of processes.

    \b
    Example:
      witness migrate --dsn-file /run/secrets/owner-dsn
    """
    from key_registry.migrations import migrate as run
    from key_registry.store.errors import StoreError, StoreUnavailable

    try:
        dsn = dsn_file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise InputProblem(f"{dsn_file}: expected a readable file with a connection string, got none") from None
    try:
        run(dsn)
    except StoreUnavailable as error:
        raise Refused(Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE, str(error)) from error
    except StoreError as error:
        raise Finding("SCHEMA_MISMATCH", str(error)) from error
