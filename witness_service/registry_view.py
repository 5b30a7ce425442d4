"""The key registry as this instance knows it, kept in step with the registry log."""

from __future__ import annotations

import asyncio
from functools import reduce

import structlog

from key_registry.replay import Registry
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

    @property
    def current(self) -> Registry:
        """Return the newest registry replayed."""
        if self._current is None:
            raise RuntimeError("expected refresh() before the first use of the registry view")
        return self._current

    async def refresh(self) -> Registry:
        """Replay what the registry log has grown by, hold its open keys and its log keys, and return the registry.

        Raises RecordError when the log does not follow its own rules, HsmError when a key is not in its token,
        StoreError when the database does not answer.
        """
        async with self._refreshing:
            registry = self._current
            if registry is not None and await self._store.registry_size() == registry.size:
                return registry
            envelopes = await self._store.records()
            if registry is None:
                registry = Registry.replay(envelopes, registry_id=self._registry_id)
            else:
                registry = reduce(Registry.append, envelopes[registry.size :], registry)
            for key in (registry.logs.registry, registry.logs.statements):
                await self._custody.hold(key.public_key, key.cka_id, key.token_serial)
            for witness_id in registry.witnesses:
                for version in registry.open_keys(witness_id):
                    await self._custody.hold(version.public_key, version.cka_id, version.token_serial)
            log.info("registry replayed", registry_size=registry.size)
            self._current = registry
            return registry
