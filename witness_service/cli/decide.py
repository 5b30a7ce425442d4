"""`witness keys approve`, `reject` and `abort`: what leads say to a proposal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from witness_service.cli import change
from witness_service.cli.change import Bytes, DryRun, Yes
from witness_service.cli.failure import Finding, command
from witness_service.cli.lead_option import LeadWhere, PassphraseFile, lead_opened
from witness_service.cli.output import write_facts, write_json
from witness_service.cli.where import Address, Json, RegistryId, State, find

if TYPE_CHECKING:
    from witness_service.cli.approval import Approval
    from witness_service.lead_signer import LeadSigner
    from witness_service.wire.client import WitnessClient
    from witness_service.wire.proposal_answers import ListedProposal

ProposalId = Annotated[
    str,
    typer.Argument(metavar="PROPOSAL_ID", help="Proposal; the start of its id will do, and none if only one runs."),
]


@command
def approve(
    proposal_id: ProposalId = "",
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    with_bytes: Bytes = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Sign a proposal with a lead's key, after checking it here and showing it in words.

    With the quorum the change takes effect at once. A lead who has signed already is told so, and counts once; the
    lead who proposed the change cannot approve it where more than one must.

    \b
    Example:
      witness keys approve --lead anna.pem
    """
    from witness_service.wire.client import WitnessClient

    where = find(address, state, registry_id)
    pinned = change.pinned(where)
    if not dry_run:
        change.require_consent(yes, as_json)
    with WitnessClient(where.address) as client, lead_opened(lead or where.lead_key, passphrase_file) as signer:
        proposal = find_proposal(client, proposal_id)
        approval = change.checked(proposal, change.replay(client, pinned), lead=signer.public_key)
        if dry_run:
            _write_dry_run(approval, signer, with_bytes, as_json)
            return
        already = signer.public_key.key_id in proposal.approved_by
        if already:
            done = change.wait(client, proposal)
        else:
            if not yes:
                _ask(approval, signer, with_bytes)
            done, already = change.approve(client, proposal, signer)
    _write(done, already, as_json)


@command
def reject(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")],
    proposal_id: ProposalId = "",
    lead: LeadWhere = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Say no to a proposal as a lead; it ends when its quorum cannot be reached any more.

    \b
    Example:
      witness keys reject --lead anna.pem --reason "not announced"
    """
    from key_registry import dsse
    from key_registry.errors import FormatError
    from witness_service import clock
    from witness_service.orders import REJECTION_TYPE, Rejection
    from witness_service.wire.client import WitnessClient

    where = find(address, state, registry_id)
    pinned = change.pinned(where)
    with WitnessClient(where.address) as client, lead_opened(lead or where.lead_key, passphrase_file) as signer:
        proposal = find_proposal(client, proposal_id)
        try:
            body = Rejection(pinned, proposal.proposal_id, reason, clock.now()).encode()
        except FormatError as error:
            raise typer.BadParameter(str(error), param_hint="--reason") from error
        if dry_run:
            _write(proposal, False, as_json, dry_run=True)
            return
        envelope = dsse.Envelope(REJECTION_TYPE, body, (signer.sign(REJECTION_TYPE, body),))
        after = client.reject(proposal.proposal_id, envelope.to_json())
    _write(after, False, as_json, ended_is_fine=True)


@command
def abort(
    proposal_id: ProposalId = "",
    dry_run: DryRun = False,
    address: Address = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """End a proposal that has not reached its quorum; a key made for it is kept for the next one.

    \b
    Example:
      witness keys abort
    """
    from witness_service.wire.client import WitnessClient

    with WitnessClient(find(address, state).address) as client:
        proposal = find_proposal(client, proposal_id)
        after = proposal if dry_run else client.abort(proposal.proposal_id)
    _write(after, False, as_json, dry_run=dry_run, ended_is_fine=True)


def find_proposal(client: WitnessClient, text: str) -> ListedProposal:
    """Return the proposal whose id starts with text, or the only one that runs; raises Finding."""
    if len(text) == 36:
        found_by_id = client.proposal(text)
        if found_by_id.proposal_id != text:
            raise Finding("CHECK_FAILED", f"expected proposal {text}, got {found_by_id.proposal_id}")
        return found_by_id
    listed = client.proposals(ended=bool(text))
    found = [proposal for proposal in listed if proposal.proposal_id.startswith(text)]
    if len(found) == 1:
        return found[0]
    what = ", ".join(f"{it.proposal_id} ({it.kind}, {it.state})" for it in found) or "none"
    raise Finding("UNKNOWN_PROPOSAL", f"expected one proposal{f' that starts with {text}' if text else ''}, got {what}")


def _ask(approval: Approval, signer: LeadSigner, with_bytes: bool) -> None:
    change.show(approval, with_bytes=with_bytes)
    count = len(approval.bodies)
    what = "it" if count == 1 else f"these {count} documents"
    if not typer.confirm(f"Sign {what} with lead key {signer.public_key.key_id[:16]}?"):
        raise Finding("NOT_APPROVED", "not signed")


def _write_dry_run(approval: Approval, signer: LeadSigner, with_bytes: bool, as_json: bool) -> None:
    proposal, key_id = approval.proposal, signer.public_key.key_id
    signed = key_id in proposal.approved_by
    refused = key_id == proposal.proposer and proposal.threshold > 1 and proposal.kind != "leads"
    completes = proposal.state == "open" and proposal.missing == 1 and not signed and not refused
    facts = {"lead_key_id": key_id, "already_signed": signed, "is_proposer": refused, "completes_quorum": completes}
    if as_json:
        write_json({"dry_run": True, **facts, **change.proposal_object(proposal, approval)})
        return
    change.show(approval, with_bytes=with_bytes)
    words = {name.replace("_", " "): "yes" if value is True else value or "no" for name, value in facts.items()}
    write_facts("would sign; nothing was changed", words)


def _write(
    proposal: ListedProposal, already: bool, as_json: bool, *, dry_run: bool = False, ended_is_fine: bool = False
) -> None:
    if as_json:
        extra: dict[str, object] = {"dry_run": True} if dry_run else {}
        write_json({**extra, "already_signed": already, **change.proposal_object(proposal)})
    else:
        words = {
            "kind": proposal.kind,
            "already signed": "yes: this lead had signed before, and counts once" if already else "",
            "still needed": str(proposal.missing) if proposal.state == "open" else "",
            "until": proposal.expires_at if proposal.state == "open" else "",
            "note": proposal.note
            or ("its quorum is there; it waits for a compromise proposal" if _held(proposal) else ""),
        }
        title = f"proposal {proposal.proposal_id} is {proposal.state}" + ("; nothing was changed" if dry_run else "")
        write_facts(title, {name: value for name, value in words.items() if value})
    if not ended_is_fine and not dry_run:
        change.require_going_on(proposal)


def _held(proposal: ListedProposal) -> bool:
    return proposal.state == "open" and proposal.missing == 0
