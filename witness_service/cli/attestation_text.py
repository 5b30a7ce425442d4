"""Attestations as commands show them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from witness_service.cli.output import attested_object, write_facts
from witness_service.event import Attested, Event

NOT_CHECKED = "no: no registry id is known here; give --registry-id"


def attestations_object(attestations: Sequence[Attested], *, checked: bool) -> dict[str, object]:
    """Return the attestations of one place as a JSON object; checked: whether that was done on this machine."""
    first = attestations[0]
    return {
        "stream": first.stream,
        "sequence": first.sequence,
        "event_hash": statement_fields(first).get("event_hash"),
        "checked": checked,
        "attestations": [attested_object(item) for item in attestations],
    }


def write_attestations(attestations: Sequence[Attested], registry_id: str | None) -> None:
    """Write the attestations of one place for people; registry_id: what they were checked against, or None."""
    for attested in attestations:
        fields = statement_fields(attested)
        write_facts(
            f"{attested.stream} {attested.sequence}",
            {
                "event hash": fields.get("event_hash"),
                "previous hash": fields.get("previous_event_hash") or "none",
                "event id, type": f"{fields.get('event_id')}, {fields.get('event_type')}",
                "witness": fields.get("witness_id"),
                "key": attested.key_id,
                "position": f"{attested.leaf_index} in the statement log",
                "signed at": fields.get("signed_at"),
                "environment": fields.get("environment"),
                "registry": f"{fields.get('registry_id')}, {fields.get('registry_size')} records",
                "checked here": f"yes, against registry {registry_id}" if registry_id else NOT_CHECKED,
            },
        )


def event_line(event: Event, attestations: Sequence[Attested]) -> str:
    """Return one line about a signed event."""
    places = ", ".join(f"position {item.leaf_index} by key {item.key_id[:16]}" for item in attestations)
    return f"{event.stream} {event.sequence}  {places}"


def statement_fields(attested: Attested) -> dict[str, object]:
    """Return the members of a statement as the service sent it; empty when it is no JSON object."""
    try:
        fields = json.loads(attested.statement)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
