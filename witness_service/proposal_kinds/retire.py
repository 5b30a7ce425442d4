"""`retire`: a key is closed by the leads, without a successor.

The record names the closing seal and the count of the key's signatures, so both must be final when it is proposed:
nothing may be claimed with the key any more, and everything claimed must be sealed.
"""

from __future__ import annotations

from collections.abc import Mapping

from key_registry.canonical_json import JSONValue
from key_registry.record import Rotate
from key_registry.statement import check_name, read_object, read_text
from witness_service.proposal_kinds.draft import Draft, Drafting, record_document
from witness_service.refusal import Code, Reason, Refused


async def retire(drafting: Drafting, arguments: Mapping[str, JSONValue]) -> Draft:
    """Draft the closing of a key. arguments: key_id, reason."""
    asked = read_object("retire", arguments, ("key_id", "reason"))
    reason = check_name("reason", read_text("reason", asked["reason"]))
    key = drafting.key(asked)
    if not key.is_open:
        raise Refused(Code.FAILED_PRECONDITION, Reason.KEY_STATE, "expected an open key to retire, got another")
    if not drafting.is_quiet(key):
        raise Refused(
            Code.FAILED_PRECONDITION,
            Reason.KEY_IN_USE,
            "expected a key with which nothing is signed any more; stop it first: witness keys stop",
            {"key_id": key.key_id},
        )
    if unsealed := await drafting.store.unsealed_count(key.key_id):
        raise Refused(
            Code.FAILED_PRECONDITION,
            Reason.KEY_IN_USE,
            f"{unsealed} statements claimed with this key are not sealed yet; ask again when they are",
            {"key_id": key.key_id, "unsealed": str(unsealed)},
        )
    count = await drafting.store.signed_count(key.key_id)
    size, checkpoint = await drafting.closing_checkpoint()
    record = Rotate(
        **drafting.link(),
        witness_id=key.witness_id,
        open=None,
        close=key.key_id,
        count=count,
        checkpoint=checkpoint,
        reason=reason,
    )
    return Draft(
        (record_document(record.encode()),),
        seq=record.seq,
        witness_id=key.witness_id,
        key_id=key.key_id,
        facts={"attestations": str(count), "closes_at": str(size)},
    )
