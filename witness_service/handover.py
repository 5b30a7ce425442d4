"""Carrying a proposal out: what its quorum has signed takes effect, and a replaced key closes without a pause.

A new key is opened while the old one is still open, and from then on every claim uses the new key. When no claim of
the old key is left unsealed, a checkpoint of the statement log that covers all its signatures closes it. Each step
finds out from the registry whether it was done, so an interrupted hand-over goes on, here or on another instance.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import structlog

from hsm import HsmError
from key_registry import dsse, record
from key_registry.errors import RecordError
from key_registry.record import RECORD_TYPE, Destroyed, Link, Rotate
from key_registry.replay import KeyVersion, Registry
from key_registry.store import (
    Conflict,
    Document,
    KeyInUse,
    ProposalEnded,
    Quiet,
    RegistryMoved,
    SignedSince,
    Store,
    StoredProposal,
)
from witness_service.clock import Clock
from witness_service.closing_seal import ClosingSeal
from witness_service.cosigning.rollback import RollbackGuard
from witness_service.custody import Custody, refusal_of
from witness_service.orders import ResumeOrder
from witness_service.proposal_kinds.destroyed import require_gone
from witness_service.refusal import Code, Reason, Refused
from witness_service.registry_view import RegistryView

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 60.0
"""How long the claims of a replaced key may take to be sealed before the hand-over is left for the next call."""

TOKEN_SECONDS = 10.0
"""How long the token of a replaced key may be away before its closing is left to the leads."""

CLOSING_ATTEMPTS = 10

Approvals = Mapping[str, tuple[bytes, ...]]
"""Signatures by key id of the lead, one for each document."""


class Overtaken(Exception):
    """What was proposed cannot take effect any more; the message says why, in one sentence."""


class HandOver:
    """Makes what a proposal says happen."""

    def __init__(
        self,
        store: Store,
        custody: Custody,
        view: RegistryView,
        seal: ClosingSeal,
        guard: RollbackGuard,
        clock: Clock,
    ) -> None:
        self._store = store
        self._custody = custody
        self._view = view
        self._seal = seal
        self._guard = guard
        self._clock = clock

    async def carry_out(self, proposal: StoredProposal, approvals: Approvals) -> None:
        """Do what of a proposal is not done yet; approvals make its quorum. Raises Refused, StoreError.

        EmergencyFirst means that a compromise proposal is to be decided first.
        """
        try:
            for position, document in enumerate(proposal.documents):
                signatures = tuple(dsse.Signature(lead, given[position]) for lead, given in approvals.items())
                if document.payload_type == RECORD_TYPE:
                    await self._store_record(proposal, document, signatures)
                else:
                    envelope = dsse.Envelope(document.payload_type, document.body, signatures)
                    await self._store_order(proposal, envelope)
            note = await self._close_replaced(proposal)
        except HsmError as error:
            raise refusal_of(error) from error
        except ProposalEnded:
            return  # somebody ended it after its approvals were counted, and before it took effect
        except Overtaken as why:
            await self._end(proposal, "overtaken", str(why))
            return
        await self._end(proposal, "done", note)

    async def _end(self, proposal: StoredProposal, state: str, note: str) -> None:
        try:
            await self._store.set_proposal_state(proposal.proposal_id, state, note)
        except Conflict:
            return  # another instance carried it out as well, and was first to say so
        log.info("proposal ended", proposal_id=str(proposal.proposal_id), kind=proposal.kind, state=state, note=note)

    # -- records ------------------------------------------------------------------------------------------------

    async def _store_record(
        self, proposal: StoredProposal, document: Document, signatures: tuple[dsse.Signature, ...]
    ) -> None:
        """Store a record at its place, unless it stands there."""
        body = record.decode(document.body)
        assert isinstance(body, Link)
        registry = await self._view.refresh()
        if _stands(registry, body.seq, document.body):
            return
        own = (document.possession,) if document.possession else ()
        envelope = dsse.Envelope(RECORD_TYPE, document.body, (*own, *signatures))
        if isinstance(body, Destroyed):
            await self._require_gone(registry.keys[body.key_id])
        try:
            if registry.size != body.seq:
                raise RegistryMoved(registry.size)
            registry.append(envelope)
            self._guard.check()
            await self._store.append_record(
                envelope,
                seq=body.seq,
                quiet=_quiet(body),
                proposal_id=proposal.proposal_id,
                emergency=proposal.kind == "compromise",
            )
        except RecordError as error:
            raise Overtaken(f"the record does not follow: {error}"[:1000]) from error
        except RegistryMoved as moved:
            if _stands(await self._view.refresh(), body.seq, document.body):
                return  # another instance was first
            raise Overtaken("another record has taken its place in the registry; propose it again") from moved
        except (KeyInUse, SignedSince) as error:
            raise Overtaken("the key to close has been used since; propose it again") from error
        await self._view.refresh()

    async def _require_gone(self, key: KeyVersion) -> None:
        try:
            await require_gone(self._custody, key)
        except Refused as refused:
            if refused.reason is not Reason.KEY_STILL_THERE:
                raise
            raise Overtaken("the key to be destroyed is in its token again; destroy it and propose it again") from None

    # -- orders -------------------------------------------------------------------------------------------------

    async def _store_order(self, proposal: StoredProposal, envelope: dsse.Envelope) -> None:
        """Store the order that lifts a stop, unless it is stored."""
        order = ResumeOrder.decode(envelope.body)
        registry = await self._view.refresh()
        orders = await self._store.key_orders(order.key_id)
        if any(stored.envelope.body == envelope.body for stored in orders):
            return
        key = registry.keys[order.key_id]
        if key.is_compromised or key.closed is not None:
            raise Overtaken("the key was closed or declared compromised meanwhile, which is final")
        try:
            await self._store.add_key_order(order.key_id, order.number, envelope, proposal_id=proposal.proposal_id)
        except ProposalEnded:
            raise
        except Conflict as error:
            orders = await self._store.key_orders(order.key_id)
            if not any(stored.envelope.body == envelope.body for stored in orders):
                raise Overtaken("another order about the key was first; propose it again") from error
        await self._view.look()

    # -- the replaced key ---------------------------------------------------------------------------------------

    async def _close_replaced(self, proposal: StoredProposal) -> str:
        """When every claim of the replaced key is sealed, let it close itself; returns what is left to do, if anything.

        The closing names the log's size at that time, so the leads cannot have signed it; the key does. One that
        cannot is left to them.
        """
        if proposal.replaces is None or proposal.key_id is None:
            return ""
        for _ in range(CLOSING_ATTEMPTS):
            registry = await self._view.refresh()
            new, old = registry.keys[proposal.key_id], registry.keys[proposal.replaces]
            if old.closed is not None:
                return ""
            if not new.may_sign:
                return f"key {old.key_id} stays open: the new one may not sign"
            stopped = await self._store.stopped_keys()
            if not old.may_sign or old.key_id in stopped or not await self._is_usable(old.key_id):
                return f"key {old.key_id} cannot sign its own closing: propose retire to close it"
            try:
                await self._close(registry, old.key_id, record_reason(proposal))
            except (RegistryMoved, KeyInUse, SignedSince):
                continue
            except Refused as refused:
                if refused.reason is not Reason.SEAL_NOT_COSIGNED:
                    raise
                # To wait for cosigners would hold up every other change, that of the policy among them.
                return f"key {old.key_id} stays open: too few cosigners answer; propose retire when they are back"
        raise Refused(Code.ABORTED, Reason.REGISTRY_MOVED, "the registry changed meanwhile; approve again to go on")

    async def _is_usable(self, key_id: str) -> bool:
        """Whether a key can sign here, now or when its token is back from a short absence."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TOKEN_SECONDS):
                while not self._custody.usable(key_id) and self._custody.may_come_back(key_id):
                    await asyncio.sleep(0.1)
        return self._custody.usable(key_id)

    async def _close(self, registry: Registry, key_id: str, reason: str) -> None:
        await self._drain(key_id)
        count = await self._store.signed_count(key_id)
        _, checkpoint = await self._seal.closing_checkpoint(registry.policy)
        body = Rotate(
            seq=registry.size,
            prev=registry.last_hash,
            registry_id=registry.registry_id,
            created_at=max(self._clock(), registry.last_time),
            witness_id=registry.keys[key_id].witness_id,
            open=None,
            close=key_id,
            count=count,
            checkpoint=checkpoint,
            reason=reason,
        ).encode()
        signature = dsse.Signature(key_id, await self._custody.sign_one(key_id, dsse.pae(RECORD_TYPE, body)))
        envelope = dsse.Envelope(RECORD_TYPE, body, (signature,))
        try:
            registry.append(envelope)
        except RecordError as error:
            raise Refused(Code.INTERNAL, Reason.INVARIANT_BROKEN, f"the closing does not follow: {error}") from error
        self._guard.check()
        await self._store.append_record(envelope, seq=registry.size, quiet=Quiet(key_id, count))

    async def _drain(self, key_id: str) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while await self._store.unsealed_count(key_id):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise Refused(
                Code.UNAVAILABLE,
                Reason.ROTATION_RUNS,
                f"statements of key {key_id} are still being completed; approve again to go on",
                {"key_id": key_id},
            ) from None


def record_reason(proposal: StoredProposal) -> str:
    """Return the reason in the first record of a proposal."""
    return str(getattr(record.decode(proposal.documents[0].body), "reason", proposal.kind))


def _stands(registry: Registry, seq: int, body: bytes) -> bool:
    return registry.size > seq and registry.envelopes[seq].body == body


def _quiet(body: Link) -> Quiet | None:
    """Return what must be true of the key that a record of the leads closes: it has signed no more than it says."""
    if isinstance(body, Rotate) and body.close is not None:
        return Quiet(body.close, body.count)
    return None
