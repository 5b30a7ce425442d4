"""The store: the one place where key_registry does I/O. psycopg and its errors stay inside."""

from key_registry.store.checkpoints import Heads
from key_registry.store.claims import ClaimTransaction, NewClaim, NewPlace, StoredClaim, StreamHead
from key_registry.store.cosignatures import StoredCosignature
from key_registry.store.errors import (
    Conflict,
    EmergencyFirst,
    IntegrityBroken,
    KeyInUse,
    ProposalEnded,
    RegistryMoved,
    SchemaMismatch,
    SignedSince,
    StoreError,
    StoreUnavailable,
)
from key_registry.store.key_orders import KeyOrder
from key_registry.store.proposals import Document, NewProposal, StoredProposal
from key_registry.store.registry_log import Quiet
from key_registry.store.seals import LogHead, NewAttestation, SealTransaction
from key_registry.store.store import Store
from key_registry.store.tiles import Edge, NewTile

__all__ = [
    "ClaimTransaction",
    "Conflict",
    "Document",
    "Edge",
    "EmergencyFirst",
    "Heads",
    "IntegrityBroken",
    "KeyInUse",
    "KeyOrder",
    "LogHead",
    "NewAttestation",
    "NewClaim",
    "NewPlace",
    "NewProposal",
    "NewTile",
    "ProposalEnded",
    "Quiet",
    "RegistryMoved",
    "SchemaMismatch",
    "SealTransaction",
    "SignedSince",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "StoredClaim",
    "StoredCosignature",
    "StoredProposal",
    "StreamHead",
]
