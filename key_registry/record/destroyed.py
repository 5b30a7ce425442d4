"""The destroyed record: the private key of a closed key version no longer exists."""

from dataclasses import dataclass
from typing import ClassVar

from key_registry import canonical_json
from key_registry.canonical_json import JSONValue
from key_registry.record.link import WITNESS_LINK_MEMBERS, WitnessLink, read_witness_link
from key_registry.statement import check_hex, read_object, read_text


@dataclass(frozen=True)
class Destroyed(WitnessLink):
    """The leads say that a private key was destroyed; its signatures keep their meaning.

    Args:
        key_id: a key that is not open.
    """

    TYPE: ClassVar[str] = "destroyed"

    key_id: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_hex("key_id", self.key_id)

    def encode(self) -> bytes:
        """Return the body of the record."""
        return canonical_json.encode({**self.link_object(), "key_id": self.key_id})

    @classmethod
    def from_object(cls, value: JSONValue) -> "Destroyed":
        """Read a parsed body; raises FormatError."""
        body = read_object("destroyed", value, [*WITNESS_LINK_MEMBERS, "key_id"])
        return cls(**read_witness_link(body), key_id=read_text("key_id", body["key_id"]))
