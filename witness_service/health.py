"""Whether an event could be signed and made durable now."""

from __future__ import annotations

import asyncio

from key_registry.store import Store
from witness_service.custody import Custody
from witness_service.registry_view import RegistryView
from witness_service.sign_path import SignPath

ANSWER_SECONDS = 1.0
"""How long the database may take to answer before it counts as silent."""


class Health:
    """Asks the parts; the sign path is told whether the database answers."""

    def __init__(self, store: Store, custody: Custody, view: RegistryView, sign_path: SignPath) -> None:
        self._store = store
        self._custody = custody
        self._view = view
        self._sign_path = sign_path
        self._asked: asyncio.Task[int] | None = None

    async def can_serve(self) -> bool:
        """Say whether a token, a witness key and the database can all be used."""
        self._sign_path.store_answers = await self._store_answers()
        return self._sign_path.store_answers and self._custody.refusal() is None and self._can_witness()

    def _can_witness(self) -> bool:
        registry = self._view.current
        open_keys = (key for witness_id in registry.witnesses for key in registry.open_keys(witness_id))
        return any(self._custody.usable(key.key_id) for key in open_keys)

    async def _store_answers(self) -> bool:
        # A question without an answer stays asked: to cancel it, psycopg would wait for the server that is silent.
        if self._asked is None:
            self._asked = asyncio.create_task(self._store.registry_size())
        await asyncio.wait([self._asked], timeout=ANSWER_SECONDS)
        if not self._asked.done():
            return False
        asked, self._asked = self._asked, None
        return asked.exception() is None
