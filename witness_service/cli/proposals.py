"""`witness keys proposals` and `witness keys show`: what waits for the leads, and what became of it."""

from __future__ import annotations

from typing import Annotated

import typer

from witness_service.cli import change
from witness_service.cli.change import Bytes
from witness_service.cli.decide import ProposalId, find_proposal
from witness_service.cli.failure import command
from witness_service.cli.output import console, printable, write_json, write_line
from witness_service.cli.where import Address, Json, RegistryId, State, find


@command
def list_proposals(
    ended: Annotated[bool, typer.Option("--all", help="Also those that have ended: the newest 100.")] = False,
    address: Address = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """List the proposals that wait for leads; with --json one per line.

    \b
    Example:
      witness keys proposals --all
    """
    from rich import box
    from rich.table import Table

    from witness_service.wire.client import WitnessClient

    with WitnessClient(find(address, state).address) as client:
        found = client.proposals(ended=ended)
    if as_json:
        for proposal in found:
            write_json(change.proposal_object(proposal))
        return
    if not found:
        write_line("no proposal waits")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("proposal", "kind", "state", "signed", "needed", "made", "until", "note"):
        table.add_column(name, no_wrap=name != "note")
    for proposal in found:
        table.add_row(
            printable(proposal.proposal_id),
            printable(proposal.kind),
            printable(proposal.state),
            str(len(proposal.approved_by)),
            str(proposal.missing) if proposal.state == "open" else "",
            printable(proposal.created_at[:19]),
            printable(proposal.expires_at[:19]),
            printable(proposal.note),
        )
    console().print(table)


@command
def show(
    proposal_id: ProposalId = "",
    with_bytes: Bytes = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Show a proposal in words, as leads sign it; checked here against the registry.

    \b
    Example:
      witness keys show --bytes
    """
    from witness_service.wire.client import WitnessClient

    where = find(address, state, registry_id)
    pinned = change.pinned(where)
    with WitnessClient(where.address) as client:
        proposal = find_proposal(client, proposal_id)
        registry = change.replay(client, pinned)
    if proposal.state in ("open", "approved", "done"):
        approval = change.checked(proposal, registry)
        if not as_json:
            change.show(approval, with_bytes=with_bytes)
            return
        write_json(change.proposal_object(proposal, approval))
    elif as_json:
        write_json(change.proposal_object(proposal))
    else:
        write_line(f"proposal {proposal.proposal_id} to {proposal.kind} is {proposal.state}. {proposal.note}")
