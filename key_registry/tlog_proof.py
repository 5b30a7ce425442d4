"""Offline evidence of logging (C2SP tlog-proof): leaf index, inclusion proof and checkpoint in one file."""

from dataclasses import dataclass
from typing import Self

from key_registry import base64_strict, decimal_strict, note
from key_registry.errors import FormatError
from key_registry.merkle import HASH_LENGTH

MAX_HASHES = 63
MAX_EXTRA_BYTES = 1_048_576

# Checked before anything is split into lines: base64 grows the extra data by a third, the rest is small.
_MAX_BYTES = note.MAX_BYTES + MAX_EXTRA_BYTES * 4 // 3 + 4096
_HEADER = b"c2sp.org/tlog-proof@v1\n"
_EXTRA = "extra "
_INDEX = "index "


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A proof file taken apart; nothing in it is verified.

    Attributes:
        index: of the leaf, below 2**63.
        hashes: at most 63 of 32 bytes each, from the leaf's sibling up.
        checkpoint: the note as the log issued it, at most 1 MiB.
        extra: 1 byte to 1 MiB that the application put in, which nothing authenticates; or None.

    Raises:
        FormatError: another form.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None

    def __post_init__(self) -> None:
        decimal_strict.check(self.index, "leaf index")
        if len(self.hashes) > MAX_HASHES or any(len(value) != HASH_LENGTH for value in self.hashes):
            raise FormatError(f"expected at most {MAX_HASHES} hashes of {HASH_LENGTH} bytes, got others")
        if not 1 <= len(self.checkpoint) <= note.MAX_BYTES:
            raise FormatError(f"expected a checkpoint of 1 to {note.MAX_BYTES} bytes, got another length")
        if self.extra is not None and not 1 <= len(self.extra) <= MAX_EXTRA_BYTES:
            raise FormatError(f"expected extra data of 1 to {MAX_EXTRA_BYTES} bytes, got another length")

    def to_bytes(self) -> bytes:
        """Return the proof file."""
        lines = [] if self.extra is None else [_EXTRA + base64_strict.encode(self.extra)]
        lines.append(f"{_INDEX}{self.index}")
        lines.extend(map(base64_strict.encode, self.hashes))
        return _HEADER + "\n".join(lines).encode("ascii") + b"\n\n" + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the parts of a proof file; open_checkpoint reads the checkpoint.

        Raises:
            FormatError: any other bytes.
        """
        if len(data) > _MAX_BYTES:
            raise FormatError(f"expected a proof file of at most {_MAX_BYTES} bytes, got {len(data)}")
        if not data.startswith(_HEADER):
            raise FormatError("expected a file that starts with c2sp.org/tlog-proof@v1, got another start")
        head, blank, checkpoint = data[len(_HEADER) :].partition(b"\n\n")
        if not blank or not head.isascii():
            raise FormatError("expected ASCII lines, a blank line and a checkpoint, got other bytes")
        first, *lines = head.decode("ascii").split("\n")
        extra = None
        if first.startswith(_EXTRA) and lines:
            extra = base64_strict.decode(first.removeprefix(_EXTRA))
            first, *lines = lines
        if not first.startswith(_INDEX):
            raise FormatError("expected an index line, got another line")
        index = decimal_strict.decode(first.removeprefix(_INDEX), "leaf index")
        return cls(index, tuple(map(base64_strict.decode, lines)), checkpoint, extra)
