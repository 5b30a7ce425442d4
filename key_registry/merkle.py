"""Merkle trees of RFC 9162 section 2.1 over SHA-256, and where C2SP tlog-tiles keeps their nodes."""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Self, TypeAlias

from key_registry import decimal_strict
from key_registry.errors import FormatError, ProofError

HASH_LENGTH = 32
EMPTY_ROOT = sha256().digest()

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT

# Takes level and index, gives the hash of the complete subtree of 2**level leaves from leaf index * 2**level.
Node: TypeAlias = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Return the leaf hash, 32 bytes, of the bytes of a log entry."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash, 32 bytes, of the inner node over two hashes of 32 bytes."""
    return sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return the Merkle tree hash over leaf hashes of 32 bytes; EMPTY_ROOT over none."""
    tree = CompactRange()
    tree.extend(leaf_hashes)
    return tree.root()


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over neighbouring nodes of one level, 32 bytes each, such as a run in a tile.

    Raises FormatError unless their number is a power of two.
    """
    if len(hashes).bit_count() != 1:
        raise FormatError(f"expected a power of two of hashes, got {len(hashes)}")
    row = list(hashes)
    while len(row) > 1:
        row = _row_above(row)
    return row[0]


def _row_above(row: list[bytes]) -> list[bytes]:
    nodes = iter(row)
    return [sha256(b"\x01" + left + right).digest() for left, right in zip(nodes, nodes, strict=True)]


def _join(subtrees: Sequence[bytes]) -> bytes:
    """Return the root over complete subtrees, largest first."""
    if not subtrees:
        return EMPTY_ROOT
    joined = subtrees[-1]
    for subtree in reversed(subtrees[:-1]):
        joined = node_hash(subtree, joined)
    return joined


class CompactRange:
    """The complete subtrees a tree is made of, which is all that appending to it needs: at most 63 hashes."""

    __slots__ = ("_hashes", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._hashes: list[bytes] = []

    @classmethod
    def from_hashes(cls, size: int, hashes: Iterable[bytes]) -> Self:
        """Return the range of a stored tree from its two properties.

        Raises FormatError when hashes cannot belong to a tree of size leaves.
        """
        decimal_strict.check(size, "tree size")
        stored = list(hashes)
        if len(stored) != size.bit_count() or any(len(subtree) != HASH_LENGTH for subtree in stored):
            raise FormatError(f"expected {size.bit_count()} hashes of {HASH_LENGTH} bytes, got other hashes")
        tree = cls()
        tree._size, tree._hashes = size, stored
        return tree

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The roots of the complete subtrees, 32 bytes each, largest and leftmost first."""
        return tuple(self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash of 32 bytes."""
        size = self._size
        while size & 1:
            leaf = node_hash(self._hashes.pop(), leaf)
            size >>= 1
        self._hashes.append(leaf)
        self._size += 1

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Add leaf hashes of 32 bytes each, in order; for many, faster than append."""
        row = list(leaf_hashes)
        added, size = len(row), self._size
        smallest_first: list[bytes] = []
        while row:
            if size & 1:
                row.insert(0, self._hashes.pop())
            if len(row) & 1:
                smallest_first.append(row.pop())
            row = _row_above(row)
            size >>= 1
        self._hashes.extend(reversed(smallest_first))
        self._size += added

    def root(self) -> bytes:
        """Return the Merkle tree hash."""
        return _join(self._hashes)

    def copy(self) -> Self:
        """Return a range of the same tree that grows on its own."""
        return self.from_hashes(self._size, self._hashes)


def tree_root(size: int, node: Node) -> bytes:
    """Return the Merkle tree hash of the first size leaves, asking node for at most log2(size) + 1 hashes."""
    return _span(0, size, node)


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Return the proof that leaf index is in the tree of size leaves (RFC 9162 section 2.1.3.1).

    The hashes go from the leaf's sibling up; node is asked for O(log size). Raises ProofError unless index
    is below size.
    """
    if not 0 <= index < size:
        raise ProofError("expected an index below the tree size, got another")
    begin, end = 0, size
    proof = []
    while end - begin > 1:
        middle = _split(begin, end)
        if index < middle:
            proof.append(_span(middle, end, node))
            end = middle
        else:
            proof.append(_span(begin, middle, node))
            begin = middle
    return proof[::-1]


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """Return the proof that the tree of old leaves begins the tree of new leaves (RFC 9162 section 2.1.4.1).

    It is empty for old 0 and for equal sizes; node is asked for O(log new) hashes. Raises ProofError when
    old is above new.
    """
    if not 0 <= old <= new:
        raise ProofError("expected an old tree size not above the new one, got another")
    if old in (0, new):
        return []
    begin, end = 0, new
    proof = []
    while old < end:
        middle = _split(begin, end)
        if old <= middle:
            proof.append(_span(middle, end, node))
            end = middle
        else:
            proof.append(_span(begin, middle, node))
            begin = middle
    if begin > 0:
        proof.append(_span(begin, end, node))
    return proof[::-1]


def _split(begin: int, end: int) -> int:
    """Return where the right subtree of leaves begin to end starts, of which there are at least two."""
    return begin + (1 << ((end - begin - 1).bit_length() - 1))


def _span(begin: int, end: int, node: Node) -> bytes:
    """Return the Merkle tree hash of leaves begin to end, which are a subtree of some tree."""
    subtrees = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        subtrees.append(node(level, begin >> level))
        begin += 1 << level
    return _join(subtrees)


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise ProofError unless proof leads from the leaf to the root (RFC 9162 section 2.1.3.2).

    All hashes are 32 bytes; index and size are below 2**63.
    """
    _check_hashes(leaf_hash, root, *proof)
    if not 0 <= index < size < decimal_strict.LIMIT:
        raise ProofError("expected an index below the tree size, got another")
    inner = (index ^ (size - 1)).bit_length()
    _check_length(proof, inner + (index >> inner).bit_count())
    if _climb(leaf_hash, index, inner, proof) != root:
        raise ProofError("expected an inclusion proof that ends in the root, got another")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Raise ProofError unless proof shows that the old tree begins the new one (RFC 9162 section 2.1.4.2).

    All hashes are 32 bytes; sizes are below 2**63. The empty tree begins every tree, with an empty proof.
    """
    _check_hashes(old_root, new_root, *proof)
    if not 0 <= old_size <= new_size < decimal_strict.LIMIT:
        raise ProofError("expected an old tree size not above the new one, got another")
    if (old_size == 0 and old_root != EMPTY_ROOT) or (old_size == new_size and old_root != new_root):
        raise ProofError("expected the same root for the same tree, got another")
    if old_size in (0, new_size):
        _check_length(proof, 0)
        return
    # Both paths start at the largest complete subtree that ends where the old tree ends. The proof names its
    # hash, unless it is the whole old tree.
    height = (old_size & -old_size).bit_length() - 1
    last = (old_size - 1) >> height
    inner = (last ^ ((new_size - 1) >> height)).bit_length()
    path = [old_root, *proof] if last == 0 else list(proof)
    _check_length(path, 1 + inner + (last >> inner).bit_count())
    start, path = path[0], path[1:]
    left = [sibling for level, sibling in enumerate(path) if level >= inner or last >> level & 1]
    if _join([*reversed(left), start]) != old_root or _climb(start, last, inner, path) != new_root:
        raise ProofError("expected a consistency proof that ends in both roots, got another")


def _climb(start: bytes, index: int, inner: int, path: Sequence[bytes]) -> bytes:
    """Return the root over a node and the siblings on its path.

    Below level inner the bits of index say on which side the node is; from there on the tree has no right
    siblings, and the path holds left ones only.
    """
    joined = start
    for level, sibling in enumerate(path):
        sibling_is_left = level >= inner or index >> level & 1
        joined = node_hash(sibling, joined) if sibling_is_left else node_hash(joined, sibling)
    return joined


def _check_length(proof: Sequence[bytes], expected: int) -> None:
    if len(proof) != expected:
        raise ProofError(f"expected {expected} hashes in the proof, got {len(proof)}")


def _check_hashes(*hashes: bytes) -> None:
    if any(len(value) != HASH_LENGTH for value in hashes):
        raise ProofError(f"expected hashes of {HASH_LENGTH} bytes, got another length")


class Coordinates:
    """A Node that only records what it is asked for; the hashes it gives are zeros.

    Run a proof with it, fetch what asked lists, and run the proof again over what was fetched.
    """

    def __init__(self) -> None:
        self._asked: dict[tuple[int, int], None] = {}

    def __call__(self, level: int, index: int) -> bytes:
        self._asked[level, index] = None
        return bytes(HASH_LENGTH)

    @property
    def asked(self) -> list[tuple[int, int]]:
        """The (level, index) asked for, each once, first asked first."""
        return list(self._asked)


def tile_node(level: int, index: int) -> tuple[int, int, int]:
    """Return which hashes in the tiles fold to the node at level and index (C2SP tlog-tiles, "Merkle Tree").

    They are tile level L, first and count: the hashes first to first + count - 1 of level L, where a hash
    covers 256**L leaves. All of them are in tile first // 256 of that level.
    """
    tile_level, height = divmod(level, TILE_HEIGHT)
    return tile_level, index << height, 1 << height
