"""Where the service is, and what this machine knows of it: from the options, the environment or a state folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from witness_service.cli.failure import InputProblem
from witness_service.refusal import Code, Refused

DEFAULT_STATE = Path(".witness")
DEV_FILE = "dev.json"

Json = Annotated[bool, typer.Option("--json", help="Write JSON: one object, or one per line; errors as one on stderr.")]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT", help="Where the service listens; else WITNESS_ADDRESS."),
]
State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="State folder of `witness dev`; else WITNESS_STATE, else .witness."),
]
RegistryId = Annotated[
    str | None,
    typer.Option(
        "--registry-id",
        metavar="HEX",
        help="Registry to check answers against, from a source you trust; else that of the state folder.",
    ),
]

WaitCosigned = Annotated[
    float,
    typer.Option(
        "--wait-cosigned",
        metavar="SECONDS",
        min=0.0,
        max=60.0,
        help="Wait so long for the cosigners that the registry's policy asks for; given without them all the same.",
    ),
]

_REGISTRY_ID = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Where:
    """One service. registry_id and lead_key are known when a state folder named them, or an option did."""

    address: str
    registry_id: str | None = None
    lead_key: Path | None = None


def find(
    address: str | None,
    state: Path | None,
    registry_id: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Where:
    """Return where the service is: --address, --state, WITNESS_ADDRESS, WITNESS_STATE, .witness; the first given.

    registry_id overrides the one of a state folder. Raises InputProblem for a broken dev.json and
    Refused UNAVAILABLE when nothing says where.
    """
    if registry_id is not None and not _REGISTRY_ID.fullmatch(registry_id):
        raise typer.BadParameter("expected 64 lower-case hexadecimal digits", param_hint="--registry-id")
    if address and state:
        raise typer.BadParameter("expected either --address or --state, got both", param_hint="--address")
    if not state:
        address = address or environ.get("WITNESS_ADDRESS")
    if address:
        return Where(address, registry_id)
    found = _read_dev_file(state or Path(environ.get("WITNESS_STATE") or DEFAULT_STATE))
    return Where(found.address, registry_id or found.registry_id, found.lead_key)


def _read_dev_file(state: Path) -> Where:
    path = state / DEV_FILE
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Refused(
            Code.UNAVAILABLE,
            "NO_ADDRESS",
            f"expected --address HOST:PORT, WITNESS_ADDRESS or a file {path}, got none of them; "
            "start a service with `witness dev`, or say where one listens",
        ) from None
    except OSError as error:
        raise InputProblem(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputProblem(f"{path}: expected a JSON object, got something else; start `witness dev` anew") from error
    if not isinstance(data, dict) or not isinstance(data.get("address"), str):
        raise InputProblem(f"{path}: expected an object with an address, got none; start `witness dev` anew")
    registry_id, lead_key = data.get("registry_id"), data.get("lead_key")
    if not isinstance(registry_id, str) or not _REGISTRY_ID.fullmatch(registry_id):
        raise InputProblem(f"{path}: expected a registry_id of 64 hexadecimal digits, got something else")
    return Where(data["address"], registry_id, state / lead_key if isinstance(lead_key, str) else None)
