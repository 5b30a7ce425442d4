"""`witness get`: what was signed for a place."""

from __future__ import annotations

from typing import Annotated

import typer

from witness_service.cli.attestation_text import attestations_object, write_attestations
from witness_service.cli.failure import command
from witness_service.cli.local_check import checker
from witness_service.cli.output import write_json
from witness_service.cli.where import Address, Json, RegistryId, State, find
from witness_service.event import check_place

Stream = Annotated[str, typer.Argument(metavar="STREAM", help="Name of the event log.", show_default=False)]


@command
def get(
    stream: Stream,
    sequence: Annotated[int, typer.Argument(metavar="SEQUENCE", min=0, help="Place in it.", show_default=False)],
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Show the attestations of one place, and check them when a registry id is known.

    \b
    Example:
      witness get orders 7
    """
    from witness_service.wire.client import WitnessClient

    check_place(stream, sequence)
    where = find(address, state, registry_id)
    with WitnessClient(where.address) as client:
        attestations = client.get(stream, sequence)
        checker(where, client)(attestations, None)
    if as_json:
        write_json(attestations_object(attestations, checked=where.registry_id is not None))
    else:
        write_attestations(attestations, where.registry_id)
