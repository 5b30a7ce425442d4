"""The steps every command takes that changes keys: replay, ask, check, show, sign, wait."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated

import typer

from witness_service.cli.failure import Finding
from witness_service.cli.output import write_facts, write_line
from witness_service.cli.where import Where
from witness_service.refusal import Code, Reason, Refused

if TYPE_CHECKING:
    from key_registry.canonical_json import JSONValue
    from key_registry.public_key import PublicKey
    from key_registry.replay import Registry
    from witness_service.cli.approval import Approval
    from witness_service.lead_signer import LeadSigner
    from witness_service.orders import ProposalRequest
    from witness_service.wire.client import WitnessClient
    from witness_service.wire.proposal_answers import ListedProposal

CARRY_OUT_SECONDS = 90.0
POLL_SECONDS = 0.1

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before signing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")]
Bytes = Annotated[bool, typer.Option("--bytes", help="Show the exact bytes that are signed as well.")]


def pinned(where: Where) -> str:
    """Return the registry id a lead acts for."""
    if where.registry_id is None:
        raise typer.BadParameter("expected --registry-id HEX: a lead signs for a known registry only")
    return where.registry_id


def require_consent(yes: bool, as_json: bool) -> None:
    """Refuse where nobody could be asked."""
    if not (yes or (sys.stdin.isatty() and not as_json)):
        raise typer.BadParameter("expected --yes, for there is no terminal to ask on", param_hint="--yes")


def replay(client: WitnessClient, registry_id: str) -> Registry:
    """Return the registry of the service's bundle, replayed from the pinned id; raises Finding."""
    from witness_service.attested_check import NotAttested, PinnedRegistry

    try:
        return PinnedRegistry(registry_id, client.bundle).current()
    except NotAttested as error:
        raise Finding("CHECK_FAILED", str(error)) from error


def new_request(registry_id: str, kind: str, arguments: Mapping[str, JSONValue]) -> ProposalRequest:
    """Return a request of now under an id of its own."""
    from witness_service import clock
    from witness_service.orders import ProposalRequest

    return ProposalRequest(registry_id, str(uuid.uuid4()), kind, arguments, clock.now())


def checked(
    proposal: ListedProposal,
    registry: Registry,
    *,
    asked: ProposalRequest | None = None,
    lead: PublicKey | None = None,
) -> Approval:
    """Return a proposal that says what it should; raises Finding BAD_PROPOSAL."""
    from witness_service.cli.approval import BadProposal, check_proposal

    try:
        return check_proposal(proposal, registry, asked=asked, lead=lead)
    except BadProposal as error:
        raise Finding("BAD_PROPOSAL", f"not signed: {error}") from error


def proposed(
    client: WitnessClient, registry_id: str, request: ProposalRequest, lead: LeadSigner | None = None
) -> Approval:
    """Propose a change and return it checked; one that is not what was asked for is aborted. Raises Finding."""
    from witness_service.orders import REQUEST_TYPE

    body = request.encode()
    proposal = client.propose(body, lead.sign(REQUEST_TYPE, body) if lead is not None else None)
    try:
        return checked(proposal, replay(client, registry_id), asked=request)
    except BaseException:
        # Nobody else waits for it, and it would keep others from proposing.
        with suppress(Refused):
            client.abort(proposal.proposal_id)
        raise


def show(approval: Approval, *, with_bytes: bool = False) -> None:
    """Write what a signature under the proposal says, in words, and with_bytes the bytes themselves."""
    from witness_service.cli.words import change_words, document_words

    write_facts("change", change_words(approval))
    count = len(approval.bodies)
    for number, (body, document) in enumerate(zip(approval.bodies, approval.proposal.documents, strict=True), 1):
        write_facts(f"document {number} of {count}", document_words(body, approval))
        if with_bytes:
            write_line(f"  {document.payload_type}")
            write_line(f"  {document.body.decode()}")


def approve(client: WitnessClient, proposal: ListedProposal, lead: LeadSigner) -> tuple[ListedProposal, bool]:
    """Sign every document, and return the proposal when it has taken effect or waits for further leads.

    Also returns whether the lead had signed it before.
    """
    signatures = [lead.sign(document.payload_type, document.body).signature for document in proposal.documents]
    after, already = client.approve(proposal.proposal_id, lead.public_key.key_id, signatures)
    return wait(client, after), already


def wait(client: WitnessClient, proposal: ListedProposal) -> ListedProposal:
    """Return a proposal when it is not being carried out any more."""
    give_up_at = monotonic() + CARRY_OUT_SECONDS
    while proposal.state == "approved":
        if monotonic() > give_up_at:
            message = "the change has not been made in time; the service goes on with it"
            raise Refused(Code.UNAVAILABLE, Reason.ROTATION_RUNS, message)
        sleep(POLL_SECONDS)
        proposal = client.proposal(proposal.proposal_id)
    return proposal


def proposal_object(proposal: ListedProposal, approval: Approval | None = None) -> dict[str, object]:
    """Return a proposal as a JSON object; approval: adds what its documents say in words."""
    from witness_service.cli.words import document_words

    words = [dict(document_words(body, approval)) for body in approval.bodies] if approval is not None else []
    return {
        "proposal_id": proposal.proposal_id,
        "kind": proposal.kind,
        "state": proposal.state,
        "witness_id": proposal.witness_id,
        "key_id": proposal.key_id,
        "replaces": proposal.replaces,
        "proposer": proposal.proposer,
        "approved_by": list(proposal.approved_by),
        "rejected_by": dict(proposal.rejected_by),
        "threshold": proposal.threshold,
        "missing": proposal.missing,
        "created_at": proposal.created_at,
        "expires_at": proposal.expires_at,
        "facts": dict(proposal.facts),
        "note": proposal.note,
        "request": proposal.request.decode("utf-8", "replace"),
        "documents": [
            {"payload_type": it.payload_type, "body": it.body.decode("utf-8", "replace")} for it in proposal.documents
        ],
        "words": words,
    }


def require_going_on(proposal: ListedProposal) -> None:
    """Raise Finding when a proposal ended without its effect."""
    if proposal.state not in ("open", "approved", "done"):
        why = f": {proposal.note}" if proposal.note else ""
        again = f"; propose it again with: witness keys propose again {proposal.proposal_id}"
        raise Finding("PROPOSAL_NOT_OPEN", f"expected the change to be made, but it is {proposal.state}{why}{again}")
