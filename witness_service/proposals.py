"""Two-person control: changes are proposed, leads sign them on their own machines, and with the quorum they happen.

The service sees signatures only. It decides nothing that the registry's rules would not ask of it anyway, with one
exception: who proposes as a lead does not count as one of the quorum where more than one must sign.

A record's body fixes its place in the registry. So when a record is stored, every open proposal for that place is
overtaken, and has to be made and signed anew. A compromise proposal goes before all others: while one is open, no
other record is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID
from weakref import WeakValueDictionary

import structlog

from key_registry import canonical_json, dsse
from key_registry.errors import FormatError, RecordError, SignatureError, UnsupportedAlgorithm
from key_registry.public_key import PublicKey
from key_registry.record import LeadsChange, decode
from key_registry.store import Conflict, EmergencyFirst, NewProposal, RegistryMoved, Store, StoredProposal
from witness_service.clock import Clock, moment_of
from witness_service.closing_seal import ClosingSeal
from witness_service.custody import Custody
from witness_service.handover import HandOver
from witness_service.orders import REJECTION_TYPE, REQUEST_TYPE, ProposalRequest, Rejection, check_uuid, signed_by
from witness_service.proposal_kinds import EMERGENCIES, KINDS, Draft, Drafting, NewKeys, require_storable
from witness_service.quorum import Quorum
from witness_service.refusal import Code, Reason, Refused, invalid
from witness_service.registry_view import RegistryView
from witness_service.stops import bad_signature, check_lead_signature

log = structlog.get_logger(__name__)

ATTEMPTS = 5
"""How often a proposal is drafted again because the registry moved while it was made."""

SKEW = timedelta(minutes=5)
"""How far the clock of who proposes may be from the service's."""

LISTED = 100
"""Proposals in a list, the newest first."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A proposal, what every lead said, and how many are still needed.

    approved_by: key ids. rejected_by: reasons by key id. already_signed: whether the approval that is being answered
    was there before.
    """

    proposal: StoredProposal
    approved_by: tuple[str, ...]
    rejected_by: tuple[tuple[str, str], ...]
    quorum: Quorum
    already_signed: bool = False

    @property
    def missing(self) -> int:
        """How many leads must still sign."""
        return self.quorum.missing(self.approved_by)


class Proposals:
    """Carries changes from the request to their effect."""

    def __init__(
        self,
        store: Store,
        custody: Custody,
        view: RegistryView,
        seal: ClosingSeal,
        handover: HandOver,
        clock: Clock,
        *,
        proposal_seconds: float,
    ) -> None:
        self._store = store
        self._custody = custody
        self._view = view
        self._seal = seal
        self._handover = handover
        self._clock = clock
        self._lifetime = timedelta(seconds=proposal_seconds)
        self._new_keys = NewKeys(custody)
        # A key is made in the token only for a proposal that will be stored; emergencies do not wait here.
        self._proposing = asyncio.Lock()
        self._carrying: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    # -- proposing ----------------------------------------------------------------------------------------------

    async def propose(self, body: bytes, lead: dsse.Signature | None) -> Progress:
        """Store a proposal; the same request again returns the one it made.

        body: a ProposalRequest. lead: signature of the lead who proposes, None for an operator. Raises Refused.
        """
        request = self._read(body)
        if (made := await self._store.proposal(UUID(request.proposal_id))) is not None:
            return await self._same(made, body)
        await self._check_proposer(request, body, lead)
        await self._sweep()
        if request.kind in EMERGENCIES:
            return await self._propose(request, body, lead)
        async with self._proposing:
            if (made := await self._store.proposal(UUID(request.proposal_id))) is not None:
                return await self._same(made, body)
            await self._refuse_while_others_run()
            return await self._propose(request, body, lead)

    async def draft(self, body: bytes, lead: dsse.Signature | None) -> Draft:
        """Return what a request would propose, and store and make nothing. Raises Refused."""
        request = self._read(body)
        await self._check_proposer(request, body, lead)
        await self._sweep()
        if request.kind not in EMERGENCIES:
            await self._refuse_while_others_run()
        async with AsyncExitStack() as stack:
            return await self._draft(request, stack, dry_run=True)

    async def _propose(self, request: ProposalRequest, body: bytes, lead: dsse.Signature | None) -> Progress:
        for _ in range(ATTEMPTS):
            try:
                await self._draft_and_store(request, body, lead)
                break
            except RegistryMoved as error:
                if request.kind not in EMERGENCIES:
                    raise Refused(
                        Code.ABORTED, Reason.REGISTRY_MOVED, "the registry changed meanwhile; ask again"
                    ) from error
            except Conflict as error:
                made = await self._store.proposal(UUID(request.proposal_id))
                if made is None:
                    raise _one_runs(request.kind) from error
                return await self._same(made, body)
        else:
            raise Refused(Code.ABORTED, Reason.REGISTRY_MOVED, "the registry changed meanwhile; ask again")
        log.info("proposed", proposal_id=request.proposal_id, kind=request.kind, lead=lead.key_id if lead else None)
        return await self.progress(request.proposal_id)

    async def _draft_and_store(self, request: ProposalRequest, body: bytes, lead: dsse.Signature | None) -> None:
        async with AsyncExitStack() as stack:
            draft = await self._draft(request, stack, dry_run=False)
            add = self._store.add_proposal if draft.sealing is None else draft.sealing.add_proposal
            await add(self._new(request, body, lead, draft))

    def _read(self, body: bytes) -> ProposalRequest:
        try:
            request = ProposalRequest.decode(body)
        except FormatError as error:
            raise invalid("request", f"request: {error}") from error
        if request.kind not in KINDS:
            raise invalid("kind", f"kind: expected one of {', '.join(sorted(KINDS))}, got another")
        if request.registry_id != self._view.current.registry_id:
            raise invalid("registry_id", "registry_id: expected that of this service's registry, got another")
        age = moment_of(self._clock()) - moment_of(request.created_at)
        if not -SKEW <= age <= max(self._lifetime, SKEW):
            raise invalid("created_at", "created_at: expected a request of now, got an old one, or one of the future")
        return request

    async def _check_proposer(self, request: ProposalRequest, body: bytes, lead: dsse.Signature | None) -> None:
        registry = await self._view.refresh()
        if lead is not None:
            check_lead_signature(registry, lead, dsse.pae(REQUEST_TYPE, body))
        if not Quorum.under(registry, lead.key_id if lead else None).possible:
            raise Refused(
                Code.FAILED_PRECONDITION,
                Reason.TOO_FEW_LEADS,
                f"who proposes does not count, and {registry.threshold} other leads are needed, which there are not; "
                "let somebody else propose it, or propose it without --lead",
            )

    async def _same(self, made: StoredProposal, body: bytes) -> Progress:
        if made.request != body:
            raise Refused(
                Code.ALREADY_EXISTS, Reason.PROPOSAL_EXISTS, "expected a new proposal id, got that of another proposal"
            )
        return await self.progress(str(made.proposal_id))

    async def _refuse_while_others_run(self) -> None:
        unfinished = await self._store.unfinished_proposals()
        for running in unfinished:
            if running.kind == "compromise":
                raise _emergency_first(running)
        for running in unfinished:
            if running.kind not in EMERGENCIES:
                raise _one_runs(running.kind)

    async def _draft(self, request: ProposalRequest, stack: AsyncExitStack, *, dry_run: bool) -> Draft:
        registry = await self._view.refresh()
        drafting = Drafting(
            store=self._store,
            custody=self._custody,
            seal=self._seal,
            registry=registry,
            stopped=await self._store.stopped_keys(),
            clock=self._clock,
            new_keys=self._new_keys,
            dry_run=dry_run,
            stack=stack,
        )
        try:
            draft = await KINDS[request.kind](drafting, request.arguments)
        except (FormatError, UnsupportedAlgorithm) as error:
            raise invalid("arguments", f"arguments: {error}") from error
        require_storable(registry, draft)
        return draft

    def _new(self, request: ProposalRequest, body: bytes, lead: dsse.Signature | None, draft: Draft) -> NewProposal:
        return NewProposal(
            proposal_id=UUID(request.proposal_id),
            kind=request.kind,
            witness_id=draft.witness_id,
            key_id=draft.key_id,
            replaces=draft.replaces,
            seq=draft.seq,
            request=body,
            proposer=lead,
            facts=canonical_json.encode(dict(draft.facts)),
            documents=draft.documents,
            expires_at=moment_of(self._clock()) + self._lifetime,
        )

    # -- what there is ------------------------------------------------------------------------------------------

    async def progress(self, proposal_id: str) -> Progress:
        """Return a proposal; an empty id means the oldest one that runs. Raises Refused NOT_FOUND."""
        await self._sweep()
        return await self._progress(await self._find(proposal_id))

    async def running(self) -> list[Progress]:
        """Return the proposals that wait for leads or are being carried out."""
        await self._sweep()
        return [await self._progress(item) for item in await self._store.unfinished_proposals()]

    async def latest(self) -> list[Progress]:
        """Return the newest proposals in any state, the newest first."""
        await self._sweep()
        return [await self._progress(item) for item in await self._store.latest_proposals(LISTED)]

    async def _find(self, proposal_id: str) -> StoredProposal:
        if not proposal_id:
            running = await self._store.unfinished_proposals()
            found = running[0] if running else None
        else:
            try:
                check_uuid("proposal_id", proposal_id)
            except FormatError as error:
                raise invalid("proposal_id", str(error)) from None
            found = await self._store.proposal(UUID(proposal_id))
        if found is None:
            raise Refused(Code.NOT_FOUND, Reason.UNKNOWN_PROPOSAL, "expected the id of a proposal, got an unknown one")
        return found

    async def _progress(self, proposal: StoredProposal) -> Progress:
        if proposal.unfinished:
            approvals: Mapping[str, tuple[bytes, ...]] = await self._approvals(proposal)
        else:
            approvals = await self._store.approvals(proposal.proposal_id)
        rejections = await self._store.rejections(proposal.proposal_id)
        return Progress(
            proposal,
            tuple(approvals),
            tuple((lead, Rejection.decode(envelope.body).reason) for lead, envelope in rejections.items()),
            Quorum.of(self._view.current, proposal),
        )

    async def _sweep(self) -> None:
        """End the open proposals whose time is over without a quorum."""
        now = moment_of(self._clock())
        for proposal in await self._store.unfinished_proposals():
            if proposal.state == "open" and proposal.expires_at <= now:
                # With its quorum it is being carried out, or will be.
                if not (await self._progress(proposal)).missing:
                    continue
                await self._move(proposal, "expired", "")

    async def _move(self, proposal: StoredProposal, state: str, note: str) -> None:
        try:
            await self._store.set_proposal_state(proposal.proposal_id, state, note)
        except Conflict:
            log.info("another instance moved the proposal", proposal_id=str(proposal.proposal_id), state=state)

    # -- what leads say -----------------------------------------------------------------------------------------

    async def approve(self, proposal_id: str, lead_key_id: str, signatures: tuple[bytes, ...]) -> Progress:
        """Add a lead's signatures, one for each document; with the quorum, carry the proposal out. Raises Refused.

        The same signatures again change nothing and say so; after an interruption they make it go on.
        """
        await self._view.refresh()  # who the leads are, another instance may know better
        progress = await self.progress(proposal_id)
        proposal = progress.proposal
        self._check_approval(proposal, lead_key_id, signatures)
        signed = (await self._store.approvals(proposal.proposal_id)).get(lead_key_id)
        if signed is not None and signed != signatures:
            raise Refused(
                Code.ALREADY_EXISTS, Reason.ALREADY_SIGNED, "this lead has signed the proposal already, and counts once"
            )
        if signed is None:
            self._check_may_sign(progress, lead_key_id)
            await self._add_approval(proposal, lead_key_id, signatures)
        if proposal.unfinished:
            await self._carry_out_if_due(proposal.proposal_id)
        now = await self.progress(proposal_id)
        return Progress(now.proposal, now.approved_by, now.rejected_by, now.quorum, already_signed=signed is not None)

    async def _add_approval(self, proposal: StoredProposal, lead_key_id: str, signatures: tuple[bytes, ...]) -> None:
        try:
            await self._store.add_approval(proposal.proposal_id, lead_key_id, signatures)
        except Conflict:
            again = await self._find(str(proposal.proposal_id))
            if lead_key_id not in await self._store.approvals(proposal.proposal_id):
                _check_open(again)
                raise

    def _check_approval(self, proposal: StoredProposal, lead_key_id: str, signatures: tuple[bytes, ...]) -> None:
        leads = self._entitled(proposal)
        if (public_key := leads.get(lead_key_id)) is None:
            raise Refused(
                Code.PERMISSION_DENIED, Reason.NOT_A_LEAD, "expected the key id of a security lead, got another id"
            )
        if len(signatures) != len(proposal.documents):
            raise invalid(
                "signatures",
                f"signatures: expected {len(proposal.documents)}, one for each document, got another number",
            )
        if not _signed(proposal, public_key, signatures):
            raise bad_signature()

    def _entitled(self, proposal: StoredProposal) -> dict[str, PublicKey]:
        """Return the keys whose signature may stand under a proposal: the leads', and those it makes leads."""
        leads = {lead.public_key.key_id: lead.public_key for lead in self._view.current.leads}
        if proposal.kind == "leads":
            body = decode(proposal.documents[0].body)
            assert isinstance(body, LeadsChange)
            leads |= {lead.public_key.key_id: lead.public_key for lead in body.leads}
        return leads

    def _check_may_sign(self, progress: Progress, lead_key_id: str) -> None:
        _check_open(progress.proposal)
        if not progress.quorum.counts(lead_key_id):
            raise Refused(
                Code.PERMISSION_DENIED,
                Reason.PROPOSER_APPROVES,
                "expected another lead than the one who proposed this: it takes a second person",
            )
        _check_not_rejected(progress, lead_key_id)

    async def reject(self, proposal_id: str, order: bytes) -> Progress:
        """Note that a lead says no; when the quorum cannot be reached any more, the proposal ends. Raises Refused.

        order: a Rejection's DSSE envelope as JSON, signed by the lead.
        """
        await self._view.refresh()
        progress = await self.progress(proposal_id)
        proposal = progress.proposal
        envelope, lead_key_id = self._read_rejection(proposal, order)
        if proposal_id and envelope in (await self._store.rejections(proposal.proposal_id)).values():
            return progress
        _check_open(proposal)
        _check_not_rejected(progress, lead_key_id)
        if lead_key_id in progress.approved_by:
            raise Refused(
                Code.FAILED_PRECONDITION,
                Reason.ALREADY_SIGNED,
                "this lead has signed the proposal, which cannot be taken back; abort it instead",
            )
        try:
            await self._store.add_rejection(proposal.proposal_id, lead_key_id, envelope)
        except Conflict:
            _check_open(await self._find(proposal_id))
            raise
        progress = await self.progress(proposal_id)
        if progress.proposal.state == "open" and not progress.quorum.reachable([it for it, _ in progress.rejected_by]):
            await self._move(proposal, "rejected", "the quorum cannot be reached any more")
        return await self.progress(proposal_id)

    def _read_rejection(self, proposal: StoredProposal, order: bytes) -> tuple[dsse.Envelope, str]:
        try:
            envelope = dsse.Envelope.from_json(order)
            if envelope.payload_type != REJECTION_TYPE:
                raise FormatError(f"expected payload type {REJECTION_TYPE}, got another")
            rejection = Rejection.decode(envelope.body)
            signature = signed_by(envelope)
        except FormatError as error:
            raise invalid("order", f"order: {error}") from error
        if (rejection.registry_id, rejection.proposal_id) != (
            self._view.current.registry_id,
            str(proposal.proposal_id),
        ):
            raise invalid("order", "order: expected a rejection of this proposal, got one of another")
        key = self._entitled(proposal).get(signature.key_id)
        if key is None:
            raise Refused(
                Code.PERMISSION_DENIED, Reason.NOT_A_LEAD, "expected the key id of a security lead, got another id"
            )
        try:
            key.verify(signature.signature, envelope.pae())
        except SignatureError as error:
            raise bad_signature() from error
        return envelope, signature.key_id

    async def abort(self, proposal_id: str) -> Progress:
        """End a proposal that has not reached its quorum; raises Refused."""
        progress = await self.progress(proposal_id)
        _check_open(progress.proposal)
        if not progress.missing:
            raise Refused(
                Code.FAILED_PRECONDITION,
                Reason.PROPOSAL_NOT_OPEN,
                "expected a proposal without its quorum, got one that has it and is being carried out",
            )
        await self._move(progress.proposal, "aborted", "")
        return await self.progress(proposal_id)

    # -- carrying out -------------------------------------------------------------------------------------------

    async def go_on(self) -> None:
        """Carry on with whatever has its quorum, here or on an instance that is gone; end what is over.

        Called at start and from time to time. Raises StoreError; what cannot go on now is left for the next time.
        """
        await self._view.refresh()
        await self._sweep()
        for proposal in await self._store.unfinished_proposals():
            try:
                await self._carry_out_if_due(proposal.proposal_id)
            except (Refused, RecordError) as error:
                log.warning("proposal left unfinished", proposal_id=str(proposal.proposal_id), reason=str(error))

    async def _carry_out_if_due(self, proposal_id: UUID) -> None:
        """Carry a proposal out if its quorum is there; one instance at a time carries it, of several the first counts.

        While a compromise proposal is to be decided it is left as it is.
        """
        carrying = self._carrying.setdefault(proposal_id, asyncio.Lock())
        async with carrying:
            await self._view.refresh()
            progress = await self._progress(await self._find(str(proposal_id)))
            proposal = progress.proposal
            if not proposal.unfinished or (proposal.state == "open" and progress.missing):
                return
            try:
                await self._handover.carry_out(proposal, await self._approvals(proposal))
            except EmergencyFirst:
                log.warning("proposal waits for a compromise proposal", proposal_id=str(proposal_id))

    async def _approvals(self, proposal: StoredProposal) -> dict[str, tuple[bytes, ...]]:
        """Return the approvals that count: by whoever may sign now, and with signatures that hold.

        What the database says is verified again: a lead may have left office since, and an order is made effective
        by nothing but these signatures.
        """
        entitled = self._entitled(proposal)
        return {
            lead: signatures
            for lead, signatures in (await self._store.approvals(proposal.proposal_id)).items()
            if lead in entitled and _signed(proposal, entitled[lead], signatures)
        }


def _signed(proposal: StoredProposal, public_key: PublicKey, signatures: tuple[bytes, ...]) -> bool:
    """Whether these are the signatures of a key over each document."""
    if len(signatures) != len(proposal.documents):
        return False
    try:
        for document, signature in zip(proposal.documents, signatures, strict=True):
            public_key.verify(signature, dsse.pae(document.payload_type, document.body))
    except SignatureError:
        return False
    return True


def _check_open(proposal: StoredProposal) -> None:
    if proposal.state != "open":
        why = f": {proposal.note}" if proposal.note else ""
        raise Refused(
            Code.FAILED_PRECONDITION,
            Reason.PROPOSAL_NOT_OPEN,
            f"expected an open proposal, got one that is {proposal.state}{why}",
            {"state": proposal.state},
        )


def _check_not_rejected(progress: Progress, lead_key_id: str) -> None:
    if lead_key_id in [lead for lead, _ in progress.rejected_by]:
        raise Refused(Code.FAILED_PRECONDITION, Reason.ALREADY_REJECTED, "this lead has rejected the proposal already")


def _one_runs(kind: str) -> Refused:
    return Refused(
        Code.FAILED_PRECONDITION,
        Reason.ROTATION_RUNS,
        f"one change runs at a time, and a proposal to {kind} is running; approve, reject or abort it first",
        {"kind": kind},
    )


def _emergency_first(running: StoredProposal) -> Refused:
    return Refused(
        Code.FAILED_PRECONDITION,
        Reason.EMERGENCY_FIRST,
        "a key is to be declared compromised, which comes first; approve, reject or abort that proposal",
        {"proposal_id": str(running.proposal_id)},
    )
