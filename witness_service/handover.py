"""The hand-over from a witness's old key to its new one, without a pause.

The new key is opened while the old one is still open, and from then on every claim uses the new key. When no claim
of the old key is left unsealed, a checkpoint of the statement log that covers all its signatures closes it. Each step
finds out from the registry whether it was done, so an interrupted hand-over goes on, here or on another instance.
"""

from __future__ import annotations

import asyncio

import structlog

from hsm import HsmError
from key_registry import dsse, record
from key_registry.errors import RecordError
from key_registry.public_key import PublicKey
from key_registry.record import RECORD_TYPE, KeyAdd, Rotate
from key_registry.replay import Registry
from key_registry.store import KeyInUse, RegistryMoved, Store, StoredProposal
from witness_service.clock import Clock
from witness_service.custody import Custody, refusal_of
from witness_service.log_signer import LogSigner
from witness_service.refusal import Code, Reason, Refused
from witness_service.registry_view import RegistryView

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 60.0
"""How long the claims of a replaced key may take to be sealed before the hand-over is left for the next call."""


class HandOver:
    """Makes and stores the records of a rotation that has its quorum."""

    def __init__(self, store: Store, custody: Custody, view: RegistryView, signer: LogSigner, clock: Clock) -> None:
        self._store = store
        self._custody = custody
        self._view = view
        self._signer = signer
        self._clock = clock

    async def carry_out(self, proposal: StoredProposal) -> None:
        """Do what of the rotation is not done yet: add the new key, open it, close the old one. Raises Refused."""
        key_add = record.decode(proposal.body)
        if not isinstance(key_add, KeyAdd) or proposal.replaces is None:
            raise Refused(Code.INTERNAL, Reason.INVARIANT_BROKEN, "expected a key-add record in the proposal")
        try:
            await self._add_key(proposal, key_add)
            public_key = PublicKey.from_spki(key_add.public_key)
            await self._custody.hold(public_key, key_add.cka_id, key_add.token_serial)
            await self._open_key(key_add.key_id, proposal.replaces)
            await self._close_key(proposal.replaces)
        except HsmError as error:
            raise refusal_of(error) from error
        await self._store.set_proposal_state(proposal.proposal_id, "done")
        log.info("rotation done", new_key=key_add.key_id, old_key=proposal.replaces)

    async def _add_key(self, proposal: StoredProposal, key_add: KeyAdd) -> None:
        """Store the approved key-add record."""
        registry = await self._view.refresh()
        if key_add.key_id not in registry.keys:
            approvals = await self._store.approvals(proposal.proposal_id)
            possession = dsse.Signature(key_add.key_id, proposal.possession)
            try:
                await self._append(registry, proposal.body, (possession, *approvals))
            except Refused:
                if key_add.key_id not in (await self._view.refresh()).keys:
                    await self._store.set_proposal_state(proposal.proposal_id, "aborted")
                    raise
        if proposal.state == "open":
            await self._store.set_proposal_state(proposal.proposal_id, "approved")

    async def _open_key(self, new_key_id: str, old_key_id: str) -> None:
        """Open the new key beside the old one; every later claim uses it."""
        registry = await self._view.refresh()
        if registry.keys[new_key_id].opened is None:
            _, checkpoint = await self._signer.newest_statement_checkpoint()
            body = self._rotate(registry, checkpoint, opens=new_key_id, closes=None, count=None)
            await self._sign_and_append(registry, body, (new_key_id, old_key_id))

    async def _close_key(self, old_key_id: str) -> None:
        """When every claim of the old key is sealed, close it with a checkpoint over all of them."""
        registry = await self._view.refresh()
        if registry.keys[old_key_id].closed is not None:
            return
        await self._drain(old_key_id)
        count = await self._store.signed_count(old_key_id)
        _, checkpoint = await self._signer.newest_statement_checkpoint()
        body = self._rotate(registry, checkpoint, opens=None, closes=old_key_id, count=count)
        await self._sign_and_append(registry, body, (old_key_id,), unless_unsealed=old_key_id)

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

    def _rotate(
        self, registry: Registry, checkpoint: bytes, *, opens: str | None, closes: str | None, count: int | None
    ) -> bytes:
        witness_id = registry.keys[opens or closes or ""].witness_id
        return Rotate(
            seq=registry.size,
            prev=registry.last_hash,
            registry_id=registry.registry_id,
            created_at=record_time(self._clock(), registry),
            witness_id=witness_id,
            open=opens,
            close=closes,
            count=count,
            checkpoint=checkpoint,
        ).encode()

    async def _sign_and_append(
        self, registry: Registry, body: bytes, key_ids: tuple[str, ...], unless_unsealed: str | None = None
    ) -> None:
        message = dsse.pae(RECORD_TYPE, body)
        signatures = tuple([dsse.Signature(key, await self._custody.sign_one(key, message)) for key in key_ids])
        await self._append(registry, body, signatures, unless_unsealed)

    async def _append(
        self,
        registry: Registry,
        body: bytes,
        signatures: tuple[dsse.Signature, ...],
        unless_unsealed: str | None = None,
    ) -> None:
        """Store a record that follows from the registry; nothing else can be stored."""
        envelope = dsse.Envelope(RECORD_TYPE, body, signatures)
        try:
            registry.append(envelope)
            await self._store.append_record(envelope, seq=registry.size, unless_unsealed=unless_unsealed)
        except RecordError as error:
            raise Refused(Code.ABORTED, Reason.REGISTRY_MOVED, f"the record does not follow: {error}") from error
        except (RegistryMoved, KeyInUse) as error:
            raise Refused(Code.ABORTED, Reason.REGISTRY_MOVED, "the registry changed meanwhile; ask again") from error
        await self._view.refresh()


def record_time(now: str, registry: Registry) -> str:
    """Return the time of a new record, which is never before that of the last one."""
    return max(now, registry.last_time)
