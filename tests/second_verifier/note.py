"""C2SP signed notes and checkpoints (signed-note, tlog-checkpoint; docs/format.md, "Checkpoint")."""

from __future__ import annotations

import hashlib
from typing import Any

from . import forms, merkle
from .forms import Malformed, require
from .public_key import Key

LARGEST = 1_048_576
MOST_LINES = 100

Line = tuple[str, bytes, bytes]
"""Key name, the 4 bytes of the key id, signature."""


def is_key_name(value: str) -> bool:
    """Say whether it may be the name of a note's key."""
    return bool(value) and not any(character.isspace() or character == "+" for character in value)


def note_id(name: str, kind: int, point: bytes) -> bytes:
    """Return the id of an Ed25519 key for a signature type."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + point).digest()[:4]


def read_note(data: bytes) -> tuple[str, list[Line]]:
    """Return the text of a note and its signature lines."""
    require(len(data) <= LARGEST, f"a note of at most {LARGEST} bytes")
    try:
        note = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("expected a note in UTF-8") from error
    require(not any(character < " " and character != "\n" for character in note), "no control characters")
    above, blank, below = note.rpartition("\n\n")
    require(blank and below.endswith("\n"), "a text, a blank line and signature lines")
    lines = below.removesuffix("\n").split("\n")
    require(len(lines) <= MOST_LINES, f"at most {MOST_LINES} signature lines")
    return above + "\n", [_line(line) for line in lines]


def _line(line: str) -> Line:
    parts = line.split(" ")
    require(len(parts) == 3 and parts[0] == "\u2014" and is_key_name(parts[1]), "a signature line")
    blob = forms.base64(parts[2])
    require(len(blob) > 4, "a key id and a signature")
    return parts[1], blob[:4], blob[4:]


def read_checkpoint(data: bytes) -> dict[str, Any]:
    """Read a checkpoint: its `text`, `lines`, `origin`, `size` and `root`. Verifies no signature."""
    text, lines = read_note(data)
    require(text.count("\n") == 3, "three lines and no extension")
    origin, size, root = text.removesuffix("\n").split("\n")
    head: dict[str, Any] = {
        "origin": origin,
        "size": forms.number(size),
        "root": forms.base64(root),
        "text": text,
        "lines": lines,
    }
    require(len(head["root"]) == 32, "a root of 32 bytes")
    require(head["size"] or head["root"] == merkle.EMPTY, "the empty root at size 0")
    return head


def lines_by(head: dict[str, Any], name: str, known: bytes) -> list[bytes]:
    """Return the signatures on the lines of a key name and note id."""
    return [signature for key_name, key_id, signature in head["lines"] if (key_name, key_id) == (name, known)]


def log_lines(head: dict[str, Any], origin: str, key: Key) -> list[bytes]:
    """Return the signatures on the lines that claim to be by a log's key."""
    return lines_by(head, origin, note_id(origin, 0x01, key.point))


def by_log(head: dict[str, Any], origin: str, key: Key) -> bool:
    """Say whether a checkpoint is the log's: of its origin, with exactly one line by its key, which verifies."""
    signatures = log_lines(head, origin, key)
    return head["origin"] == origin and len(signatures) == 1 and key.verifies(signatures[0], head["text"].encode())
