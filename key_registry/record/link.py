"""What every record after the genesis says about its place in the registry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from key_registry.canonical_json import JSONValue
from key_registry.statement import check_hex, check_number, check_time, check_witness, read_number, read_text

LINK_MEMBERS = ("created_at", "prev", "registry_id", "seq", "type")
WITNESS_LINK_MEMBERS = (*LINK_MEMBERS, "witness_id")


@dataclass(frozen=True)
class Link:
    """A record's place in the registry.

    Args:
        seq: place in the registry; the genesis is 0.
        prev: hex SHA-256 of the previous record's PAE.
        registry_id: hex SHA-256 of the genesis record's PAE.
        created_at: time of the record.
    """

    TYPE: ClassVar[str]

    seq: int
    prev: str
    registry_id: str
    created_at: str

    def __post_init__(self) -> None:
        check_number("seq", self.seq)
        check_hex("prev", self.prev)
        check_hex("registry_id", self.registry_id)
        check_time("created_at", self.created_at)

    def link_object(self) -> dict[str, JSONValue]:
        """Return the members that every record after the genesis has."""
        return {
            "created_at": self.created_at,
            "prev": self.prev,
            "registry_id": self.registry_id,
            "seq": str(self.seq),
            "type": self.TYPE,
        }


@dataclass(frozen=True)
class WitnessLink(Link):
    """The place of a record about a witness's key.

    Args:
        witness_id: the witness whose key history the record continues.
    """

    witness_id: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_witness("witness_id", self.witness_id)

    def link_object(self) -> dict[str, JSONValue]:
        """Return the members that every record about a witness's key has."""
        return {**super().link_object(), "witness_id": self.witness_id}


def read_link(body: Mapping[str, JSONValue]) -> dict[str, Any]:
    """Return the fields of a Link; raises FormatError for what is no text or number."""
    texts = {name: read_text(name, body[name]) for name in ("prev", "registry_id", "created_at")}
    return {"seq": read_number("seq", body["seq"]), **texts}


def read_witness_link(body: Mapping[str, JSONValue]) -> dict[str, Any]:
    """Return the fields of a WitnessLink; raises FormatError for what is no text or number."""
    return {**read_link(body), "witness_id": read_text("witness_id", body["witness_id"])}
