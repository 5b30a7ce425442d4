"""`leads`: another set of security leads, or another threshold."""

from __future__ import annotations

from collections.abc import Mapping

from key_registry.canonical_json import JSONValue
from key_registry.record import LeadsChange
from key_registry.record.lead import read_leads
from key_registry.statement import read_number, read_object
from witness_service.proposal_kinds.draft import Draft, Drafting, record_document
from witness_service.refusal import invalid


async def leads(drafting: Drafting, arguments: Mapping[str, JSONValue]) -> Draft:
    """Draft a change of leads. arguments: leads (as in the record), threshold."""
    asked = read_object("leads", arguments, ("leads", "threshold"))
    record = LeadsChange(
        **drafting.link(),
        leads=tuple(sorted(read_leads(asked["leads"]), key=lambda lead: lead.public_key.key_id)),
        threshold=read_number("threshold", asked["threshold"]),
    )
    if (record.leads, record.threshold) == (drafting.registry.leads, drafting.registry.threshold):
        raise invalid("leads", "expected other leads or another threshold than the present ones")
    return Draft((record_document(record.encode()),), seq=record.seq)
