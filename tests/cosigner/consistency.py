"""Merkle consistency proofs, verified as RFC 6962 section 2.1.2 defines them: by retracing the recursion."""

from __future__ import annotations

from hashlib import sha256

EMPTY = sha256().digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def consistent(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: list[bytes]) -> bool:
    """Tell whether a proof shows that the tree of old_size leaves begins the one of new_size; sizes not descending."""
    if old_size == 0:
        return not proof and (new_size > 0 or new_root == EMPTY)
    if old_size == new_size:
        return not proof and old_root == new_root
    hashes = list(proof)
    try:
        roots = _roots(old_size, new_size, hashes, old_root, True)
    except IndexError:
        return False
    return not hashes and roots == (old_root, new_root)


def _roots(old: int, new: int, hashes: list[bytes], old_root: bytes, whole: bool) -> tuple[bytes, bytes]:
    """Return old and new root of the subtree that SUBPROOF(old, D[new], whole) is about, taking hashes off the end."""
    if old == new:
        root = old_root if whole else hashes.pop()
        return root, root
    left = 1 << ((new - 1).bit_length() - 1)
    other = hashes.pop()
    if old <= left:
        before, after = _roots(old, left, hashes, old_root, whole)
        return before, _node(after, other)
    before, after = _roots(old - left, new - left, hashes, old_root, False)
    return _node(other, before), _node(other, after)
