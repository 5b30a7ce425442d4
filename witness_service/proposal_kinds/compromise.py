"""`compromise`: a key is distrusted from a position of the statement log on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from key_registry.canonical_json import JSONValue
from key_registry.record import Compromise
from key_registry.record.fields import read_optional_text
from key_registry.statement import check_name, check_time, read_number, read_object, read_text
from witness_service import cut
from witness_service.proposal_kinds.draft import Draft, Drafting, record_document
from witness_service.refusal import Code, Reason, Refused, invalid

SKEW = timedelta(minutes=5)
"""How far the clock of a lead who suspects something now may be ahead of the service's."""


async def compromise(drafting: Drafting, arguments: Mapping[str, JSONValue]) -> Draft:
    """Draft the distrust of a key.

    arguments: key_id, reason, suspected_since (time or null), trusted_size (number or null: chosen from the time).
    """
    asked = read_object("compromise", arguments, ("key_id", "reason", "suspected_since", "trusted_size"))
    reason = check_name("reason", read_text("reason", asked["reason"]))
    suspected_since = read_optional_text("suspected_since", asked)
    if suspected_since is not None:
        check_time("suspected_since", suspected_since)
        if drafting.is_to_come(suspected_since, skew=SKEW):
            raise invalid("suspected_since", "suspected_since: expected a time that is past, got one to come")
    key = drafting.key(asked)
    chosen = await cut.choose(
        drafting.store,
        drafting.registry,
        key,
        suspected_since=suspected_since,
        trusted_size=None if asked["trusted_size"] is None else read_number("trusted_size", asked["trusted_size"]),
    )
    if chosen is None:
        raise invalid("trusted_size", "expected a suspected time or a trusted size, got neither")
    if not key.trusts(chosen.trusted_size):
        raise Refused(
            Code.FAILED_PRECONDITION,
            Reason.CUT_NOT_LOWER,
            f"expected a cut below {key.trusted_size}, from which this key is distrusted already, "
            f"got {chosen.trusted_size}",
            {"trusted_size": str(key.trusted_size)},
        )
    record = Compromise(
        **drafting.link(),
        witness_id=key.witness_id,
        key_id=key.key_id,
        trusted_size=chosen.trusted_size,
        suspected_since=suspected_since,
        reason=reason,
    )
    return Draft(
        (record_document(record.encode()),),
        seq=record.seq,
        witness_id=key.witness_id,
        key_id=key.key_id,
        facts=chosen.facts(),
    )
