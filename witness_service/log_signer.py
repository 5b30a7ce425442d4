"""Checkpoints of both logs and the coverage that binds them, signed by the log keys in the token."""

from __future__ import annotations

from key_registry import dsse
from key_registry.bundle import Bundle
from key_registry.checkpoint import Checkpoint
from key_registry.coverage import COVERAGE_TYPE, Coverage
from key_registry.store import LogHead, Store
from witness_service.clock import Clock
from witness_service.custody import Custody
from witness_service.registry_view import RegistryView


class LogSigner:
    """Signs what the logs say about themselves."""

    def __init__(self, store: Store, custody: Custody, view: RegistryView, clock: Clock) -> None:
        self._store = store
        self._custody = custody
        self._view = view
        self._clock = clock

    async def statement_checkpoint(self, at_least: int) -> tuple[int, bytes]:
        """Return size and note of a statement-log checkpoint over at least so many leaves.

        A stored one serves when it is large enough, otherwise the head is signed and stored.
        """
        stored = await self._store.checkpoint("statements", at_least=at_least)
        if stored is not None:
            return stored
        return await self.newest_statement_checkpoint()

    async def newest_statement_checkpoint(self) -> tuple[int, bytes]:
        """Return size and note of a checkpoint over the whole statement log."""
        head = await self._store.statement_head()
        stored = await self._store.checkpoint("statements", at_least=head.size)
        if stored is not None and stored[0] == head.size:
            return stored
        note = await self._sign("statements", head)
        await self._store.add_checkpoint("statements", head.size, note)
        return head.size, note

    async def bundle(self) -> Bundle:
        """Return every record with the registry checkpoint and its coverage, of one moment.

        Registry and statement log are read in one snapshot: the coverage says that these were all the records
        when the statement log had this size.
        """
        heads = await self._store.heads()
        registry = self._view.current
        if registry.size < heads.registry_size:
            registry = await self._view.refresh()
        registry = registry.at_size(heads.registry_size)
        checkpoint = await self._sign("registry", LogHead(registry.size, registry.root()))
        coverage = Coverage(
            created_at=self._clock(),
            registry_id=registry.registry_id,
            registry_root=registry.root().hex(),
            registry_size=registry.size,
            statement_root=heads.statement.root.hex(),
            statement_size=heads.statement.size,
        )
        return Bundle(registry.envelopes, checkpoint, await self._sign_coverage(coverage))

    async def _sign(self, log_name: str, head: LogHead) -> bytes:
        logs = self._view.current.logs
        key = logs.registry if log_name == "registry" else logs.statements
        checkpoint = Checkpoint(key.origin, head.size, head.root)
        signature = await self._custody.sign_one(key.public_key.key_id, checkpoint.text().encode())
        return checkpoint.signed(signature, key.public_key)

    async def _sign_coverage(self, coverage: Coverage) -> dsse.Envelope:
        key = self._view.current.logs.registry.public_key
        body = coverage.encode()
        signature = await self._custody.sign_one(key.key_id, dsse.pae(COVERAGE_TYPE, body))
        return dsse.Envelope(COVERAGE_TYPE, body, (dsse.Signature(key.key_id, signature),))
