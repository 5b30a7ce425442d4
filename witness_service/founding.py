"""The first records of a registry: its genesis, and the first key of each witness.

In production the leads are elsewhere: the genesis is drafted here, signed by each of them on a machine of theirs,
and stored here when all have signed. `witness dev` holds its only lead's key and does the same in one go.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from hsm import Algorithm
from key_registry import dsse
from key_registry.checkpoint import Checkpoint
from key_registry.public_key import PublicKey
from key_registry.record import RECORD_TYPE, Genesis, KeyAdd, Lead, LogKey, Logs, Rotate, previous_hash
from key_registry.replay import Registry
from key_registry.store import RegistryMoved, Store
from witness_service.clock import Clock
from witness_service.custody import Custody
from witness_service.lead_signer import LeadSigner

REASON = "founding"
"""Why the first key of each witness came to be, in its records."""


class NotFounded(Exception):
    """The genesis cannot be stored; reason: stable, upper case. The message says what was expected and what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def origins(origin: str) -> tuple[str, str]:
    """Return the origins of registry log and statement log below a schema-less URL."""
    return f"{origin}/registry", f"{origin}/statements"


async def make_log_key(custody: Custody, origin: str, token_serial: str) -> LogKey:
    """Make the key of a log in a token; raises HsmError."""
    made = await custody.generate(Algorithm.ED25519, "log", token_serial)
    return LogKey(origin, PublicKey.from_spki(made.public_key), made.cka_id, token_serial)


def founded(body: bytes, signatures: Iterable[dsse.Signature]) -> Registry:
    """Return the registry that begins with a genesis record, which every lead must have signed.

    body: the record's exact bytes. Raises RecordError, FormatError.
    """
    return Registry.replay([dsse.Envelope(RECORD_TYPE, body, tuple(signatures))], registry_id=None)


async def require_unfounded(store: Store, *, but: str | None = None) -> None:
    """Raise NotFounded when the database holds a registry, unless it is the one with the id `but`."""
    stored = await store.records()
    if stored and previous_hash(stored[0]) != but:
        raise NotFounded(
            "REGISTRY_EXISTS",
            f"expected a database without a registry, got the one of registry {previous_hash(stored[0])}; "
            "a database holds one registry only",
        )


async def store_genesis(store: Store, registry: Registry) -> bool:
    """Store record 0 unless it is stored already; returns whether it was not.

    The same body counts as the same record: a lead who signs twice may give two signatures. Raises NotFounded when
    the database holds another registry, StoreError.
    """
    (envelope,) = registry.envelopes
    try:
        await store.append_record(envelope, seq=0)
    except RegistryMoved:
        await require_unfounded(store, but=registry.registry_id)
        return False
    return True


class Founding:
    """Makes a registry with the leads present; each step is stored before the next, so it can be continued."""

    def __init__(self, store: Store, custody: Custody, leads: Sequence[LeadSigner], clock: Clock) -> None:
        self._store = store
        self._custody = custody
        self._leads = leads
        self._clock = clock

    async def genesis(
        self, *, environment: str, origin: str, threshold: int, token_serial: str, policy: str = "none"
    ) -> Registry:
        """Make the log keys and the genesis record.

        origin: schema-less URL under which both logs get their names. threshold: leads that make a quorum. policy:
        "none", or the text of a C2SP tlog-policy without log lines.
        """
        leads = sorted(self._leads, key=lambda lead: lead.public_key.key_id)
        registry_log, statement_log = origins(origin)
        body = Genesis(
            created_at=self._clock(),
            environment=environment,
            leads=tuple(Lead(lead.name or f"lead {number}", lead.public_key) for number, lead in enumerate(leads, 1)),
            threshold=threshold,
            logs=Logs(
                registry=await make_log_key(self._custody, registry_log, token_serial),
                statements=await make_log_key(self._custody, statement_log, token_serial),
            ),
            policy=policy,
        ).encode()
        registry = founded(body, self._quorum(body))
        await store_genesis(self._store, registry)
        return registry

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
            reason=REASON,
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
            reason=REASON,
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
