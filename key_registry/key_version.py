"""A key version: one public key in a witness's history, and where in the statement log it is valid."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from key_registry.public_key import PublicKey


@dataclass(frozen=True)
class KeyVersion:
    """One public key in a witness's history.

    Args:
        opened, closed: statement-log indices; valid from `opened` on and below `closed`. None: not yet.
        count: how many statements the key signed, by its closing record.
        added_at, opened_at, closed_at: times of the records.
        added_seq, opened_seq: places of the records.
    """

    key_id: str
    public_key: PublicKey
    witness_id: str
    streams: tuple[str, ...]
    token_serial: str
    cka_id: bytes
    attributes: Mapping[str, str] = field(compare=False)
    added_at: str
    added_seq: int
    opened: int | None = None
    closed: int | None = None
    count: int | None = None
    opened_at: str | None = None
    closed_at: str | None = None
    opened_seq: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether the key has been opened and not closed."""
        return self.opened is not None and self.closed is None

    def covers(self, stream: str) -> bool:
        """Whether the key may sign for `stream`: named exactly, or by a prefix ending in "*"."""
        return any(
            stream.startswith(pattern[:-1]) if pattern.endswith("*") else stream == pattern for pattern in self.streams
        )

    def active(self, index: int) -> bool:
        """Whether the key is valid at this index of the statement log."""
        return self.opened is not None and self.opened <= index and (self.closed is None or index < self.closed)
