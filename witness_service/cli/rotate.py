"""`witness keys rotate`: a new key for a witness, signed by a security lead on the lead's own machine."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated

import typer

from witness_service.cli.failure import Finding, InputProblem, command
from witness_service.cli.keys import find_witness, key_object, positions
from witness_service.cli.output import write_facts, write_json
from witness_service.cli.where import Address, Json, RegistryId, State, find
from witness_service.refusal import Code, Reason, Refused

if TYPE_CHECKING:
    from key_registry.replay import Registry
    from witness_service.lead_key import LeadKey
    from witness_service.wire.answers import KeyList, RotationProposal
    from witness_service.wire.client import WitnessClient

HAND_OVER_SECONDS = 60.0
POLL_SECONDS = 0.1


@command
def rotate(
    witness: Annotated[
        str,
        typer.Argument(metavar="WITNESS_ID", help="Witness; the start of its UUID will do.", show_default=False),
    ],
    lead_key: Annotated[
        Path | None,
        typer.Option("--lead-key", metavar="FILE", help="Lead's key, PKCS#8 PEM; else that of the state folder."),
    ] = None,
    algorithm: Annotated[
        str,
        typer.Option("--algorithm", metavar="NAME", help="ed25519 or ecdsa-p256; else that of the old key."),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before signing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and make no key.")] = False,
    address: Address = None,
    state: State = None,
    registry_id: RegistryId = None,
    as_json: Json = False,
) -> None:
    """Replace a witness's key: a new one is made in the token, you sign its record here, and it takes over.

    What is signed is shown in words and checked here first: the registry, the place in it, the witness, the
    streams. A rotation of this witness that waits for a lead is taken up. Signing of events goes on
    meanwhile, and every old signature stays valid. With more than one lead in the quorum, each runs this
    command.

    \b
    Example:
      witness keys rotate 3f2a --lead-key lead.pem
    """
    from witness_service.wire.client import WitnessClient

    where = find(address, state, registry_id)
    lead = _load_lead(lead_key or where.lead_key)
    if where.registry_id is None:
        raise typer.BadParameter("expected --registry-id HEX: a lead signs for a known registry only")
    if not (yes or dry_run or (sys.stdin.isatty() and not as_json)):
        raise typer.BadParameter("expected --yes, for there is no terminal to ask on", param_hint="--yes")
    with WitnessClient(where.address) as client:
        registry = _replay(client, where.registry_id)
        witness_id = find_witness(witness, registry.witnesses)
        if dry_run:
            _write_plan(registry, witness_id, lead, algorithm, as_json)
            return
        if not _is_lead(lead, registry):
            key_id = lead.public_key.key_id
            raise Finding("NOT_A_LEAD", f"expected the key of a lead of this registry, got {key_id}; no key was made")
        change = _Change(client, where.registry_id, witness_id, algorithm, lead)
        _write_result(change.run(ask=not yes), client.keys(), as_json)


def _load_lead(path: Path | None) -> LeadKey:
    from witness_service.lead_key import LeadKey, LeadKeyError

    if path is None:
        raise typer.BadParameter("expected --lead-key FILE: no state folder names one", param_hint="--lead-key")
    try:
        return LeadKey.load(path)
    except LeadKeyError as error:
        raise InputProblem(str(error)) from error


def _replay(client: WitnessClient, registry_id: str) -> Registry:
    from witness_service.attested_check import NotAttested, PinnedRegistry

    try:
        return PinnedRegistry(registry_id, client.bundle).current()
    except NotAttested as error:
        raise Finding("CHECK_FAILED", str(error)) from error


def _is_lead(lead: LeadKey, registry: Registry) -> bool:
    return lead.public_key.key_id in {known.public_key.key_id for known in registry.leads}


@dataclass(frozen=True)
class _Change:
    """A rotation as one lead takes part in it."""

    client: WitnessClient
    registry_id: str
    witness_id: str
    algorithm: str
    lead: LeadKey

    def run(self, *, ask: bool) -> RotationProposal:
        """Propose or join, check, show, ask, sign, and wait until it is done or further leads are needed."""
        joined = self._running()
        proposal = joined or self.client.propose_rotation(self.witness_id, self.algorithm)
        try:
            self._check(proposal, ask)
        except BaseException:
            if joined is None:  # nobody else waits for it, and it would keep others from proposing
                with suppress(Refused):
                    self.client.abort(proposal.proposal_id)
            raise
        signature = self.lead.sign_record(proposal.record)
        return self._await(self.client.approve(proposal.proposal_id, signature.key_id, signature.signature))

    def _running(self) -> RotationProposal | None:
        """Return the proposal that waits, when it is of this witness; for another one the service refuses a new one."""
        try:
            proposal = self.client.proposal()
        except Refused as refused:
            if refused.code is Code.NOT_FOUND:
                return None
            raise
        return proposal if proposal.witness_id == self.witness_id else None

    def _check(self, proposal: RotationProposal, ask: bool) -> None:
        """Raise Finding unless the record is what was asked for and the lead, when asked, agrees."""
        from witness_service.cli.approval import BadProposal, check_proposal

        registry = _replay(self.client, self.registry_id)
        try:
            approval = check_proposal(
                proposal,
                registry,
                witness_id=self.witness_id,
                algorithm=self.algorithm,
                lead=self.lead.public_key,
            )
        except BadProposal as error:
            raise Finding("BAD_PROPOSAL", f"not signed: {error}") from error
        if ask:
            write_facts("key change", approval.in_words())
            if not typer.confirm(f"Sign it with lead key {self.lead.public_key.key_id[:16]}?"):
                raise Finding("NOT_APPROVED", "not signed")

    def _await(self, proposal: RotationProposal) -> RotationProposal:
        give_up_at = monotonic() + HAND_OVER_SECONDS
        while proposal.state == "approved":
            if monotonic() > give_up_at:
                message = "the hand-over has not ended in time; run the command again to go on"
                raise Refused(Code.UNAVAILABLE, Reason.ROTATION_RUNS, message)
            sleep(POLL_SECONDS)
            proposal = self.client.proposal(proposal.proposal_id)
        return proposal


def _write_plan(registry: Registry, witness_id: str, lead: LeadKey, algorithm: str, as_json: bool) -> None:
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


def _write_result(proposal: RotationProposal, listed: KeyList, as_json: bool) -> None:
    keys = {key.key_id: key for key in listed.keys}
    new, old = keys.get(proposal.new_key_id), keys.get(proposal.old_key_id)
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
            }
        )
    elif proposal.state == "done" and new and old:
        write_facts(
            f"rotated {proposal.witness_id}",
            {
                "new key": f"{new.key_id}, {new.algorithm}, valid {positions(new)}",
                "old key": f"{old.key_id}, {old.algorithm}, valid {positions(old)}",
                "signed": f"{old.signed_count} attestations with the old key, which stay valid",
            },
        )
    else:
        missing = proposal.threshold - len(proposal.approved_by)
        write_facts(
            f"proposal {proposal.proposal_id} is {proposal.state}",
            {"new key": proposal.new_key_id, "leads still needed": missing, "until": proposal.expires_at},
        )
    if proposal.state not in ("done", "open"):
        raise Finding("PROPOSAL_NOT_OPEN", f"expected the rotation to be done, got one that is {proposal.state}")
