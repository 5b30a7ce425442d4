"""The first records of a registry: its genesis, and the first key of each witness."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from hsm import Algorithm
from key_registry import dsse
from key_registry.checkpoint import Checkpoint
from key_registry.public_key import PublicKey
from key_registry.record import RECORD_TYPE, Genesis, KeyAdd, Lead, LogKey, Logs, Rotate
from key_registry.replay import Registry
from key_registry.store import Store
from witness_service.clock import Clock
from witness_service.custody import Custody
from witness_service.lead_key import LeadKey


class Founding:
    """Makes a registry with the leads present; each step is stored before the next, so it can be continued."""

    def __init__(self, store: Store, custody: Custody, leads: Sequence[LeadKey], clock: Clock) -> None:
        self._store = store
        self._custody = custody
        self._leads = leads
        self._clock = clock

    async def genesis(self, *, environment: str, origin: str, threshold: int, token_serial: str) -> Registry:
        """Make the log keys and the genesis record.

        origin: schema-less URL under which both logs get their names. threshold: leads that make a quorum.
        """
        leads = sorted(self._leads, key=lambda lead: lead.public_key.key_id)
        record = Genesis(
            created_at=self._clock(),
            environment=environment,
            leads=tuple(Lead(f"lead {number}", lead.public_key) for number, lead in enumerate(leads, 1)),
            threshold=threshold,
            logs=Logs(
                registry=await self._log_key(f"{origin}/registry", token_serial),
                statements=await self._log_key(f"{origin}/statements", token_serial),
            ),
        )
        body = record.encode()
        envelope = dsse.Envelope(RECORD_TYPE, body, self._quorum(body))
        registry = Registry.replay([envelope], registry_id=None)
        await self._store.append_record(envelope, seq=0)
        return registry

    async def _log_key(self, origin: str, token_serial: str) -> LogKey:
        made = await self._custody.generate(Algorithm.ED25519, "log", token_serial)
        public_key = PublicKey.from_spki(made.public_key)
        return LogKey(origin, public_key, made.cka_id, token_serial)

    async def witness(self, registry: Registry, *, algorithm: Algorithm, token_serial: str) -> Registry:
        """Add a witness with a first key, and open the key at the head of the statement log."""
        witness_id = f"WITNESS:{uuid.uuid4()}"
        made = await self._custody.generate(algorithm, "witness", token_serial)
        public_key = PublicKey.from_spki(made.public_key)
        await self._custody.hold(public_key, made.cka_id, token_serial)
        key_add = KeyAdd(
            seq=registry.size,
            prev=registry.last_hash,
            registry_id=registry.registry_id,
            created_at=self._clock(),
            witness_id=witness_id,
            algorithm=public_key.algorithm,
            public_key=public_key.spki,
            streams=("*",),
            cka_id=made.cka_id,
            token_serial=token_serial,
            attributes=dict(made.attributes),
        )
        registry = await self._append(registry, key_add.encode(), public_key.key_id)
        opening = Rotate(
            seq=registry.size,
            prev=registry.last_hash,
            registry_id=registry.registry_id,
            created_at=self._clock(),
            witness_id=witness_id,
            open=public_key.key_id,
            close=None,
            count=None,
            checkpoint=await self._statement_checkpoint(registry),
        )
        return await self._append(registry, opening.encode(), public_key.key_id)

    async def _statement_checkpoint(self, registry: Registry) -> bytes:
        head = await self._store.statement_head()
        log_key = registry.logs.statements
        await self._custody.hold(log_key.public_key, log_key.cka_id, log_key.token_serial)
        checkpoint = Checkpoint(log_key.origin, head.size, head.root)
        signature = await self._custody.sign_one(log_key.public_key.key_id, checkpoint.text().encode())
        return checkpoint.signed(signature, log_key.public_key)

    async def _append(self, registry: Registry, body: bytes, key_id: str) -> Registry:
        """Store a record signed by the leads and by the key it is about."""
        possession = dsse.Signature(key_id, await self._custody.sign_one(key_id, dsse.pae(RECORD_TYPE, body)))
        envelope = dsse.Envelope(RECORD_TYPE, body, (possession, *self._quorum(body)))
        grown = registry.append(envelope)
        await self._store.append_record(envelope, seq=registry.size)
        return grown

    def _quorum(self, body: bytes) -> tuple[dsse.Signature, ...]:
        return tuple(lead.sign_record(body) for lead in self._leads)
