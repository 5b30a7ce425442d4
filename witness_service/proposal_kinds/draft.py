"""What every kind of proposal starts from and ends in: the registry as it is, and the documents the leads sign."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from key_registry import dsse
from key_registry.canonical_json import JSONValue
from key_registry.record import RECORD_TYPE, Link, previous_hash
from key_registry.replay import KeyVersion, Registry
from key_registry.statement import check_hex, read_text
from key_registry.store import Document, Store
from witness_service.clock import Clock
from witness_service.closing_seal import ClosingSeal
from witness_service.custody import Custody
from witness_service.refusal import Code, Reason, Refused


@dataclass(frozen=True)
class Draft:
    """A proposal before it is stored.

    documents: what the leads sign, in the order in which it takes effect; none where a dry run would have to make a
    key first. seq: place of the first record, None without a record. replaces: key to close afterwards. facts: what
    the leads should know, by name.
    """

    documents: tuple[Document, ...]
    seq: int | None = None
    witness_id: str | None = None
    key_id: str | None = None
    replaces: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drafting:
    """What a kind drafts with.

    registry: the newest. stopped: keys that are stopped. dry_run: whether nothing may be made. stack: what must stay
    as it is until the proposal is stored.
    """

    store: Store
    custody: Custody
    seal: ClosingSeal
    registry: Registry
    stopped: frozenset[str]
    clock: Clock
    dry_run: bool
    stack: AsyncExitStack

    def link(self, after: Link | None = None, body: bytes = b"") -> dict[str, Any]:
        """Return what places a record after the last one of the registry, or after another one of the same draft.

        body: that one's bytes.
        """
        if after is None:
            place = {"seq": self.registry.size, "prev": self.registry.last_hash, "created_at": self.record_time()}
        else:
            prev = previous_hash(dsse.Envelope(RECORD_TYPE, body, ()))
            place = {"seq": after.seq + 1, "prev": prev, "created_at": after.created_at}
        return {"registry_id": self.registry.registry_id, **place}

    def record_time(self) -> str:
        """Return the time of a new record, which is never before that of the last one."""
        return max(self.clock(), self.registry.last_time)

    def key(self, arguments: Mapping[str, JSONValue]) -> KeyVersion:
        """Return the key that `key_id` of the arguments names; raises FormatError, Refused NOT_FOUND."""
        key_id = check_hex("key_id", read_text("key_id", arguments["key_id"]))
        key = self.registry.keys.get(key_id)
        if key is None:
            raise Refused(
                Code.NOT_FOUND, Reason.UNKNOWN_KEY, "expected the id of a key of the registry, got another id"
            )
        return key

    def is_quiet(self, key: KeyVersion) -> bool:
        """Whether nothing is claimed with a key any more: it is stopped, compromised, or another took its place."""
        if key.key_id in self.stopped or not key.may_sign:
            return True
        later = self.registry.open_keys(key.witness_id)
        later = later[later.index(key) + 1 :]
        return any(it.may_sign and _covers_all(it, key) for it in later)


def _covers_all(key: KeyVersion, other: KeyVersion) -> bool:
    """Whether a key covers every stream the other one covers."""
    return all(
        any(
            own == pattern or (own.endswith("*") and pattern.removesuffix("*").startswith(own[:-1]))
            for own in key.streams
        )
        for pattern in other.streams
    )


def record_document(body: bytes, possession: dsse.Signature | None = None) -> Document:
    """Return a record that leads sign, with the signature of the key it is about, if it needs one."""
    return Document(RECORD_TYPE, body, possession)
