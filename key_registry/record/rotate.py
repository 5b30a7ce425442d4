"""The rotate record: a key opens, a key closes, or one of each."""

from dataclasses import dataclass
from typing import ClassVar

from key_registry import canonical_json, note
from key_registry.canonical_json import JSONValue
from key_registry.errors import FormatError
from key_registry.record.fields import read_optional_text
from key_registry.record.link import WITNESS_LINK_MEMBERS, WitnessLink, read_witness_link
from key_registry.statement import check_hex, check_name, check_number, read_number, read_object, read_text


@dataclass(frozen=True)
class Rotate(WitnessLink):
    """A key opens, a key closes, or one of each, at the size of the embedded statement-log checkpoint.

    Args:
        open: key id of the key that is valid from that size on, or None.
        close: key id of the key that is valid only below that size, or None.
        count: how many statements the closing key signed; None when none closes.
        checkpoint: the statement log's checkpoint (C2SP signed note): the closing seal.
        reason: why, in the leads' words; DRILL in a drill.
    """

    TYPE: ClassVar[str] = "rotate"

    open: str | None
    close: str | None
    count: int | None
    checkpoint: bytes
    reason: str

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, key_id in (("open", self.open), ("close", self.close)):
            if key_id is not None:
                check_hex(field, key_id)
        if self.open == self.close:
            raise FormatError("rotate: expected a key to open, to close, or one of each, got none or the same twice")
        if (self.count is None) != (self.close is None):
            raise FormatError("count: expected a number exactly when a key closes, got the opposite")
        if self.count is not None:
            check_number("count", self.count)
        note.parse(self.checkpoint)
        check_name("reason", self.reason)

    def encode(self) -> bytes:
        """Return the body of the record."""
        return canonical_json.encode(
            {
                **self.link_object(),
                "checkpoint": self.checkpoint.decode(),
                "close": self.close,
                "count": None if self.count is None else str(self.count),
                "open": self.open,
                "reason": self.reason,
            }
        )

    @classmethod
    def from_object(cls, value: JSONValue) -> "Rotate":
        """Read a parsed body; raises FormatError."""
        body = read_object("rotate", value, [*WITNESS_LINK_MEMBERS, "checkpoint", "close", "count", "open", "reason"])
        return cls(
            **read_witness_link(body),
            open=read_optional_text("open", body),
            close=read_optional_text("close", body),
            count=None if body["count"] is None else read_number("count", body["count"]),
            checkpoint=read_text("checkpoint", body["checkpoint"]).encode(),
            reason=read_text("reason", body["reason"]),
        )
