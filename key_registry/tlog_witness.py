"""What a log and a cosigner say to each other (C2SP tlog-witness): the bytes of `add-checkpoint`, both ways."""

from dataclasses import dataclass
from typing import Self

from key_registry import base64_strict, decimal_strict, note
from key_registry.checkpoint import Checkpoint
from key_registry.errors import FormatError
from key_registry.merkle import HASH_LENGTH

ADD_CHECKPOINT = "add-checkpoint"
"""Under the submission prefix, with a slash between the two."""

SIZE_TYPE = "text/x.tlog.size"
"""Content type of the answer 409 that says which size the cosigner knows."""

MAX_HASHES = 63
MAX_ANSWER_BYTES = 65_536
"""What a client needs to read of an answer; a hundred cosignatures are shorter."""

_OLD = "old "
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request to cosign; nothing in it is verified.

    Attributes:
        old_size: of the checkpoint that the cosigner cosigned last, 0 for none; below 2**63.
        proof: consistency proof from there to the checkpoint, at most 63 hashes of 32 bytes; empty for old_size 0.
        checkpoint: the note as the log signed it, without extension lines.

    Raises:
        FormatError: another form.
    """

    old_size: int
    proof: tuple[bytes, ...]
    checkpoint: bytes

    def __post_init__(self) -> None:
        decimal_strict.check(self.old_size, "old size")
        if len(self.proof) > MAX_HASHES or any(len(value) != HASH_LENGTH for value in self.proof):
            raise FormatError(f"expected at most {MAX_HASHES} hashes of {HASH_LENGTH} bytes, got others")
        if self.old_size == 0 and self.proof:
            raise FormatError("expected no proof from the empty tree, got one")
        Checkpoint.parse(note.parse(self.checkpoint).text)

    def to_bytes(self) -> bytes:
        """Return the request body."""
        lines = [f"{_OLD}{self.old_size}", *map(base64_strict.encode, self.proof)]
        return "\n".join(lines).encode("ascii") + b"\n\n" + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the request of a body; raises FormatError for any other bytes."""
        # The checkpoint has an empty line of its own; the first one ends the proof.
        head, blank, checkpoint = data[: _HEAD_BYTES + note.MAX_BYTES + 1].partition(b"\n\n")
        if not blank or not head.isascii() or len(head) > _HEAD_BYTES:
            raise FormatError("expected an old size line, proof lines, an empty line and a checkpoint, got other bytes")
        first, *proof = head.decode("ascii").split("\n")
        if not first.startswith(_OLD):
            raise FormatError("expected a first line that says the old size, got another line")
        old_size = decimal_strict.decode(first.removeprefix(_OLD), "old size")
        return cls(old_size, tuple(map(base64_strict.decode, proof)), checkpoint)


def encode_cosignatures(lines: tuple[note.NoteSignature, ...]) -> bytes:
    """Return the body of the answer 200: at least one signature line."""
    if not lines:
        raise FormatError("expected at least one signature line, got none")
    return "".join(line.to_line() for line in lines).encode()


def parse_cosignatures(body: bytes) -> tuple[note.NoteSignature, ...]:
    """Return the signature lines of an answer 200; verified is none of them, and some may be by strangers.

    Raises:
        FormatError: more than 64 KiB, or anything but 1 to 100 signature lines.
    """
    if len(body) > MAX_ANSWER_BYTES:
        raise FormatError(f"expected an answer of at most {MAX_ANSWER_BYTES} bytes, got more")
    return note.parse_signatures(body)


def encode_size(size: int) -> bytes:
    """Return the body of the answer 409: the size that the cosigner cosigned last."""
    decimal_strict.check(size, "tree size")
    return f"{size}\n".encode("ascii")


def parse_size(content_type: str, body: bytes) -> int | None:
    """Return the size in an answer 409; None when it is of another content type and so says no size.

    Without a size 409 says that the cosigner has seen another root for the size in the request.

    Raises:
        FormatError: the content type is that of a size, and the body none.
    """
    if content_type.partition(";")[0].strip().lower() != SIZE_TYPE:
        return None
    if not body.endswith(b"\n") or not body.isascii() or len(body) > 20:
        raise FormatError("expected a tree size and a newline, got other bytes")
    return decimal_strict.decode(body[:-1].decode("ascii"), "tree size")
