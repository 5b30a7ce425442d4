"""The export: many pieces of evidence in one file, one JSON object a line (docs/format.md, "Export").

Lines and no archive format: a reader needs no more memory than one line takes, a damaged line costs that line
alone, nothing in a file can name a path or grow when it is read, and `head`, `split` and `cat` give exports again.
"""

import json
import re
from collections.abc import Iterator
from typing import BinaryIO

from key_registry import canonical_json
from key_registry.errors import FormatError
from key_registry.statement import read_object, read_text

EXPORT_SUFFIX = ".evidence.jsonl"
LINE_BYTES = 2 * 1_048_576 + 1024
"""The longest line, its end included: 1 MiB of evidence whose every character is escaped by one more."""

START_BYTES = 64
"""How much of a file's start `is_export` looks at."""

_START = re.compile(rb'\s*\{\s*"evidence"\s*:')
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")


def to_line(evidence: bytes) -> bytes:
    """Return a piece of evidence as a line of an export.

    Args:
        evidence: a .tlog-proof file or an envelope's JSON, at most 1 MiB; both are UTF-8.

    Raises:
        FormatError: other bytes.
    """
    try:
        text = evidence.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("expected evidence in UTF-8, got other bytes") from None
    line = json.dumps({"evidence": text}, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"
    if len(line) > LINE_BYTES:
        raise FormatError(f"expected a line of at most {LINE_BYTES} bytes, got {len(line)}")
    return line


def from_line(line: bytes) -> bytes:
    """Return the evidence in a line of an export, which may be spelt in any way JSON allows.

    Raises:
        FormatError: too long, not JSON, or not exactly one member `evidence` with a string.
    """
    value = canonical_json.parse(line, max_bytes=LINE_BYTES)
    return read_text("evidence", read_object("line", value, ("evidence",))["evidence"]).encode("utf-8")


def is_export(path: str, start: bytes) -> bool:
    """Tell whether a file is an export, by its first START_BYTES bytes or, where those are damaged, by its name."""
    if _START.match(start):
        return True
    return path.endswith(EXPORT_SUFFIX) and bool(start) and not start.startswith(_COMPRESSED)


def lines(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Iterate over the lines of an export that are not blank.

    Yields:
        The line's number from 1, its offset and its length in bytes; one that is too long is passed over in
        portions and has its true length.
    """
    offset = number = 0
    while portion := file.readline(LINE_BYTES + 1):
        number, start, blank = number + 1, offset, portion.isspace()
        offset += len(portion)
        while len(portion) > LINE_BYTES and not portion.endswith(b"\n"):
            portion = file.readline(LINE_BYTES + 1)
            blank = blank and portion.isspace()
            offset += len(portion)
        if not blank:
            yield number, start, offset - start
