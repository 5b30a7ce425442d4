"""A key version: one public key in a witness's history, and where in the statement log it is valid."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from key_registry.public_key import PublicKey


@dataclass(frozen=True)
class KeyVersion:
    """One public key in a witness's history.

    Args:
        reason: why it was added, in the leads' words.
        opened, closed: statement-log indices; valid from `opened` on and below `closed`. None: not yet.
        count: how many statements the key signed, by its closing record.
        trusted_size: distrusted at this index and above; None: not compromised. The lowest of all cuts.
        added_at, opened_at, closed_at, destroyed_at: times of the records.
        compromised_at, suspected_since, compromise_reason: of the record with the lowest cut.
        added_seq, opened_seq: places of the records.
    """

    key_id: str
    public_key: PublicKey
    witness_id: str
    streams: tuple[str, ...]
    token_serial: str
    cka_id: bytes
    attributes: Mapping[str, str] = field(compare=False)
    reason: str
    added_at: str
    added_seq: int
    opened: int | None = None
    closed: int | None = None
    count: int | None = None
    opened_at: str | None = None
    closed_at: str | None = None
    opened_seq: int | None = None
    trusted_size: int | None = None
    compromised_at: str | None = None
    suspected_since: str | None = None
    compromise_reason: str | None = None
    destroyed_at: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the key has been opened and not closed; a compromised key may still be open."""
        return self.opened is not None and self.closed is None

    @property
    def is_compromised(self) -> bool:
        """Whether the key is distrusted from some index on."""
        return self.trusted_size is not None

    @property
    def is_destroyed(self) -> bool:
        """Whether the leads have said that the private key is no more."""
        return self.destroyed_at is not None

    @property
    def may_sign(self) -> bool:
        """Whether the key may sign statements and records now: open and not compromised."""
        return self.is_open and not self.is_compromised

    def covers(self, stream: str) -> bool:
        """Whether the key may sign for `stream`: named exactly, or by a prefix ending in "*"."""
        return any(
            stream.startswith(pattern[:-1]) if pattern.endswith("*") else stream == pattern for pattern in self.streams
        )

    def active(self, index: int) -> bool:
        """Whether the key is valid at this index of the statement log, compromised or not."""
        return self.opened is not None and self.opened <= index and (self.closed is None or index < self.closed)

    def trusts(self, index: int) -> bool:
        """Whether no compromise distrusts the key at this index of the statement log."""
        return self.trusted_size is None or index < self.trusted_size
