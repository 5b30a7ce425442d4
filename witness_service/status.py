"""What an instance says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from key_registry.replay import Registry
from key_registry.store import LogHead, Store
from witness_service.custody import Custody
from witness_service.registry_view import RegistryView


@dataclass(frozen=True, slots=True)
class TokenState:
    """One token: state is "ready", "degraded", "down" or "latched"; reason says why when it is not ready."""

    label: str
    serial: str
    state: str
    reason: str


class Status:
    """Reads the state of the parts; holds none of its own but when serving began."""

    def __init__(self, store: Store, custody: Custody, view: RegistryView, serving_since: str) -> None:
        self._store = store
        self._custody = custody
        self._view = view
        self.serving_since = serving_since
        self.version = version("witness-service")

    def registry(self) -> Registry:
        """Return the registry this instance signs under."""
        return self._view.current

    async def statement_head(self) -> LogHead:
        """Return size and root of the statement log; raises StoreError."""
        return await self._store.statement_head()

    def tokens(self) -> list[TokenState]:
        """Return the state of every token."""
        return [
            TokenState(label, serial, state.status.value, state.reason)
            for label, serial, state in self._custody.states()
        ]
