"""Merkle trees of RFC 9162 section 2.1 with SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

EMPTY = hashlib.sha256(b"").digest()


def leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\0" + entry).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def roots(leaves: Sequence[bytes]) -> list[bytes]:
    """Return the root at each size from 0 to the number of leaves."""
    result, peaks = [EMPTY], []
    for count, hashed in enumerate(leaves, start=1):
        peaks.append(hashed)
        # A complete subtree for each bit of the count: as many joins as there are zeros at its end.
        while not count & 1:
            right = peaks.pop()
            peaks[-1] = node(peaks[-1], right)
            count >>= 1
        whole = peaks[-1]
        for peak in reversed(peaks[:-1]):
            whole = node(peak, whole)
        result.append(whole)
    return result


def root_of_inclusion(index: int, size: int, hashed: bytes, path: Sequence[bytes]) -> bytes | None:
    """Return the root that an inclusion proof leads to, or None if it has the wrong length (section 2.1.3.2)."""
    if index >= size:
        return None
    at, last = index, size - 1
    for sibling in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            hashed = node(sibling, hashed)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            hashed = node(hashed, sibling)
        at, last = at >> 1, last >> 1
    return hashed if last == 0 else None
