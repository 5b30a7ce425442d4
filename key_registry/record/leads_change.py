"""The leads record: a new set of security leads and how many of them make a quorum."""

from dataclasses import dataclass
from typing import ClassVar

from key_registry import canonical_json
from key_registry.canonical_json import JSONValue
from key_registry.record.lead import Lead, check_leads, leads_object, read_leads
from key_registry.record.link import LINK_MEMBERS, Link, read_link
from key_registry.statement import read_number, read_object


@dataclass(frozen=True)
class LeadsChange(Link):
    """The security leads from this record on.

    Args:
        leads: ascending by key id; no name and no key twice.
        threshold: how many distinct leads make a quorum, 1 to len(leads).
    """

    TYPE: ClassVar[str] = "leads"

    leads: tuple[Lead, ...]
    threshold: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_leads(self.leads, self.threshold)

    def encode(self) -> bytes:
        """Return the body of the record."""
        return canonical_json.encode(
            {**self.link_object(), "leads": leads_object(self.leads), "threshold": str(self.threshold)}
        )

    @classmethod
    def from_object(cls, value: JSONValue) -> "LeadsChange":
        """Read a parsed body; raises FormatError, UnsupportedAlgorithm for a key this program cannot use."""
        body = read_object("leads", value, [*LINK_MEMBERS, "leads", "threshold"])
        return cls(
            **read_link(body), leads=read_leads(body["leads"]), threshold=read_number("threshold", body["threshold"])
        )
