"""`destroyed`: the leads say that a private key is no more.

The service destroys no key: whoever is responsible for the token does, with the token's own tools. What it can look
into it checks, when the record is proposed and when it is stored, so that the record never says of a key in a
configured token that it is gone.
"""

from __future__ import annotations

from collections.abc import Mapping

from key_registry.canonical_json import JSONValue
from key_registry.record import Destroyed
from key_registry.replay import KeyVersion
from key_registry.statement import read_object
from witness_service.custody import Custody
from witness_service.proposal_kinds.draft import Draft, Drafting, record_document
from witness_service.refusal import Code, Reason, Refused


async def destroyed(drafting: Drafting, arguments: Mapping[str, JSONValue]) -> Draft:
    """Draft a destroyed record. arguments: key_id."""
    key = drafting.key(read_object("destroyed", arguments, ("key_id",)))
    if key.is_open or key.is_destroyed:
        raise Refused(
            Code.FAILED_PRECONDITION,
            Reason.KEY_STATE,
            "expected a key that is closed or never opened, and not destroyed yet, got another",
        )
    looked = await require_gone(drafting.custody, key)
    record = Destroyed(**drafting.link(), witness_id=key.witness_id, key_id=key.key_id)
    return Draft(
        (record_document(record.encode()),),
        seq=record.seq,
        witness_id=key.witness_id,
        key_id=key.key_id,
        facts={"token": looked},
    )


async def require_gone(custody: Custody, key: KeyVersion) -> str:
    """Say what was found where the key was; raises Refused when it is still there, or its token does not answer."""
    if key.token_serial not in custody.token_serials():
        return "its token is not one of this service: the leads vouch for it"
    if await custody.is_in_token(key.public_key, key.cka_id, key.token_serial):
        raise Refused(
            Code.FAILED_PRECONDITION,
            Reason.KEY_STILL_THERE,
            f"expected no private key with CKA_ID {key.cka_id.hex()} in its token, got one; destroy it first, with "
            "the token's own tools",
            {"key_id": key.key_id},
        )
    return "looked into: no such private key there"
