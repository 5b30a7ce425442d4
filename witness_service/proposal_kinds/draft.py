"""What every kind of proposal starts from and ends in: the registry as it is, and the documents the leads sign."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from key_registry import dsse
from key_registry.canonical_json import JSONValue
from key_registry.errors import RecordError
from key_registry.record import RECORD_TYPE, LeadsChange, Link, Record, decode, previous_hash
from key_registry.replay import ENTRY_BYTES, KeyVersion, Registry
from key_registry.rules.roles import check_roles
from key_registry.statement import check_hex, read_text
from key_registry.store import Document, SealTransaction, Store
from witness_service.clock import Clock, moment_of
from witness_service.closing_seal import ClosingSeal
from witness_service.custody import Custody
from witness_service.proposal_kinds.new_keys import NewKeys
from witness_service.refusal import Code, Reason, Refused, invalid


@dataclass(frozen=True)
class Draft:
    """A proposal before it is stored.

    documents: what the leads sign, in the order in which it takes effect; none where a dry run would have to make a
    key first. seq: place of the first record, None without a record. replaces: key to close afterwards. facts: what
    the leads should know, by name. sealing: the transaction that keeps the statement log from growing until the
    proposal is stored in it, None where nothing does.
    """

    documents: tuple[Document, ...]
    seq: int | None = None
    witness_id: str | None = None
    key_id: str | None = None
    replaces: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    sealing: SealTransaction | None = None


@dataclass(frozen=True)
class Drafting:
    """What a kind drafts with.

    registry: the newest. stopped: keys that are stopped. new_keys: makes them. dry_run: whether nothing may be made.
    stack: what must stay as it is until the proposal is stored.
    """

    store: Store
    custody: Custody
    seal: ClosingSeal
    registry: Registry
    stopped: frozenset[str]
    clock: Clock
    new_keys: NewKeys
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

    def is_to_come(self, time: str, *, skew: timedelta) -> bool:
        """Whether a time is later than now, and than a clock that is ahead by the skew would say."""
        return moment_of(time) > moment_of(self.record_time()) + skew

    def key(self, arguments: Mapping[str, JSONValue]) -> KeyVersion:
        """Return the key that `key_id` of the arguments names; raises FormatError, Refused NOT_FOUND."""
        key_id = check_hex("key_id", read_text("key_id", arguments["key_id"]))
        key = self.registry.keys.get(key_id)
        if key is None:
            raise Refused(
                Code.NOT_FOUND, Reason.UNKNOWN_KEY, "expected the id of a key of the registry, got another id"
            )
        return key

    async def checkpoint(self) -> tuple[int, bytes]:
        """Return size and note of a checkpoint over the whole statement log; a dry run leaves no trace of it."""
        return await (self.seal.unstored_checkpoint() if self.dry_run else self.seal.checkpoint())

    async def closing_checkpoint(self) -> tuple[int, bytes]:
        """Return the same for a record that closes a key: cosigned, or refused as UNAVAILABLE."""
        if self.dry_run:
            return await self.seal.unstored_checkpoint()
        return await self.seal.closing_checkpoint(self.registry.policy)

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


def require_storable(registry: Registry, draft: Draft) -> None:
    """Raise Refused for records that no signature could bring into the registry.

    A key with two roles, or too many bytes: better refused now than when the leads have signed.
    """
    for document in draft.documents:
        if document.payload_type != RECORD_TYPE:
            continue
        body = decode(document.body)
        try:
            check_roles(registry, body)
        except RecordError as error:
            raise invalid("arguments", f"arguments: {error}") from error
        if (size := _largest_entry(registry, document.body, body)) > ENTRY_BYTES:
            raise invalid(
                "arguments", f"arguments: expected a record of at most {ENTRY_BYTES} bytes when signed, got {size}"
            )


def _largest_entry(registry: Registry, document: bytes, body: Record) -> int:
    """Return the bytes of a record's log entry when everybody who may sign it has."""
    signers = {lead.public_key.key_id for lead in registry.leads}
    if isinstance(body, LeadsChange):
        signers |= {lead.public_key.key_id for lead in body.leads}
    count = len(signers) + 1  # and the key it is about
    signatures = tuple(dsse.Signature(f"{number:064x}", bytes(64)) for number in range(count))
    return len(dsse.Envelope(RECORD_TYPE, document, signatures).entry())


def record_document(body: bytes, possession: dsse.Signature | None = None) -> Document:
    """Return a record that leads sign, with the signature of the key it is about, if it needs one."""
    return Document(RECORD_TYPE, body, possession)
