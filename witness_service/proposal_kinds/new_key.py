"""`rotate` and `add-witness`: a key is made in the token, joins a witness, and is opened.

The leads sign both records. Neither needs the old key, so that a witness whose key is lost, stopped or distrusted gets
a new one in the same way. The opening fixes the statement log's size at the time of the proposal: the new key signs
nothing below it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace

from hsm import Algorithm, GeneratedKey, HsmError
from key_registry import dsse
from key_registry.canonical_json import JSONValue
from key_registry.errors import FormatError
from key_registry.public_key import ED25519, PublicKey
from key_registry.record import DRILL, RECORD_TYPE, KeyAdd, Rotate
from key_registry.record.fields import read_list
from key_registry.replay import KeyVersion, Registry
from key_registry.statement import check_name, read_object, read_text
from key_registry.store import Document
from witness_service.custody import refusal_of
from witness_service.drill_witness import DRILL_STREAMS, is_drill
from witness_service.proposal_kinds.draft import Draft, Drafting, record_document
from witness_service.refusal import Code, Reason, Refused, invalid


async def rotate(drafting: Drafting, arguments: Mapping[str, JSONValue]) -> Draft:
    """Draft a new key for a witness. arguments: algorithm ("" for that of the old key), reason, witness_id."""
    asked = read_object("rotate", arguments, ("algorithm", "reason", "witness_id"))
    old = present_key(drafting.registry, read_text("witness_id", asked["witness_id"]))
    reason = _reason(asked, old.streams)
    algorithm = _algorithm(read_text("algorithm", asked["algorithm"]) or old.public_key.algorithm)
    closing = old if await _can_close_at_once(drafting, old) else None
    facts = {"old_key_id": old.key_id, "old_key": _what_becomes_of(drafting, old, closing)} if old.is_open else {}
    replaces = old.key_id if old.is_open and closing is None else None
    draft = Draft((), witness_id=old.witness_id, replaces=replaces, facts=facts)
    if drafting.dry_run:
        return draft
    made = _Made(drafting, old.witness_id, old.streams, old.token_serial, algorithm, reason)
    return await made.draft(draft, closing)


async def add_witness(drafting: Drafting, arguments: Mapping[str, JSONValue]) -> Draft:
    """Draft a witness with a first key. arguments: algorithm ("" for ed25519), reason, streams, token_serial ("" for
    the first token).
    """
    asked = read_object("add-witness", arguments, ("algorithm", "reason", "streams", "token_serial"))
    streams = tuple(read_text("streams", it) for it in read_list("streams", asked["streams"]))
    if not streams or len(set(streams)) != len(streams):
        raise FormatError("streams: expected at least one pattern and none twice, got something else")
    for pattern in streams:
        check_name("streams", pattern)
    reason = _reason(asked, streams)
    token_serial = read_text("token_serial", asked["token_serial"]) or drafting.custody.token_serials()[0]
    if token_serial not in drafting.custody.token_serials():
        raise invalid("token_serial", "token_serial: expected that of a configured token, got another")
    algorithm = _algorithm(read_text("algorithm", asked["algorithm"]) or ED25519)
    witness_id = f"WITNESS:{uuid.uuid4()}"
    draft = Draft((), witness_id=witness_id)
    if drafting.dry_run:
        return draft
    return await _Made(drafting, witness_id, streams, token_serial, algorithm, reason).draft(draft, None)


def present_key(registry: Registry, witness_id: str) -> KeyVersion:
    """Return the key a new one takes over from: that which signs, else the last open one, else the last one."""
    keys = [key for key in registry.keys.values() if key.witness_id == witness_id]
    if not keys:
        raise Refused(Code.NOT_FOUND, Reason.UNKNOWN_WITNESS, "expected the id of a witness, got another")
    still_open = registry.open_keys(witness_id)
    opened = [key for key in keys if key.opened is not None]
    return registry.signing_key(witness_id) or (still_open or opened or keys)[-1]


def _reason(asked: Mapping[str, JSONValue], streams: tuple[str, ...]) -> str:
    reason = check_name("reason", read_text("reason", asked["reason"]))
    if (reason == DRILL) != is_drill(streams):
        raise invalid("reason", f"reason: expected {DRILL!r} for a witness of {DRILL_STREAMS}* and for no other")
    return reason


def _algorithm(name: str) -> Algorithm:
    try:
        return Algorithm(name)
    except ValueError:
        raise invalid("algorithm", f"algorithm: expected {' or '.join(Algorithm)}, got another name") from None


async def _can_close_at_once(drafting: Drafting, old: KeyVersion) -> bool:
    """Whether the old key can be closed by the leads together with the opening: it will sign nothing more."""
    if not old.is_open or not (old.key_id in drafting.stopped or old.is_compromised):
        return False
    return not await drafting.store.unsealed_count(old.key_id)


def _what_becomes_of(drafting: Drafting, old: KeyVersion, closing: KeyVersion | None) -> str:
    if closing is not None:
        return "closed by the leads in the same step"
    if old.may_sign and old.key_id not in drafting.stopped and drafting.custody.usable(old.key_id):
        return "closes itself when all it has to sign is sealed"
    return "stays open, for it cannot sign its own closing: propose retire when all it had to sign is sealed"


class _Made:
    """A key that is made in the token, and the records that bring it into the registry."""

    def __init__(
        self,
        drafting: Drafting,
        witness_id: str,
        streams: tuple[str, ...],
        token_serial: str,
        algorithm: Algorithm,
        reason: str,
    ) -> None:
        self._drafting = drafting
        self._witness_id = witness_id
        self._streams = streams
        self._token_serial = token_serial
        self._algorithm = algorithm
        self._reason = reason

    async def draft(self, draft: Draft, closing: KeyVersion | None) -> Draft:
        """Make the key and return the draft with both records, each signed by the key."""
        try:
            public_key, made = await self._drafting.new_keys.make(
                self._drafting.registry, self._algorithm, "witness", self._token_serial
            )
        except HsmError as error:
            raise refusal_of(error) from error
        count = None if closing is None else await self._drafting.store.signed_count(closing.key_id)
        drafting = self._drafting
        _, checkpoint = await (drafting.checkpoint() if closing is None else drafting.closing_checkpoint())
        key_add = self._key_add(public_key, made)
        opening = Rotate(
            **self._drafting.link(key_add, key_add.encode()),
            witness_id=self._witness_id,
            open=public_key.key_id,
            close=None if closing is None else closing.key_id,
            count=count,
            checkpoint=checkpoint,
            reason=self._reason,
        )
        documents = (
            await self._signed(public_key.key_id, key_add.encode()),
            await self._signed(public_key.key_id, opening.encode()),
        )
        return replace(draft, documents=documents, seq=key_add.seq, key_id=public_key.key_id)

    def _key_add(self, public_key: PublicKey, made: GeneratedKey) -> KeyAdd:
        return KeyAdd(
            **self._drafting.link(),
            witness_id=self._witness_id,
            algorithm=public_key.algorithm,
            public_key=public_key.spki,
            streams=self._streams,
            cka_id=made.cka_id,
            token_serial=self._token_serial,
            attributes=dict(made.attributes),
            reason=self._reason,
        )

    async def _signed(self, key_id: str, body: bytes) -> Document:
        signature = await self._drafting.custody.sign_one(key_id, dsse.pae(RECORD_TYPE, body))
        return record_document(body, dsse.Signature(key_id, signature))
