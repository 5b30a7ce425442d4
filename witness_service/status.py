"""What an instance says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from key_registry.replay import Registry
from key_registry.store import LogHead, Store
from witness_service.cosigning.asked import CosignerState
from witness_service.cosigning.rollback import RollbackGuard
from witness_service.cosigning.rounds import Cosigning
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

    def __init__(
        self,
        store: Store,
        custody: Custody,
        view: RegistryView,
        guard: RollbackGuard,
        cosigning: Cosigning,
        serving_since: str,
    ) -> None:
        self._store = store
        self._custody = custody
        self._view = view
        self._guard = guard
        self._cosigning = cosigning
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

    def cosigners(self) -> list[CosignerState]:
        """Return what is known of every cosigner, log by log."""
        return self._cosigning.states()

    def contradictions(self) -> list[str]:
        """Return what cosigners have seen that the database lacks, one sentence each."""
        return [str(found) for found in self._guard.contradictions]

    def timestamp_problem(self) -> str:
        """Return why the last timestamp token did not come; empty when it did, or none is asked for."""
        return self._cosigning.timestamp_problem
