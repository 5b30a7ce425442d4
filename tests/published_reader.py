"""Reads a published folder as a stranger would, from C2SP tlog-tiles, tlog-checkpoint and tlog-policy alone.

It imports nothing of the product, and trusts nothing but the bytes in the folder.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path


def leaf(entry: bytes) -> bytes:
    """Return the leaf hash of an entry (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\0" + entry).digest()


def tree(hashes: list[bytes]) -> bytes:
    """Return the Merkle tree hash over leaf hashes (RFC 6962 section 2.1)."""
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << ((len(hashes) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + tree(hashes[:split]) + tree(hashes[split:])).digest()


@dataclass(frozen=True)
class ReadLog:
    """A log as it was read. checkpoint: the whole note; entries: all of them."""

    origin: str
    size: int
    root: bytes
    checkpoint: str
    entries: list[bytes]


def read_log(folder: Path) -> ReadLog:
    """Read a log and check that its tiles and its bundles each give the root in its checkpoint."""
    checkpoint = (folder / "checkpoint").read_text()
    origin, size_text, root_text, *_ = checkpoint.split("\n")
    size, root = int(size_text), base64.b64decode(root_text)
    entries = [
        entry
        for index in range(-(-size // 256))
        for entry in _entries((folder / _path("entries", index, size)).read_bytes(), min(256, size - 256 * index))
    ]
    assert len(entries) == size
    rows = [[leaf(entry) for entry in entries]]
    while len(rows[-1]) >= 256:
        full = len(rows[-1]) // 256 * 256
        rows.append([tree(rows[-1][first : first + 256]) for first in range(0, full, 256)])
    for level, row in enumerate(rows):
        for index in range(-(-len(row) // 256)):
            content = (folder / _path(str(level), index, len(row))).read_bytes()
            assert content == b"".join(row[256 * index : 256 * (index + 1)]), (level, index)
    assert tree(rows[0]) == root, "the entries do not give the root"
    assert _tree_of_tiles(folder, size) == root, "the tiles do not give the root"
    return ReadLog(origin, size, root, checkpoint, entries)


def _tree_of_tiles(folder: Path, size: int) -> bytes:
    """Return the root as a client computes it that never sees an entry: from partial tiles alone, highest first."""
    peaks: list[bytes] = []
    level = 0
    while size >> 8 * level:
        width = (size >> 8 * level) % 256
        if width:
            content = (folder / _path(str(level), (size >> 8 * level) // 256, size >> 8 * level)).read_bytes()
            hashes = [content[first : first + 32] for first in range(0, len(content), 32)]
            assert len(hashes) == width
            row: list[bytes] = []
            start = 0
            for height in reversed(range(8)):
                if width & 1 << height:
                    row.append(tree(hashes[start : start + (1 << height)]))
                    start += 1 << height
            peaks[:0] = row
        level += 1
    joined = peaks.pop() if peaks else tree([])
    while peaks:
        joined = hashlib.sha256(b"\1" + peaks.pop() + joined).digest()
    return joined


def _path(kind: str, index: int, count: int) -> str:
    """Return the path of tile `index` of a row of `count` hashes or entries."""
    groups = f"{index:03d}"
    if index >= 1000:
        digits = f"{index:0{-(-len(str(index)) // 3) * 3}d}"
        parts = [digits[start : start + 3] for start in range(0, len(digits), 3)]
        groups = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
    width = min(256, count - 256 * index)
    return f"tile/{kind}/{groups}" + ("" if width == 256 else f".p/{width}")


def _entries(data: bytes, width: int) -> list[bytes]:
    found = []
    while data:
        length = int.from_bytes(data[:2], "big")
        assert len(data) >= 2 + length
        found.append(data[2 : 2 + length])
        data = data[2 + length :]
    assert len(found) == width
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its path."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def log_vkeys(policy: str) -> dict[str, str]:
    """Return the verifier key of each log in a tlog-policy by its origin."""
    lines = [line.split() for line in policy.splitlines() if line.startswith("log ")]
    return {line[1].partition("+")[0]: line[1] for line in lines}
