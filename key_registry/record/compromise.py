"""The compromise record: from a position of the statement log on, a key is distrusted."""

from dataclasses import dataclass
from typing import ClassVar

from key_registry import canonical_json
from key_registry.canonical_json import JSONValue
from key_registry.record.fields import read_optional_text
from key_registry.record.link import WITNESS_LINK_MEMBERS, WitnessLink, read_witness_link
from key_registry.statement import check_hex, check_name, check_number, check_time, read_number, read_object, read_text


@dataclass(frozen=True)
class Compromise(WitnessLink):
    """A key is distrusted at every index of the statement log from `trusted_size` on; never undone.

    Args:
        key_id: the key, opened or not.
        trusted_size: the cut: leaves at or above it are distrusted.
        suspected_since: since when the key may have been in other hands, None where nobody can say.
        reason: what happened, in the leads' words.
    """

    TYPE: ClassVar[str] = "compromise"

    key_id: str
    trusted_size: int
    suspected_since: str | None
    reason: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_hex("key_id", self.key_id)
        check_number("trusted_size", self.trusted_size)
        if self.suspected_since is not None:
            check_time("suspected_since", self.suspected_since)
        check_name("reason", self.reason)

    def encode(self) -> bytes:
        """Return the body of the record."""
        return canonical_json.encode(
            {
                **self.link_object(),
                "key_id": self.key_id,
                "reason": self.reason,
                "suspected_since": self.suspected_since,
                "trusted_size": str(self.trusted_size),
            }
        )

    @classmethod
    def from_object(cls, value: JSONValue) -> "Compromise":
        """Read a parsed body; raises FormatError."""
        names = [*WITNESS_LINK_MEMBERS, "key_id", "reason", "suspected_since", "trusted_size"]
        body = read_object("compromise", value, names)
        return cls(
            **read_witness_link(body),
            key_id=read_text("key_id", body["key_id"]),
            trusted_size=read_number("trusted_size", body["trusted_size"]),
            suspected_since=read_optional_text("suspected_since", body),
            reason=read_text("reason", body["reason"]),
        )
