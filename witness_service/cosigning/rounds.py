"""The rounds: both logs' checkpoints go to every cosigner, the statement log's first and the registry's after it.

A bundle is fresh for evidence when each cosigner's time on the registry checkpoint is not before its own time on the
evidence's checkpoint. So the order counts for each cosigner by itself, and none waits for another: each is visited
by a task of its own, one visit at a time, and a cosigner that hangs delays nobody.

What is due follows from what the database says was cosigned, so replicas do not do the same work twice except in a
race, in which the cosigner simply cosigns twice. Nothing here is on the way of an event.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from key_registry import note
from key_registry.checkpoint import Checkpoint
from key_registry.store import Store
from witness_service.clock import Clock
from witness_service.config import CosigningSection
from witness_service.cosigning.asked import Asked, AskedCosigners, CosignerState
from witness_service.cosigning.asking import Asking
from witness_service.cosigning.consistency import ConsistencyProofs
from witness_service.cosigning.handing_out import HandingOut
from witness_service.cosigning.high_water import HighWater
from witness_service.cosigning.lines import with_cosignatures
from witness_service.cosigning.rollback import RollbackGuard
from witness_service.cosigning.stamping import Stamping
from witness_service.cosigning.submission import Submissions
from witness_service.cosigning.visiting import Visiting
from witness_service.log_signer import LogSigner, SignedHead
from witness_service.registry_view import RegistryView

log = structlog.get_logger(__name__)

SPACING = 0.1
"""Seconds between two rounds at least, however many callers ask for one."""

WATCH = 0.5
"""Seconds after which a record that this instance has appended starts a round of its own."""

LONGEST_WAIT = 60.0
"""Seconds that a caller may wait for cosignatures."""


class Cosigning:
    """Has both logs cosigned, for as long as the service runs."""

    def __init__(
        self,
        store: Store,
        view: RegistryView,
        signer: LogSigner,
        handing_out: HandingOut,
        guard: RollbackGuard,
        section: CosigningSection,
        stamping: Stamping | None,
        clock: Clock,
    ) -> None:
        self._store = store
        self._view = view
        self._signer = signer
        self._handing_out = handing_out
        self._guard = guard
        self._section = section
        self._stamping = stamping
        self._submissions = Submissions(section.timeout_seconds)
        asking = Asking(self._submissions, ConsistencyProofs(store, view).proof, clock)
        self._visiting = Visiting(store, signer, asking, guard, section, clock, self._on_news)
        self._asked = AskedCosigners(section)
        self._high_water = HighWater(store, guard)
        self._visits: dict[Asked, asyncio.Task[None]] = {}
        self._single: set[asyncio.Task[None]] = set()
        self._wanted = asyncio.Event()
        self._cosigned = asyncio.Event()
        self._registry_size = 0
        self._problem = ""
        self._loop_task: asyncio.Task[None] | None = None

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Ask every cosigner about both logs, to find out before anything is signed whether the database lacks some.

        Takes no longer than one request may; who has not answered by then is asked again later. Then begin the rounds.
        """
        try:
            await self._round()
            if self._visits:
                await asyncio.wait(list(self._visits.values()), timeout=self._section.timeout_seconds)
        except Exception as error:
            self._note_problem(error)
        self._loop_task = asyncio.create_task(self._loop())

    async def stop(self) -> None:
        """End the rounds and every request."""
        tasks = [*self._visits.values(), *self._single]
        if self._loop_task is not None:
            tasks.append(self._loop_task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._submissions.close()
        if self._stamping is not None:
            await self._stamping.close()

    def states(self) -> list[CosignerState]:
        """Return what is known of every cosigner, log by log."""
        return [state for asked in self._asked.values() for state in asked.states()]

    @property
    def timestamp_problem(self) -> str:
        """Why the last timestamp token did not come; empty when it did, or none is asked for."""
        return "" if self._stamping is None else self._stamping.problem

    # -- on demand ----------------------------------------------------------------------------------------------

    async def wait(self, leaves: int, seconds: float) -> bool:
        """Have the logs cosigned at once, and return when evidence for so many leaves would be given under a quorum.

        leaves: of the statement log. seconds: how long at most. Returns whether it came to that; where the policy
        asks for no cosigner, it does at once.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, LONGEST_WAIT)):
                while True:
                    cosigned = self._cosigned
                    if await self._is_cosigned(leaves):
                        return True
                    for asked in self._asked.values():
                        asked.pause_until = 0.0
                    self._wanted.set()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(WATCH):
                            await cosigned.wait()
        return False

    async def wait_for_head(self, seconds: float) -> bool:
        """As `wait`, for every leaf there is: a bundle fetched then is fresh for all evidence given out before."""
        return await self.wait((await self._store.statement_head()).size, seconds)

    async def _is_cosigned(self, leaves: int) -> bool:
        if not self._view.current.policy.asks_cosigners:
            return True
        # Leaves from before the policy need no cosigner, but the bundle that judges them does.
        if not await self._handing_out.is_registry_cosigned():
            return False
        return leaves == 0 or (await self._handing_out.over(leaves)).counts

    async def cosign(self, log_name: str, checkpoint: bytes, timeout: float) -> bytes:
        """Return a stored checkpoint with the cosignatures that can be had within timeout seconds.

        log_name: "registry" or "statements". checkpoint: the note as the log signed it, over its present head.
        """
        size = Checkpoint.parse(note.parse(checkpoint).text).size
        signed = SignedHead(log_name, size, checkpoint)
        registry = self._view.current
        self._asked.follow(registry, size)
        tasks = {asyncio.create_task(self._ask_alone(asked, signed)) for asked in self._asked.values()}
        self._single |= tasks
        for task in tasks:
            task.add_done_callback(self._single.discard)
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        cosigners = registry.policy_at(size).cosigners if log_name == "statements" else registry.policy.cosigners
        return await with_cosignatures(self._store, log_name, size, checkpoint, cosigners)

    async def _ask_alone(self, asked: Asked, signed: SignedHead) -> None:
        try:
            await self._visiting.ask_about(asked, signed)
        except Exception as error:
            self._note_problem(error)

    # -- the rounds ---------------------------------------------------------------------------------------------

    async def _loop(self) -> None:
        while True:
            await self._pause()
            try:
                await self._round()
                self._problem = ""
            except Exception as error:
                self._note_problem(error)

    async def _pause(self) -> None:
        """Return after the publication interval; earlier when somebody asks for a round or a record was appended."""
        time = asyncio.get_running_loop().time
        end = time() + self._section.publish_seconds
        await asyncio.sleep(min(SPACING, self._section.publish_seconds))
        while time() < end and not self._wanted.is_set() and self._view.current.size == self._registry_size:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(WATCH, max(end - time(), 0.001))):
                    await self._wanted.wait()

    def _note_problem(self, error: Exception) -> None:
        problem = f"{type(error).__name__}: {error}"
        if problem != self._problem:
            log.error("a round of cosigning failed; it is tried again", problem=problem)
        self._problem = problem

    def _on_news(self, *, cosigned: bool) -> None:
        """Wake those who wait, when there is a new cosignature; otherwise ask again at once for a newer head."""
        if not cosigned:
            self._wanted.set()
            return
        self._cosigned.set()
        self._cosigned = asyncio.Event()

    async def _round(self) -> None:
        """Visit every cosigner for which something is due."""
        self._wanted.clear()
        heads = await self._store.heads()
        await self._high_water.check(heads.statement)
        registry = await self._view.at_size(heads.registry_size)
        self._registry_size = self._view.current.size
        size = heads.statement.size
        self._asked.follow(registry, size)
        self._guard.keep({asked.name for asked in self._asked.values()})
        due = [asked for asked in self._asked.values() if await self._visiting.is_due(asked, size, registry.size)]
        is_stamp_due = self._stamping is not None and await self._stamping.is_due(size)
        if not due and not is_stamp_due:
            return
        statements = await self._signer.statement_head()
        if self._stamping is not None and is_stamp_due:
            self._stamping.begin(statements)
        for asked in due:
            if asked in self._visits:
                self._visits[asked].add_done_callback(lambda _: self._wanted.set())
                continue
            visit = asyncio.create_task(self._visit(asked, statements))
            self._visits[asked] = visit
            visit.add_done_callback(lambda _, asked=asked: self._visits.pop(asked, None))  # type: ignore[misc]

    async def _visit(self, asked: Asked, statements: SignedHead) -> None:
        try:
            await self._visiting.visit(asked, statements)
        except Exception as error:
            self._note_problem(error)
        asked.pause(asyncio.get_running_loop().time(), self._section.publish_seconds)
