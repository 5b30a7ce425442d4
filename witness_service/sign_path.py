"""The sign path: admit, claim, sign, verify, seal, reply.

An event becomes a Claimed statement only by a committed claim, a Verified signature only by the check against the
registry's public key, and an Attested answer only by a committed seal; each step takes what the step before it
makes, so nothing can be released early.

Batches form by themselves: a step takes what has queued while it worked; there is no timer. Claims are made one
batch after the other, so the events of a stream keep their order; several batches are signed at the same time; one
seal covers every batch that is ready.

Source: DESIGN section 4.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import structlog

from key_registry.replay import Registry
from key_registry.store import (
    ClaimTransaction,
    NewAttestation,
    SealTransaction,
    Store,
    StoredClaim,
    StoreError,
    StoreUnavailable,
)
from witness_service import step_failure
from witness_service.choice import Choice
from witness_service.claimed import Claimed, Outcome, Request, Ticket, Verified, Waiting, attested_of
from witness_service.clock import Clock
from witness_service.config import Configuration
from witness_service.cosigning.rollback import RollbackGuard
from witness_service.custody import Custody
from witness_service.event import Attested, Event
from witness_service.place import Decisions, equivocation
from witness_service.refusal import Code, Reason, Refused
from witness_service.registry_view import RegistryView
from witness_service.statement_tail import StatementTail

log = structlog.get_logger(__name__)

ATTEMPTS = 3
"""How often a transaction that lost a race or its connection is tried."""

RETRY_SECONDS = 2.0
"""After which it is not tried again: an attempt that waited in vain must not use up the callers' time."""

REMEMBERED = 4096
"""Sealed claims kept in memory, for repeats that read their claim just before it was sealed."""


class SignPath:
    """Takes events from any number of callers and gives each its durable attestation."""

    def __init__(
        self,
        store: Store,
        custody: Custody,
        view: RegistryView,
        guard: RollbackGuard,
        configuration: Configuration,
        clock: Clock,
    ) -> None:
        self._store = store
        self._custody = custody
        self._view = view
        self._guard = guard
        self._link_rule = configuration.link_rule
        self._limits = configuration.limits
        self._choice = Choice(custody, clock)
        self._tail = StatementTail()
        self._tickets: deque[Ticket] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._batches = asyncio.Semaphore(self._limits.batches_in_flight)
        self._waiting: dict[int, Waiting] = {}
        self._verified: deque[Verified] = deque()
        self._to_seal = asyncio.Event()
        self._sealing = asyncio.Lock()
        self._sealed: OrderedDict[int, Attested] = OrderedDict()
        self._unfinished = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._signing: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._unsettled = False
        self.events_in_flight = 0
        self.store_answers = True
        """Set by whoever watches the database; while it is false events are refused at once instead of waiting."""

    async def start(self) -> int:
        """Complete every claim a predecessor left, with the same bytes, then accept work; returns how many.

        On a database that has lost something nothing is completed before it is whole again.
        """
        await self._store.settle()
        completed = 0
        if self._guard.refusal() is None:
            completed = await self._complete_claims()
        else:
            self._unfinished.set()
        loops = (self._claim_loop(), self._seal_loop(), self._resume_loop())
        self._loops = [asyncio.create_task(loop) for loop in loops]
        return completed

    async def stop(self, drain_seconds: float) -> bool:
        """Accept nothing more, finish what was accepted, and say whether all of it was finished in time."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_seconds):
                while self.events_in_flight or self._waiting:
                    await asyncio.sleep(0.02)
        finished = not self.events_in_flight and not self._waiting
        tasks = [*self._loops, *self._signing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return finished

    # -- 1. admit -----------------------------------------------------------------------------------------------

    def submit(self, events: Sequence[Event], seconds_left: float) -> asyncio.Future[list[Outcome]]:
        """Admit events, or refuse them all before any side effect; then validate each.

        events: of one message, in their order. seconds_left: until the caller's deadline. Returns a future with
        one outcome per event, in their order; cancelling it does not cancel the work, as a claim is always
        completed. Raises Refused.
        """
        self._admit(len(events), seconds_left)
        request = Request(events, asyncio.get_running_loop().create_future())
        self.events_in_flight += len(events)
        for ticket in request.tickets():
            try:
                ticket.event.check()
            except Refused as refused:
                self._answer(ticket, refused)
            else:
                self._tickets.append(ticket)
                self._arrived.set()
        return request.answered

    async def wait_for_room(self, count: int) -> None:
        """Return when so many more events would be admitted; for callers that can be made to wait."""
        while self.events_in_flight + count > self._limits.events_in_flight:
            self._room.clear()
            await self._room.wait()

    def _admit(self, count: int, seconds_left: float) -> None:
        limits = self._limits
        if self._stopping:
            raise Refused(Code.UNAVAILABLE, Reason.STOPPING, "this instance is stopping; ask another, or ask again")
        if seconds_left < limits.min_deadline_seconds:
            raise Refused(
                Code.DEADLINE_EXCEEDED,
                Reason.DEADLINE_TOO_NEAR,
                f"expected at least {limits.min_deadline_seconds} s until the deadline, got {seconds_left:.3f} s",
            )
        if self.events_in_flight + count > limits.events_in_flight:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                Reason.OVERLOADED,
                f"expected at most {limits.events_in_flight} events in flight; ask again later",
            )
        if not self.store_answers:
            raise step_failure.store_silent()
        self._guard.check()
        if (refused := self._custody.refusal()) is not None:
            raise refused

    # -- 2. claim -----------------------------------------------------------------------------------------------

    async def _claim_loop(self) -> None:
        while True:
            await self._arrived.wait()
            await self._batches.acquire()
            size = min(len(self._tickets), self._limits.batch_events)
            batch = [self._tickets.popleft() for _ in range(size)]
            if not self._tickets:
                self._arrived.clear()
            claimed = await self._claim_or_refuse(batch)
            if claimed:
                task = asyncio.create_task(self._sign_batch(claimed))
                self._signing.add(task)
                task.add_done_callback(self._signing.discard)
            else:
                self._batches.release()

    async def _claim_or_refuse(self, batch: Sequence[Ticket]) -> list[Claimed]:
        try:
            if not self.store_answers:
                raise step_failure.store_silent()
            return await self._claim(batch)
        except Exception as error:
            refused = step_failure.refusal("claim", error, len(batch))
        self._unfinished.set()
        for ticket in batch:
            self._answer(ticket, refused)
        return []

    async def _claim(self, batch: Sequence[Ticket]) -> list[Claimed]:
        """Claim a batch in one transaction; tried again after an unknown outcome, it finds its own claims."""
        for is_last in _attempts():
            try:
                await self._settle()
                self._guard.check()
                async with self._store.claiming() as transaction:
                    registry = self._view.current
                    in_step = transaction.registry_size == registry.size
                    if in_step:
                        decisions = await self._decide(transaction, registry, batch)
                        ids = await transaction.insert(decisions.places, decisions.claims)
            except StoreError as error:
                self._note_failure("claim", error)
                if is_last() or not isinstance(error, step_failure.RETRYABLE):
                    raise
                continue
            if in_step:
                return self._accept(decisions, ids)
            await self._view.refresh()
        raise step_failure.registry_moved()

    async def _decide(
        self, transaction: ClaimTransaction, registry: Registry, batch: Sequence[Ticket]
    ) -> Decisions[Ticket]:
        """Judge every event against its stream's head and against what stands at its place."""
        events = [ticket.event for ticket in batch]
        heads = await transaction.lock_streams({event.stream: self._link_rule(event.stream) for event in events})
        stored = await transaction.claims_at([(heads[event.stream].stream_id, event.sequence) for event in events])
        decisions: Decisions[Ticket] = Decisions(heads, {(claim.stream, claim.sequence): claim for claim in stored})
        statement = partial(self._choice.statement, registry, transaction.stopped)
        for ticket, event in zip(batch, events, strict=True):
            try:
                decisions.add(ticket, event, statement)
            except Refused as refused:
                decisions.refused.append((ticket, refused))
        return decisions

    def _accept(self, decisions: Decisions[Ticket], ids: Sequence[int]) -> list[Claimed]:
        """After the commit: note who waits for which claim, and answer those who need no signature."""
        claimed: list[Claimed] = []
        for claim_id, (where, new) in zip(ids, decisions.new.items(), strict=True):
            claimed.append(Claimed(claim_id, *where, new.key_id, new.statement))
            self._waiting[claim_id] = Waiting(claimed[-1])
        id_at = {(item.stream, item.sequence): item.claim_id for item in claimed}
        for ticket, same_hash in decisions.of_new:
            self._waiting[id_at[ticket.event.stream, ticket.event.sequence]].follow(ticket, same_hash)
        for ticket, stored, same_hash in decisions.of_existing:
            claimed.extend(self._join(stored, ticket, same_hash))
        for ticket, refused in decisions.refused:
            self._answer(ticket, refused)
        return claimed

    def _join(self, stored: StoredClaim, ticket: Ticket, same_hash: bool) -> Iterator[Claimed]:
        """Let a ticket have an earlier claim's attestation; an unsealed claim nobody works on here is adopted."""
        attested = self._sealed.get(stored.claim_id) or attested_of(stored)
        if attested is not None:
            self._answer(ticket, (attested,) if same_hash else equivocation(ticket.event, (attested,)))
            return
        if stored.claim_id not in self._waiting:
            adopted = Claimed.of(stored)
            self._waiting[stored.claim_id] = Waiting(adopted)
            yield adopted
        self._waiting[stored.claim_id].follow(ticket, same_hash)

    # -- 3. sign, 4. verify -------------------------------------------------------------------------------------

    async def _sign_batch(self, claimed: Sequence[Claimed]) -> None:
        try:
            self._verified.extend(await self._sign_and_verify(claimed))
            self._to_seal.set()
        except Exception as error:
            refused = step_failure.refusal("sign", error, len(claimed))
            for item in claimed:
                self._leave_claimed(item, refused)
        finally:
            self._batches.release()

    async def _sign_and_verify(self, claimed: Sequence[Claimed]) -> list[Verified]:
        """Sign in the token and check in software; what has no good signature stays claimed, for later."""
        self._guard.check()
        messages = [(item.key_id, item.pae()) for item in claimed]
        outcomes = await self._custody.sign_verified(messages)
        verified: list[Verified] = []
        for item, outcome in zip(claimed, outcomes, strict=True):
            if isinstance(outcome, Refused):
                self._leave_claimed(item, outcome)
            else:
                verified.append(Verified(item, outcome))
        return verified

    def _leave_claimed(self, claimed: Claimed, refused: Refused) -> None:
        """Tell those who wait that there is no attestation yet; the resume loop takes the claim up again."""
        waiting = self._waiting.pop(claimed.claim_id, None)
        self._unfinished.set()
        for ticket in waiting.all() if waiting is not None else ():
            self._answer(ticket, refused)

    # -- 5. seal ------------------------------------------------------------------------------------------------

    async def _seal_loop(self) -> None:
        while True:
            await self._to_seal.wait()
            self._to_seal.clear()
            ready = list(self._verified)
            self._verified.clear()
            if ready:
                await self._seal_or_leave(ready)

    async def _seal_or_leave(self, verified: Sequence[Verified]) -> None:
        try:
            async with self._sealing:
                sealed = await self._seal({item.claimed.claim_id: (item, item.leaf()) for item in verified})
        except Exception as error:
            refused = step_failure.refusal("seal", error, len(verified))
            for item in verified:
                self._leave_claimed(item.claimed, refused)
        else:
            self._release(sealed)

    async def _seal(self, leaves: Mapping[int, tuple[Verified, bytes]]) -> dict[int, Attested]:
        """Append signatures and leaf hashes, by claim id, to the statement log in one transaction."""
        for is_last in _attempts():
            try:
                await self._settle()
                self._guard.check()
                async with self._store.sealing() as transaction:
                    registry = self._view.current
                    in_step = transaction.registry_size == registry.size
                    if in_step:
                        sealed = await self._append(transaction, registry, leaves)
            except StoreError as error:
                self._tail.forget()
                self._note_failure("seal", error)
                if is_last() or not isinstance(error, step_failure.RETRYABLE):
                    raise
                continue
            if in_step:
                self._tail.commit()
                return sealed | await self._sealed_before(leaves, sealed)
            await self._view.refresh()
        raise step_failure.registry_moved()

    async def _append(
        self, transaction: SealTransaction, registry: Registry, leaves: Mapping[int, tuple[Verified, bytes]]
    ) -> dict[int, Attested]:
        """Take the claims nobody else has sealed, give them the next leaf indices, and store the new tree head."""
        taken = await transaction.take(list(leaves))
        mine = [(claim_id, *leaves[claim_id]) for claim_id in leaves if claim_id in taken]
        if not mine:
            return {}
        rows: list[NewAttestation] = []
        sealed: dict[int, Attested] = {}
        for index, (claim_id, item, leaf) in enumerate(mine, transaction.head.size):
            key = registry.keys[item.claimed.key_id]
            if not key.active(index):
                raise step_failure.closed_too_early(key.key_id)
            rows.append(NewAttestation(index, claim_id, key.key_id, item.signature, leaf))
            sealed[claim_id] = item.attested(index)
        root, tiles = await self._tail.extend(transaction, [leaf for _, _, leaf in mine])
        await transaction.append(rows, root, tiles)
        return sealed

    async def _sealed_before(
        self, leaves: Mapping[int, tuple[Verified, bytes]], sealed: Mapping[int, Attested]
    ) -> dict[int, Attested]:
        """Read what another instance, or an attempt whose outcome was unknown, has sealed."""
        found: dict[int, Attested] = {}
        for claim_id in leaves.keys() - sealed.keys():
            claimed = leaves[claim_id][0].claimed
            for stored in await self._store.attestations_at(claimed.stream, claimed.sequence):
                attested = attested_of(stored)
                if stored.claim_id == claim_id and attested is not None:
                    found[claim_id] = attested
        return found

    # -- 6. reply -----------------------------------------------------------------------------------------------

    def _release(self, sealed: Mapping[int, Attested]) -> None:
        for claim_id, attested in sealed.items():
            self._sealed[claim_id] = attested
            waiting = self._waiting.pop(claim_id, None)
            if waiting is None:
                continue
            for ticket in waiting.repeats:
                self._answer(ticket, (attested,))
            for ticket in waiting.contradicted:
                self._answer(ticket, equivocation(ticket.event, (attested,)))
        while len(self._sealed) > REMEMBERED:
            self._sealed.popitem(last=False)

    def _answer(self, ticket: Ticket, outcome: Outcome) -> None:
        if isinstance(outcome, Refused) and outcome.reason == Reason.EQUIVOCATION:
            event = ticket.event
            log.warning("equivocation refused", stream=event.stream, sequence=event.sequence, hash=event.event_hash)
        self.events_in_flight -= 1
        self._room.set()
        ticket.request.answer(ticket.index, outcome)

    # -- transactions whose outcome is unknown ------------------------------------------------------------------

    def _note_failure(self, step: str, error: StoreError) -> None:
        log.warning("transaction failed", step=step, error=str(error))
        self._unsettled = self._unsettled or isinstance(error, StoreUnavailable)

    async def _settle(self) -> None:
        """After a commit of unknown outcome, read nothing before what may have been committed is durable."""
        if self._unsettled:
            await self._store.settle()
            self._unsettled = False

    # -- claims left behind -------------------------------------------------------------------------------------

    async def _complete_claims(self) -> int:
        """Sign and seal, with the stored bytes, every unsealed claim nobody here works on; returns how many."""
        unsealed = await self._store.unsealed()
        completed = 0
        for start in range(0, len(unsealed), self._limits.batch_events):
            batch = unsealed[start : start + self._limits.batch_events]
            # Asked anew for every batch: meanwhile callers may have come to wait for a claim, who must not be lost.
            claimed = [Claimed.of(stored) for stored in batch if stored.claim_id not in self._waiting]
            self._waiting.update({item.claim_id: Waiting(item) for item in claimed})
            try:
                verified = await self._sign_and_verify(claimed)
            except BaseException:
                for item in claimed:
                    self._leave_claimed(item, step_failure.interrupted())
                raise
            if verified:
                await self._seal_or_leave(verified)
            completed += sum(item.claim_id in self._sealed for item in claimed)
        return completed

    async def _resume_loop(self) -> None:
        """After a fault, complete the claims it left, with back-off, until none is left."""
        while True:
            await self._unfinished.wait()
            self._unfinished.clear()
            pause = 0.1
            while not await self._all_completed():
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)

    async def _all_completed(self) -> bool:
        try:
            completed = await self._complete_claims()
            left = [claim for claim in await self._store.unsealed() if claim.claim_id not in self._waiting]
        except Exception as error:
            log.warning("unfinished claims are tried again", error=str(error))
            return False
        if completed:
            log.info("unfinished claims completed", claims=completed)
        return not left


def _attempts() -> Iterator[Callable[[], bool]]:
    """Count attempts; each, when it has failed, can say whether it was the last: by its number or by the time."""
    time = asyncio.get_running_loop().time
    give_up_at = time() + RETRY_SECONDS
    for number in range(1, ATTEMPTS + 1):
        yield partial(_is_last, number, time, give_up_at)


def _is_last(number: int, time: Callable[[], float], give_up_at: float) -> bool:
    return number == ATTEMPTS or time() > give_up_at
