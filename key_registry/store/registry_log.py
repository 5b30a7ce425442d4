"""The registry log: every key record, in order."""

from __future__ import annotations

import hashlib

from key_registry import canonical_json
from key_registry.dsse import Envelope
from key_registry.errors import FormatError
from key_registry.merkle import leaf_hash
from key_registry.store import locks
from key_registry.store.connection import Database
from key_registry.store.errors import IntegrityBroken, KeyInUse, RegistryMoved

SIZE = "SELECT coalesce(max(seq) + 1, 0) FROM witness.registry_records"
COUNT_UNSEALED = "SELECT count(*) FROM witness.unsealed WHERE key_id = %s"

_INSERT = """
INSERT INTO witness.registry_records (seq, envelope, record_hash, previous_hash, leaf_hash) VALUES (%s, %s,
%s, %s, %s)
"""


async def records(database: Database) -> list[Envelope]:
    """Return every record in order. Raises IntegrityBroken when one cannot be read."""
    rows = await database.read("SELECT seq, envelope FROM witness.registry_records ORDER BY seq")
    try:
        return [Envelope.from_json(envelope) for _, envelope in rows]
    except FormatError as error:
        raise IntegrityBroken(f"expected envelopes in the registry log, got other bytes: {error}") from error


async def append_record(database: Database, envelope: Envelope, *, seq: int, unless_unsealed: str | None) -> None:
    """Append a record while nothing is claimed or sealed; see Store.append_record."""
    row = (
        seq,
        envelope.to_json(),
        hashlib.sha256(envelope.pae()).digest(),
        _previous_hash(envelope),
        leaf_hash(envelope.entry()),
    )
    async with database.transaction() as connection:
        _, ((size,),) = await connection.begin(locks.LOCK_REGISTRY, SIZE)
        if size != seq:
            raise RegistryMoved(size)
        if unless_unsealed is not None:
            ((unsealed,),) = await connection.rows(COUNT_UNSEALED, (bytes.fromhex(unless_unsealed),))
            if unsealed:
                raise KeyInUse(unsealed)
        await connection.rows(_INSERT, row)


def _previous_hash(envelope: Envelope) -> bytes | None:
    body = canonical_json.decode(envelope.body)
    previous = body.get("prev") if isinstance(body, dict) else None
    return bytes.fromhex(previous) if isinstance(previous, str) else None
