"""Checkpoints of both logs and the coverage that binds them, signed by the log keys in the token.

A checkpoint is stored once for each log and size, as the log signed it. Signing the same size again would only say
the same again; after the log's key was replaced it is done, because the old key's word no longer counts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from key_registry import dsse, note
from key_registry.bundle import Bundle
from key_registry.checkpoint import Checkpoint, verify_checkpoint
from key_registry.coverage import COVERAGE_TYPE, Coverage
from key_registry.errors import FormatError, SignatureError
from key_registry.record import LogKey
from key_registry.replay import Registry
from key_registry.store import IntegrityBroken, LogHead, Store
from witness_service.clock import Clock
from witness_service.cosigning.lines import with_cosignatures
from witness_service.cosigning.rollback import RollbackGuard
from witness_service.custody import Custody
from witness_service.proposed_log_key import signing_keys
from witness_service.registry_view import RegistryView
from witness_service.sealed_history import check_continues

SIGNED_AGAIN = 256
"""Checkpoints of a replaced key that are kept in memory as the new key signed them."""


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A log's head and its signed checkpoint. log: "registry" or "statements"; note: with the log's own lines alone."""

    log: str
    size: int
    note: bytes


class LogSigner:
    """Signs what the logs say about themselves."""

    def __init__(
        self, store: Store, custody: Custody, view: RegistryView, clock: Clock, guard: RollbackGuard | None = None
    ) -> None:
        """guard: what keeps a bundle from being signed over a registry that a cosigner knows to be longer."""
        self._store = store
        self._custody = custody
        self._view = view
        self._clock = clock
        self._guard = guard or RollbackGuard(clock)
        self._signed_again: OrderedDict[tuple[str, int, str], bytes] = OrderedDict()

    # -- checkpoints --------------------------------------------------------------------------------------------

    async def statement_checkpoint(self, at_least: int) -> tuple[int, bytes]:
        """Return size and note of a statement-log checkpoint over at least so many leaves.

        A stored one serves when it is large enough, otherwise the head is signed and stored.
        """
        stored = await self._store.checkpoint("statements", at_least=at_least)
        if stored is not None:
            return stored[0], await self.statement_note(stored[0])
        return await self.newest_statement_checkpoint()

    async def newest_statement_checkpoint(self) -> tuple[int, bytes]:
        """Return size and note of a checkpoint over the whole statement log, without cosignatures."""
        head = await self.statement_head()
        return head.size, head.note

    async def statement_head(self) -> SignedHead:
        """Return the signed head of the statement log."""
        # The key follows from the registry of the same moment: one that was replaced meanwhile must sign no more.
        heads = await self._store.heads()
        registry = await self._view.at_size(heads.registry_size)
        return SignedHead("statements", heads.statement.size, await self._note("statements", registry, heads.statement))

    async def unstored_statement_checkpoint(self) -> tuple[int, bytes]:
        """Return size and note of a checkpoint over the whole statement log by its present key, kept nowhere."""
        heads = await self._store.heads()
        registry = await self._view.at_size(heads.registry_size)
        await check_continues(self._store, registry, heads.statement)
        return heads.statement.size, await self._sign(registry.logs.statements, heads.statement)

    async def statement_note(self, size: int) -> bytes:
        """Return the stored checkpoint of a size, signed by the key that counts for it now."""
        stored = await self._store.checkpoint_at("statements", size)
        if stored is None:
            raise IntegrityBroken(f"expected a checkpoint of {size} statements, got none")
        checkpoint = Checkpoint.parse(note.parse(stored).text)
        return await self._note("statements", self._view.current, LogHead(size, checkpoint.root))

    async def registry_head(self) -> SignedHead:
        """Return the signed head of the registry log."""
        registry = await self._view.at_size(await self._store.registry_size())
        return SignedHead("registry", registry.size, await self._registry_note(registry))

    async def _registry_note(self, registry: Registry) -> bytes:
        return await self._note("registry", registry, LogHead(registry.size, registry.root()))

    async def _note(self, log_name: str, registry: Registry, head: LogHead) -> bytes:
        """Return the checkpoint over a head with a line by the key that counts, stored before it is given out."""
        stored = await self._store.checkpoint_at(log_name, head.size)
        if stored is None:
            is_registry = log_name == "registry"
            if not is_registry:
                await check_continues(self._store, registry, head)
            keys = (registry.logs.registry,) if is_registry else await signing_keys(self._store, self._view, head.size)
            signed = await self._sign_by_all(keys, head)
            await self._store.add_checkpoint(log_name, head.size, signed)
            return signed
        key = registry.logs.registry if log_name == "registry" else registry.statement_keys(head.size)[-1]
        if Checkpoint.parse(note.parse(stored).text) != Checkpoint(key.origin, head.size, head.root):
            raise IntegrityBroken(f"expected the log's root at size {head.size} in its stored checkpoint, got another")
        if _is_by(stored, key):
            return stored
        if log_name == "statements":
            await check_continues(self._store, registry, head)
        return await self._again(log_name, key, head)

    async def _again(self, log_name: str, key: LogKey, head: LogHead) -> bytes:
        """Return the checkpoint as the present key signs it: cosignatures cover the text and hold for it as well."""
        known = log_name, head.size, key.public_key.key_id
        if known not in self._signed_again:
            self._signed_again[known] = await self._sign(key, head)
            while len(self._signed_again) > SIGNED_AGAIN:
                self._signed_again.popitem(last=False)
        return self._signed_again[known]

    async def _sign_by_all(self, keys: Sequence[LogKey], head: LogHead) -> bytes:
        """Return one note with a line by each of the keys, in their order."""
        lines: list[note.NoteSignature] = []
        for key in keys:
            await self._custody.hold(key.public_key, key.cka_id, key.token_serial)
            lines += note.parse(await self._sign(key, head)).signatures
        return note.serialize(Checkpoint(keys[0].origin, head.size, head.root).text(), lines)

    async def _sign(self, key: LogKey, head: LogHead) -> bytes:
        checkpoint = Checkpoint(key.origin, head.size, head.root)
        signature = await self._custody.sign_one(key.public_key.key_id, checkpoint.text().encode())
        return checkpoint.signed(signature, key.public_key)

    # -- the bundle ---------------------------------------------------------------------------------------------

    async def bundle(self) -> Bundle:
        """Return every record with the registry checkpoint, its newest cosignatures and its coverage, of one moment.

        Registry and statement log are read in one snapshot: the coverage says that these were all the records
        when the statement log had this size. Raises Refused while a cosigner knows a longer registry.
        """
        if (refused := self._guard.registry_refusal()) is not None:
            raise refused
        heads = await self._store.heads()
        registry = await self._view.at_size(heads.registry_size)
        await check_continues(self._store, registry, heads.statement)
        coverage = Coverage(
            created_at=self._clock(),
            registry_id=registry.registry_id,
            registry_root=registry.root().hex(),
            registry_size=registry.size,
            statement_root=heads.statement.root.hex(),
            statement_size=heads.statement.size,
        )
        signed = await self._registry_note(registry)
        cosigners = registry.policy.cosigners
        checkpoint = await with_cosignatures(self._store, "registry", registry.size, signed, cosigners)
        return Bundle(registry.envelopes, checkpoint, await self._sign_coverage(registry, coverage))

    async def _sign_coverage(self, registry: Registry, coverage: Coverage) -> dsse.Envelope:
        key = registry.logs.registry.public_key
        body = coverage.encode()
        signature = await self._custody.sign_one(key.key_id, dsse.pae(COVERAGE_TYPE, body))
        return dsse.Envelope(COVERAGE_TYPE, body, (dsse.Signature(key.key_id, signature),))


def _is_by(signed: bytes, key: LogKey) -> bool:
    try:
        verify_checkpoint(note.parse(signed), key.origin, lambda _: (key.public_key,))
    except (FormatError, SignatureError):
        return False
    return True
