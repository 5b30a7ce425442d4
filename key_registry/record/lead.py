"""The security leads, as the genesis and the leads record name them."""

from collections.abc import Sequence
from dataclasses import dataclass

from key_registry import base64_strict
from key_registry.canonical_json import JSONValue
from key_registry.errors import FormatError
from key_registry.public_key import PublicKey
from key_registry.record.fields import read_list, read_public_key
from key_registry.statement import check_name, check_number, read_object, read_text


@dataclass(frozen=True)
class Lead:
    """A security lead: a name for people and the public key that counts towards the quorum."""

    name: str
    public_key: PublicKey


def check_leads(leads: Sequence[Lead], threshold: int) -> None:
    """Raise FormatError unless leads ascend by key id, none twice by name or key, and can reach the threshold."""
    for lead in leads:
        check_name("leads.name", lead.name)
    key_ids = [lead.public_key.key_id for lead in leads]
    if key_ids != sorted(set(key_ids)) or len({lead.name for lead in leads}) != len(key_ids):
        raise FormatError("leads: expected ascending key ids and no name or key twice, got something else")
    if not 1 <= check_number("threshold", threshold) <= len(key_ids):
        raise FormatError(f"threshold: expected 1 to {len(key_ids)} leads, got {threshold}")


def leads_object(leads: Sequence[Lead]) -> list[JSONValue]:
    """Return the leads as they stand in a record."""
    return [{"name": it.name, "public_key": base64_strict.encode(it.public_key.spki)} for it in leads]


def read_leads(value: JSONValue) -> tuple[Lead, ...]:
    """Read what leads_object writes; raises FormatError or UnsupportedAlgorithm."""
    return tuple(map(_read_lead, read_list("leads", value)))


def _read_lead(value: JSONValue) -> Lead:
    body = read_object("lead", value, ("name", "public_key"))
    return Lead(read_text("leads.name", body["name"]), read_public_key("leads", body["public_key"]))
