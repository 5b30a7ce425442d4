"""Visiting one cosigner: first the statement log, then the registry log, as far as something is due."""

from __future__ import annotations

import asyncio
from typing import Protocol

from key_registry.store import Store
from witness_service.clock import Clock
from witness_service.config import CosigningSection
from witness_service.cosigning.asked import LOGS, Asked
from witness_service.cosigning.asking import (
    Asking,
    KnowsLarger,
    KnowsOtherRoot,
    NotCosigned,
    cosigner_id,
    posix_seconds,
)
from witness_service.cosigning.rollback import RollbackGuard
from witness_service.log_signer import LogSigner, SignedHead


class OnNews(Protocol):
    """Is told of a new cosignature, or that the log has grown beyond what was sent."""

    def __call__(self, *, cosigned: bool) -> None: ...


class Visiting:
    """Brings checkpoints to cosigners and keeps their answers. Its methods raise StoreError, HsmError, Refused."""

    def __init__(
        self,
        store: Store,
        signer: LogSigner,
        asking: Asking,
        guard: RollbackGuard,
        section: CosigningSection,
        clock: Clock,
        on_news: OnNews,
    ) -> None:
        self._store = store
        self._signer = signer
        self._asking = asking
        self._guard = guard
        self._heartbeat = section.heartbeat_seconds
        self._clock = clock
        self._on_news = on_news

    async def is_due(self, asked: Asked, statement_size: int, registry_size: int) -> bool:
        """Say whether a visit has something to do, when the logs are of these sizes."""
        if asyncio.get_running_loop().time() < asked.pause_until:
            return False
        await self._remember(asked)
        return self._is_log_due(asked, "statements", statement_size) or self._is_log_due(
            asked, "registry", registry_size
        )

    async def visit(self, asked: Asked, statements: SignedHead) -> None:
        """Have a cosigner cosign the statement log's head, and then the registry's as it is by then."""
        async with asked.lock:
            await self._remember(asked)
            if self._is_log_due(asked, "statements", statements.size):
                await self._ask(asked, statements)
            registry = await self._signer.registry_head()
            if self._is_log_due(asked, "registry", registry.size):
                await self._ask(asked, registry)

    async def ask_about(self, asked: Asked, signed: SignedHead) -> None:
        """Have a cosigner cosign this one checkpoint, unless it has or knows a larger one."""
        async with asked.lock:
            await self._remember(asked)
            if asked.latest.get(signed.log, (-1, 0))[0] < signed.size:
                await self._ask(asked, signed)

    def _is_log_due(self, asked: Asked, log_name: str, size: int) -> bool:
        """Say whether a log should be sent; one whose word contradicts the database is asked until it takes it back."""
        if self._guard.holds(asked.name, log_name):
            return True
        return asked.is_due(log_name, size, posix_seconds(self._clock()), self._heartbeat)

    async def _remember(self, asked: Asked) -> None:
        """Read what the cosigner cosigned last, here or on another instance."""
        known_as = cosigner_id(asked.cosigner)
        for log_name in LOGS:
            found = await self._store.latest_cosigned(log_name, [known_as])
            if known_as in found:
                asked.latest[log_name] = found[known_as]
            else:
                asked.latest.pop(log_name, None)

    async def _ask(self, asked: Asked, signed: SignedHead) -> None:
        """Have one checkpoint cosigned and keep the answer, or take down why not."""
        if asked.url is None:
            asked.failed(signed.log, "neither the policy nor the configuration says where it is")
            return
        old = min(asked.latest.get(signed.log, (0, 0))[0], signed.size)
        try:
            cosignature = await self._asking.ask(asked.cosigner, asked.url, signed.log, signed.note, old=old)
        except NotCosigned as error:
            asked.failed(signed.log, str(error))
        except KnowsLarger as error:
            await self._knows_larger(asked, signed.log, error.size)
        except KnowsOtherRoot as error:
            asked.failed(signed.log, f"says that the log had another root at {error.size} entries")
            ours = await self._size_of(signed.log)
            self._guard.contradicted(asked.name, signed.log, error.size, other_root=True, ours=ours)
        else:
            await self._store.add_cosignature(cosignature)
            asked.did(signed.log, signed.size, cosignature.cosigned_at)
            self._guard.agreed(asked.name, signed.log, signed.size)
            self._on_news(cosigned=True)

    async def _knows_larger(self, asked: Asked, log_name: str, size: int) -> None:
        """Find out whether the log has grown meanwhile, through another instance, or has lost something."""
        ours = await self._size_of(log_name)
        if size <= ours:
            self._on_news(cosigned=False)
            return
        asked.failed(log_name, f"says that the log had {size} entries; the database has {ours}")
        self._guard.contradicted(asked.name, log_name, size, other_root=False, ours=ours)

    async def _size_of(self, log_name: str) -> int:
        heads = await self._store.heads()
        return heads.registry_size if log_name == "registry" else heads.statement.size
