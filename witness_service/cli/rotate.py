"""`witness keys rotate`: a new key for a witness, proposed and signed by a security lead in one command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from witness_service.cli import change
from witness_service.cli.change import Bytes, DryRun, Yes
from witness_service.cli.failure import Finding, command
from witness_service.cli.keys import find_witness, key_object, positions
from witness_service.cli.lead_option import PassphraseFile, lead_opened
from witness_service.cli.output import write_facts, write_json
from witness_service.cli.where import Address, Json, RegistryId, State, find
from witness_service.refusal import Code, Refused

if TYPE_CHECKING:
    from key_registry.canonical_json import JSONValue
    from key_registry.replay import Registry
    from witness_service.cli.approval import Approval
    from witness_service.lead_signer import LeadSigner
    from witness_service.wire.answers import KeyList
    from witness_service.wire.client import WitnessClient
    from witness_service.wire.proposal_answers import ListedProposal


@command
def rotate(
    witness: Annotated[
        str,
        typer.Argument(metavar="WITNESS_ID", help="Witness; the start of its UUID will do.", show_default=False),
    ],
    lead: Annotated[
        str | None,
        typer.Option(
            "--lead",
            "--lead-key",
            metavar="FILE|URI",
            help="Lead's key: PKCS#8 PEM file or PKCS#11 URI; else that of the state folder.",
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    algorithm: Annotated[
        str,
        typer.Option("--algorithm", metavar="NAME", help="ed25519 or ecdsa-p256; else that of the old key."),
    ] = "",
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the records.")
    ] = "rotation",
    yes: Yes = False,
    dry_run: DryRun = False,
    with_bytes: Bytes = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Replace a witness's key: a new one is made in the token, you sign its records here, and it takes over.

    What is signed is shown in words and checked here first: the registry, the place in it, the witness, the
    streams. A rotation of this witness that waits for a lead is taken up. Signing of events goes on
    meanwhile, and every old signature stays valid. With more than one lead in the quorum, each runs this
    command.

    \b
    Example:
      witness keys rotate 3f2a --lead lead.pem
    """
    from witness_service.wire.client import WitnessClient

    where = find(address, state, registry_id)
    pinned = change.pinned(where)
    if not dry_run:
        change.require_consent(yes, as_json)
    with WitnessClient(where.address) as client, lead_opened(lead or where.lead_key, passphrase_file) as signer:
        registry = change.replay(client, pinned)
        witness_id = find_witness(witness, registry.witnesses)
        if dry_run:
            _write_plan(registry, witness_id, signer, algorithm, as_json)
            return
        if not _is_lead(signer, registry):
            key_id = signer.public_key.key_id
            raise Finding("NOT_A_LEAD", f"expected the key of a lead of this registry, got {key_id}; no key was made")
        arguments: dict[str, JSONValue] = {"algorithm": algorithm, "reason": reason, "witness_id": witness_id}
        approval = _joined(client, registry, witness_id) or change.proposed(
            client, pinned, change.new_request(pinned, "rotate", arguments)
        )
        done = _sign(client, approval, signer, algorithm, ask=not yes, with_bytes=with_bytes)
        _write_result(done, client.keys(), as_json)


def _joined(client: WitnessClient, registry: Registry, witness_id: str) -> Approval | None:
    """Return the rotation of this witness that waits, checked; for another one the service refuses a new one."""
    for proposal in client.proposals():
        if (proposal.kind, proposal.witness_id) == ("rotate", witness_id):
            approval = change.checked(proposal, registry)
            if approval.request.arguments["witness_id"] != witness_id:
                raise Finding("BAD_PROPOSAL", f"not signed: expected a rotation of {witness_id}, got one of another")
            return approval
    return None


def _sign(
    client: WitnessClient, approval: Approval, signer: LeadSigner, algorithm: str, *, ask: bool, with_bytes: bool
) -> ListedProposal:
    """Show, ask and sign; a lead who says no to a proposal nobody else has signed ends it."""
    proposal = approval.proposal
    asked = approval.request.arguments.get("algorithm")
    if asked != algorithm and algorithm:
        raise Finding("BAD_PROPOSAL", f"not signed: algorithm: expected {algorithm}, got a proposal for {asked}")
    if ask:
        change.show(approval, with_bytes=with_bytes)
        if not typer.confirm(f"Sign it with lead key {signer.public_key.key_id[:16]}?"):
            if not proposal.approved_by:
                client.abort(proposal.proposal_id)
            raise Finding("NOT_APPROVED", "not signed")
    try:
        done, _ = change.approve(client, proposal, signer)
    except Refused as refused:
        if refused.code is not Code.FAILED_PRECONDITION:
            raise
        done = client.proposal(proposal.proposal_id)
        if done.state == "open":
            raise
    return done


def _is_lead(lead: LeadSigner, registry: Registry) -> bool:
    return lead.public_key.key_id in {known.public_key.key_id for known in registry.leads}


def _write_plan(registry: Registry, witness_id: str, lead: LeadSigner, algorithm: str, as_json: bool) -> None:
    old = registry.signing_key(witness_id)
    facts = {
        "witness_id": witness_id,
        "old_key_id": old.key_id if old else None,
        "algorithm": algorithm or (old.public_key.algorithm if old else None),
        "lead_key_id": lead.public_key.key_id,
        "is_lead": _is_lead(lead, registry),
        "threshold": registry.threshold,
    }
    if as_json:
        write_json({"dry_run": True, **facts})
    else:
        write_facts("would rotate; nothing was changed", {k.replace("_", " "): v for k, v in facts.items()})


def _write_result(proposal: ListedProposal, listed: KeyList, as_json: bool) -> None:
    keys = {key.key_id: key for key in listed.keys}
    old_key_id = proposal.facts.get("old_key_id", proposal.replaces)
    new, old = keys.get(proposal.key_id), keys.get(old_key_id)
    if as_json:
        write_json(
            {
                "proposal_id": proposal.proposal_id,
                "state": proposal.state,
                "witness_id": proposal.witness_id,
                "new_key": key_object(new) if new else None,
                "old_key": key_object(old) if old else None,
                "approved_by": list(proposal.approved_by),
                "threshold": proposal.threshold,
                "note": proposal.note,
            }
        )
    elif proposal.state == "done" and new:
        words = {"new key": f"{new.key_id}, {new.algorithm}, valid {positions(new)}"}
        if old:
            words["old key"] = f"{old.key_id}, {old.algorithm}, valid {positions(old)}"
        if old and old.signed_count is not None:
            words["signed"] = f"{old.signed_count} attestations with the old key, which stay valid"
        if proposal.note:
            words["left to do"] = proposal.note
        write_facts(f"rotated {proposal.witness_id}", words)
    else:
        write_facts(
            f"proposal {proposal.proposal_id} is {proposal.state}",
            {"new key": proposal.key_id, "leads still needed": proposal.missing, "until": proposal.expires_at},
        )
    change.require_going_on(proposal)
