"""Rotation: a new key for a witness is proposed, accepted by the leads, and handed over to.

The new key is made in the token and its key-add record proposed; leads sign it on their own machines, and the
service sees their signatures only. With the quorum the hand-over runs.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from hsm import Algorithm, GeneratedKey, HsmError
from key_registry import dsse, record
from key_registry.errors import SignatureError
from key_registry.public_key import PublicKey
from key_registry.record import RECORD_TYPE, KeyAdd
from key_registry.replay import KeyVersion, Registry
from key_registry.store import Conflict, Store, StoredProposal
from witness_service.clock import Clock, utc_text
from witness_service.custody import Custody, refusal_of
from witness_service.handover import HandOver, record_time
from witness_service.refusal import Code, Reason, Refused, invalid
from witness_service.registry_view import RegistryView

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """A proposal, who has approved it, and how many must."""

    proposal: StoredProposal
    approved_by: tuple[str, ...]
    threshold: int

    @property
    def new_key_id(self) -> str:
        """Key id of the key the proposal adds."""
        added = record.decode(self.proposal.body)
        return added.key_id if isinstance(added, KeyAdd) else ""


class Rotation:
    """Carries rotations from the proposal to the closing seal."""

    def __init__(
        self,
        store: Store,
        custody: Custody,
        view: RegistryView,
        handover: HandOver,
        clock: Clock,
        *,
        proposal_seconds: float,
    ) -> None:
        self._store = store
        self._custody = custody
        self._view = view
        self._handover = handover
        self._clock = clock
        self._lifetime = timedelta(seconds=proposal_seconds)
        self._one = asyncio.Lock()

    # -- proposals ----------------------------------------------------------------------------------------------

    async def propose(self, witness_id: str, algorithm: str) -> Progress:
        """Make a key in the token of the witness's present key and propose its key-add record.

        algorithm: "ed25519", "ecdsa-p256", or "" for that of the present key. Raises Refused.
        """
        async with self._one:
            await self._refuse_while_one_runs()
            registry = await self._view.refresh()
            old = _present_key(registry, witness_id)
            made = await self._generate(algorithm or old.public_key.algorithm, old.token_serial)
            public_key = PublicKey.from_spki(made.public_key)
            await self._custody.hold(public_key, made.cka_id, old.token_serial)
            body = self._key_add(registry, old, public_key, made).encode()
            possession = await self._custody.sign_one(public_key.key_id, dsse.pae(RECORD_TYPE, body))
            proposal_id = uuid.uuid4()
            try:
                await self._store.add_proposal(
                    proposal_id=proposal_id,
                    kind="rotate",
                    witness_id=witness_id,
                    replaces=old.key_id,
                    body=body,
                    possession=possession,
                    expires_at=_later(self._clock(), self._lifetime),
                )
            except Conflict as error:
                raise _rotation_runs() from error
        log.info("rotation proposed", proposal_id=str(proposal_id), witness_id=witness_id, new_key=public_key.key_id)
        return await self.progress(str(proposal_id))

    async def _generate(self, algorithm: str, token_serial: str) -> GeneratedKey:
        try:
            wanted = Algorithm(algorithm)
        except ValueError:
            expected = " or ".join(Algorithm)
            raise invalid("algorithm", f"algorithm: expected {expected}, got another name") from None
        try:
            return await self._custody.generate(wanted, "witness", token_serial)
        except HsmError as error:
            raise refusal_of(error) from error

    def _key_add(self, registry: Registry, old: KeyVersion, public_key: PublicKey, made: GeneratedKey) -> KeyAdd:
        return KeyAdd(
            seq=registry.size,
            prev=registry.last_hash,
            registry_id=registry.registry_id,
            created_at=record_time(self._clock(), registry),
            witness_id=old.witness_id,
            algorithm=public_key.algorithm,
            public_key=public_key.spki,
            streams=old.streams,
            cka_id=made.cka_id,
            token_serial=old.token_serial,
            attributes=dict(made.attributes),
        )

    async def abort(self, proposal_id: str) -> Progress:
        """End a proposal that has not reached its quorum; raises Refused."""
        async with self._one:
            progress = await self.progress(proposal_id)
            _check_open(progress.proposal)
            await self._store.set_proposal_state(progress.proposal.proposal_id, "aborted")
        return await self.progress(proposal_id)

    async def progress(self, proposal_id: str) -> Progress:
        """Return a proposal; an empty id means the one that runs. Raises Refused NOT_FOUND."""
        await self._expire()
        proposal = await self._read(proposal_id)
        if proposal is None:
            raise Refused(Code.NOT_FOUND, Reason.UNKNOWN_PROPOSAL, "expected the id of a proposal, got an unknown one")
        approvals = await self._store.approvals(proposal.proposal_id)
        return Progress(proposal, tuple(sorted(item.key_id for item in approvals)), self._view.current.threshold)

    async def _read(self, proposal_id: str) -> StoredProposal | None:
        if not proposal_id:
            return await self._store.open_proposal()
        try:
            return await self._store.proposal(uuid.UUID(proposal_id))
        except ValueError:
            raise invalid("proposal_id", "proposal_id: expected a UUID") from None

    async def _expire(self) -> None:
        running = await self._store.open_proposal()
        if running is None or running.state != "open" or utc_text(running.expires_at) > self._clock():
            return
        # With its quorum a proposal is being carried out, or will be at the next start.
        if not await self._has_quorum(running):
            await self._store.set_proposal_state(running.proposal_id, "expired")

    async def _refuse_while_one_runs(self) -> None:
        await self._expire()
        if await self._store.open_proposal() is not None:
            raise _rotation_runs()

    # -- approval -----------------------------------------------------------------------------------------------

    async def approve(self, proposal_id: str, lead_key_id: str, signature: bytes) -> Progress:
        """Add a lead's signature; with the quorum, carry the rotation out. Raises Refused."""
        async with self._one:
            progress = await self.progress(proposal_id)
            proposal = progress.proposal
            if proposal.state == "done":
                return progress
            if proposal.state == "open":
                if lead_key_id not in progress.approved_by:
                    await self._add_approval(proposal, lead_key_id, signature)
                progress = await self.progress(proposal_id)
                if len(progress.approved_by) < progress.threshold:
                    return progress
            else:
                _check_resumable(proposal)
            await self._handover.carry_out(proposal)
        return await self.progress(proposal_id)

    async def _add_approval(self, proposal: StoredProposal, lead_key_id: str, signature: bytes) -> None:
        leads = {lead.public_key.key_id: lead for lead in self._view.current.leads}
        if (lead := leads.get(lead_key_id)) is None:
            raise Refused(
                Code.PERMISSION_DENIED, Reason.NOT_A_LEAD, "expected the key id of a security lead, got another id"
            )
        try:
            lead.public_key.verify(signature, dsse.pae(RECORD_TYPE, proposal.body))
        except SignatureError as error:
            raise Refused(
                Code.INVALID_ARGUMENT,
                Reason.BAD_APPROVAL,
                "expected the lead's signature over PAE(payload_type, record), got one that does not verify",
                {"field": "signature"},
            ) from error
        await self._store.add_approval(proposal.proposal_id, lead_key_id, signature)

    async def resume(self) -> None:
        """Carry on with a rotation that has its quorum and was interrupted; called at start."""
        async with self._one:
            proposal = await self._store.open_proposal()
            if proposal is not None and await self._has_quorum(proposal):
                await self._handover.carry_out(proposal)

    async def _has_quorum(self, proposal: StoredProposal) -> bool:
        return len(await self._store.approvals(proposal.proposal_id)) >= self._view.current.threshold


def _present_key(registry: Registry, witness_id: str) -> KeyVersion:
    key = registry.signing_key(witness_id) if witness_id in registry.witnesses else None
    if key is None:
        raise Refused(
            Code.NOT_FOUND, Reason.UNKNOWN_WITNESS, "expected the id of a witness with an open key, got another"
        )
    return key


def _later(now: str, lifetime: timedelta) -> datetime:
    return datetime.strptime(now, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) + lifetime


def _check_open(proposal: StoredProposal) -> None:
    if proposal.state != "open":
        raise Refused(
            Code.FAILED_PRECONDITION,
            Reason.PROPOSAL_NOT_OPEN,
            f"expected an open proposal, got one that is {proposal.state}",
        )


def _check_resumable(proposal: StoredProposal) -> None:
    if proposal.state != "approved":
        _check_open(proposal)


def _rotation_runs() -> Refused:
    return Refused(
        Code.FAILED_PRECONDITION,
        Reason.ROTATION_RUNS,
        "one rotation runs at a time, and one is running; approve or abort it first",
    )
