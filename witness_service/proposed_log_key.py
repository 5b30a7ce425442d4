"""Which keys sign a new checkpoint of the statement log: the one that counts, and one that is proposed in its place.

A policy record that names a new key fixes the log's size at the time of its proposal, and what is larger counts under
the new key alone as soon as the record is stored. Checkpoints given out in between would then be worth nothing, so
they are signed by both.
"""

from __future__ import annotations

from key_registry import record
from key_registry.record import RECORD_TYPE, LogKey, PolicyChange
from key_registry.store import Store
from witness_service.registry_view import RegistryView


async def signing_keys(store: Store, view: RegistryView, size: int) -> tuple[LogKey, ...]:
    """Return the keys that sign a checkpoint of this size, which the log has reached: the one that counts first.

    Raises as RegistryView.refresh.
    """
    while True:
        registry_size = await store.registry_size()
        proposed = await _proposed(store)
        # A record stored in between may be the proposed one, which is then among neither.
        if await store.registry_size() == registry_size:
            break
    counts = (await view.at_size(registry_size)).statement_keys(size)[-1]
    return (counts, *(key for key in proposed if key != counts))


async def _proposed(store: Store) -> list[LogKey]:
    bodies = [
        record.decode(document.body)
        for proposal in await store.unfinished_proposals()
        for document in proposal.documents
        if proposal.kind == "policy" and document.payload_type == RECORD_TYPE
    ]
    return [body.logs.statements for body in bodies if isinstance(body, PolicyChange)]
