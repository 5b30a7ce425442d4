"""The key registry as this instance knows it, kept in step with the registry log."""

from __future__ import annotations

import asyncio
from functools import reduce

import structlog

from hsm import HsmError
from key_registry.record import LogKey
from key_registry.replay import KeyVersion, Registry
from key_registry.store import Store
from witness_service.custody import Custody

log = structlog.get_logger(__name__)


class RegistryView:
    """The newest registry this instance has replayed, with its open keys held in custody."""

    def __init__(self, store: Store, custody: Custody, registry_id: str) -> None:
        self._store = store
        self._custody = custody
        self._registry_id = registry_id
        self._refreshing = asyncio.Lock()
        self._current: Registry | None = None
        self._stopped: frozenset[str] = frozenset()
        self._missing: dict[str, KeyVersion | LogKey] = {}

    @property
    def current(self) -> Registry:
        """Return the newest registry replayed."""
        if self._current is None:
            raise RuntimeError("expected refresh() before the first use of the registry view")
        return self._current

    async def at_size(self, size: int) -> Registry:
        """Return the registry as it was with so many records; replays what is missing. Raises as `refresh`."""
        registry = self._current
        if registry is None or registry.size < size:
            registry = await self.refresh()
        return registry.at_size(size)

    @property
    def stopped(self) -> frozenset[str]:
        """Return the keys that were stopped when last looked; who claims asks the transaction."""
        return self._stopped

    async def look(self) -> int:
        """Return the number of records, and look which keys are stopped; raises StoreError."""
        before, self._stopped = self._stopped, await self._store.stopped_keys()
        for key_id in before - self._stopped:
            # Resumed; while it was stopped, a start may have gone on without it.
            if (version := self.current.keys.get(key_id)) is not None and version.may_sign:
                await self._hold_if_there(version)
        return await self._store.registry_size()

    async def replayed(self) -> Registry:
        """Return the newest registry without asking a token anything; raises RecordError, StoreError."""
        registry = self._current
        if registry is not None and await self._store.registry_size() == registry.size:
            return registry
        envelopes = await self._store.records()
        if registry is None:
            return Registry.replay(envelopes, registry_id=self._registry_id)
        return reduce(Registry.append, envelopes[registry.size :], registry)

    async def refresh(self) -> Registry:
        """Replay what the registry log has grown by, hold its log keys and those that sign, and return the registry.

        The first time every key must be there. Later a key that is not leaves its work to others until it is: a
        rotation elsewhere must not end the signing with the other keys. Raises RecordError when the log does not
        follow its own rules, HsmError when a key is not in its token at the start, StoreError when the database does
        not answer.
        """
        async with self._refreshing:
            registry = await self.replayed()
            if registry is self._current:
                return registry
            self._stopped = await self._store.stopped_keys()
            await self._hold(registry)
            log.info("registry replayed", registry_size=registry.size)
            self._current = registry
            return registry

    async def hold_missing(self) -> None:
        """Look again for the keys that were not in their tokens when the registry grew; for one task alone."""
        for key_id, key in [*self._missing.items()]:
            if await self._try_to_hold(key) is None:
                self._missing.pop(key_id, None)
                log.info("a missing key is there now", key_id=key_id)

    async def _hold(self, registry: Registry) -> None:
        """Hold the keys that are needed; of a stopped or distrusted one only what it has claimed is still wanted."""
        needed: list[KeyVersion | LogKey] = [registry.logs.registry, registry.logs.statements]
        unsealed = await self._store.unsealed_keys()
        for version in registry.keys.values():
            if version.may_sign and version.key_id not in self._stopped:
                needed.append(version)
            elif version.may_sign or version.key_id in unsealed:
                await self._hold_if_there(version)
            elif version.is_compromised or version.is_destroyed:
                self._custody.let_go(version.key_id)
        self._missing = {}
        for key in needed:
            if self._current is None:
                await self._custody.hold(key.public_key, key.cka_id, key.token_serial)
            elif (error := await self._try_to_hold(key)) is not None:
                self._missing[key.public_key.key_id] = key
                log.error("a key that signs is not in its token", key_id=key.public_key.key_id, reason=str(error))

    async def _hold_if_there(self, version: KeyVersion) -> None:
        if (error := await self._try_to_hold(version)) is not None:
            log.warning("a key that signs nothing new is not held", key_id=version.key_id, reason=str(error))

    async def _try_to_hold(self, key: KeyVersion | LogKey) -> HsmError | None:
        try:
            await self._custody.hold(key.public_key, key.cka_id, key.token_serial, wait=self._current is None)
        except HsmError as error:
            return error
        return None
