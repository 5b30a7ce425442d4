"""`resume`: a key that a lead has stopped may sign again. An order of the quorum, not a record of the registry."""

from __future__ import annotations

from collections.abc import Mapping

from key_registry.canonical_json import JSONValue
from key_registry.statement import check_name, read_object, read_text
from key_registry.store import Document
from witness_service.orders import ResumeOrder
from witness_service.proposal_kinds.draft import Draft, Drafting
from witness_service.refusal import Code, Reason, Refused


async def resume(drafting: Drafting, arguments: Mapping[str, JSONValue]) -> Draft:
    """Draft the order that lifts a stop. arguments: key_id, reason."""
    asked = read_object("resume", arguments, ("key_id", "reason"))
    key = drafting.key(asked)
    orders = await drafting.store.key_orders(key.key_id)
    if not orders or not orders[-1].stops:
        raise Refused(Code.FAILED_PRECONDITION, Reason.KEY_STATE, "expected a key that is stopped, got one that is not")
    if key.is_compromised or key.closed is not None:
        raise Refused(
            Code.FAILED_PRECONDITION,
            Reason.KEY_STATE,
            "expected a stopped key that could sign, got one that is closed or compromised: that is final",
        )
    order = ResumeOrder(
        registry_id=drafting.registry.registry_id,
        key_id=key.key_id,
        number=orders[-1].number + 1,
        reason=check_name("reason", read_text("reason", asked["reason"])),
        created_at=drafting.clock(),
    )
    document = Document(ResumeOrder.PAYLOAD_TYPE, order.encode())
    return Draft((document,), witness_id=key.witness_id, key_id=key.key_id)
