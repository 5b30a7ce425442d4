"""Whether an event could be signed and made durable now."""

from __future__ import annotations

import asyncio

from key_registry.store import Store
from witness_service.cosigning.rollback import RollbackGuard
from witness_service.custody import Custody
from witness_service.drill_witness import is_drill
from witness_service.registry_view import RegistryView
from witness_service.sign_path import SignPath

ANSWER_SECONDS = 1.0
"""How long the database may take to answer before it counts as silent."""


class Health:
    """Asks the parts; the sign path is told whether the database answers."""

    def __init__(
        self, store: Store, custody: Custody, view: RegistryView, guard: RollbackGuard, sign_path: SignPath
    ) -> None:
        self._store = store
        self._custody = custody
        self._view = view
        self._guard = guard
        self._sign_path = sign_path
        self._asked: asyncio.Task[int] | None = None

    async def can_serve(self) -> bool:
        """Say whether a token, a witness key and the database can all be used, and nobody contradicts the database."""
        self._sign_path.store_answers = await self._store_answers()
        refused = self._guard.refusal() or self._custody.refusal()
        return self._sign_path.store_answers and refused is None and self._can_witness()

    def _can_witness(self) -> bool:
        registry = self._view.current
        keys = [registry.signing_key(witness_id) for witness_id in registry.witnesses]
        return any(key is not None and not is_drill(key.streams) and self._is_usable(key.key_id) for key in keys)

    def _is_usable(self, key_id: str) -> bool:
        return key_id not in self._view.stopped and self._custody.usable(key_id)

    async def _store_answers(self) -> bool:
        # A question without an answer stays asked: to cancel it, psycopg would wait for the server that is silent.
        if self._asked is None:
            self._asked = asyncio.create_task(self._view.look())
        await asyncio.wait([self._asked], timeout=ANSWER_SECONDS)
        if not self._asked.done():
            return False
        asked, self._asked = self._asked, None
        return asked.exception() is None
