"""Checkpoints (C2SP tlog-checkpoint): a log's signed word that its tree had this size and this root."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from key_registry import base64_strict, decimal_strict, note
from key_registry.errors import FormatError, SignatureError
from key_registry.merkle import EMPTY_ROOT, HASH_LENGTH
from key_registry.public_key import PublicKey


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head; without extension lines, because no monitor can audit them.

    Attributes:
        origin: the name of the log, and of its key.
        size: leaves, below 2**63.
        root: 32 bytes.

    Raises:
        FormatError: another form, or another root than that of the empty tree for size 0.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        note.check_name(self.origin)
        decimal_strict.check(self.size, "tree size")
        if len(self.root) != HASH_LENGTH:
            raise FormatError(f"expected a root of {HASH_LENGTH} bytes, got {len(self.root)}")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise FormatError("expected the root of the empty tree for size 0, got another root")

    def text(self) -> str:
        """Return the note text; the log signs its UTF-8 bytes."""
        return f"{self.origin}\n{self.size}\n{base64_strict.encode(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the checkpoint of a note text; raises FormatError for other text and for extension lines."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise FormatError("expected the lines origin, size and root, got other lines")
        return cls(lines[0], decimal_strict.decode(lines[1], "tree size"), base64_strict.decode(lines[2]))

    def signed(self, signature: bytes, key: PublicKey) -> bytes:
        """Return the note with the log's signature, which is verified first.

        Args:
            signature: 64 bytes over text().
            key: of the log, Ed25519.

        Raises:
            SignatureError: not a signature by key over text().
            UnsupportedAlgorithm: key is not Ed25519.
        """
        line = note.NoteSignature(self.origin, note.key_hash(self.origin, key.raw), signature)
        note.Note(self.text(), (line,)).verify(self.origin, key)
        return note.serialize(self.text(), [line])


def open_checkpoint(data: bytes, origin: str, key: PublicKey) -> Checkpoint:
    """Return the checkpoint in a note that the log signed.

    Args:
        data: the note; signatures by other keys, such as cosigners, are ignored.
        origin: of the log.
        key: of the log, Ed25519.

    Raises:
        FormatError: no such note, or the checkpoint of another origin.
        SignatureError: no signature by key, more than one, or a bad one.
    """
    checkpoint, _ = verify_checkpoint(note.parse(data), origin, lambda _: (key,))
    return checkpoint


def verify_checkpoint(
    opened: note.Note, origin: str, keys: Callable[[int], Sequence[PublicKey]]
) -> tuple[Checkpoint, PublicKey]:
    """Return the checkpoint in a note that one of a log's keys signed, and that key.

    Args:
        opened: the note; signatures by other keys, such as cosigners, are ignored.
        origin: of the log.
        keys: gives the log's keys for a tree size, Ed25519, at least one; if several signed, the last counts.

    Raises:
        FormatError: no checkpoint, or one of another origin.
        SignatureError: by none of the keys exactly one good signature.
    """
    checkpoint = Checkpoint.parse(opened.text)
    *others, last = keys(checkpoint.size)
    for key in (last, *reversed(others)):
        try:
            opened.verify(origin, key)
        except SignatureError as error:
            wrong = error
            continue
        if checkpoint.origin != origin:
            raise FormatError("expected a checkpoint of the log whose key signed it, got another origin")
        return checkpoint, key
    raise wrong
