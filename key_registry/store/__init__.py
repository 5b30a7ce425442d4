"""The store: the one place where key_registry does I/O. psycopg and its errors stay inside."""

from key_registry.store.checkpoints import Heads
from key_registry.store.claims import ClaimTransaction, NewClaim, NewPlace, StoredClaim, StreamHead
from key_registry.store.errors import (
    Conflict,
    IntegrityBroken,
    KeyInUse,
    RegistryMoved,
    SchemaMismatch,
    StoreError,
    StoreUnavailable,
)
from key_registry.store.proposals import StoredProposal
from key_registry.store.seals import LogHead, NewAttestation, SealTransaction
from key_registry.store.store import Store
from key_registry.store.tiles import Edge, NewTile

__all__ = [
    "ClaimTransaction",
    "Conflict",
    "Edge",
    "Heads",
    "IntegrityBroken",
    "KeyInUse",
    "LogHead",
    "NewAttestation",
    "NewClaim",
    "NewPlace",
    "NewTile",
    "RegistryMoved",
    "SchemaMismatch",
    "SealTransaction",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "StoredClaim",
    "StoredProposal",
    "StreamHead",
]
