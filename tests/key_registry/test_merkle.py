"""Merkle trees, proofs and tiles against the definitions of RFC 9162, written out naively."""

import itertools
import random
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from key_registry import merkle
from key_registry.errors import FormatError, ProofError
from key_registry.merkle import CompactRange, Coordinates

ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [merkle.leaf_hash(b"entry %d" % number) for number in range(300)]


@cache
def mth(begin: int, end: int) -> bytes:
    """Return the Merkle tree hash of LEAVES from begin to end (RFC 9162 section 2.1.1)."""
    if begin == end:
        return sha256().digest()
    if end - begin == 1:
        return LEAVES[begin]
    k = largest_power_below(end - begin)
    return sha256(b"\x01" + mth(begin, begin + k) + mth(begin + k, end)).digest()


def largest_power_below(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def node(level: int, index: int) -> bytes:
    return mth(index << level, (index + 1) << level)


def path(m: int, begin: int, end: int) -> list[bytes]:
    """Return PATH(m, D[begin:end]) (RFC 9162 section 2.1.3.1)."""
    if end - begin == 1:
        return []
    k = largest_power_below(end - begin)
    if m < k:
        return [*path(m, begin, begin + k), mth(begin + k, end)]
    return [*path(m - k, begin + k, end), mth(begin, begin + k)]


def subproof(m: int, begin: int, end: int, known: bool) -> list[bytes]:
    """Return SUBPROOF(m, D[begin:end], known) (RFC 9162 section 2.1.4.1)."""
    n = end - begin
    if m == n:
        return [] if known else [mth(begin, end)]
    k = largest_power_below(n)
    if m <= k:
        return [*subproof(m, begin, begin + k, known), mth(begin + k, end)]
    return [*subproof(m - k, begin + k, end, False), mth(begin, begin + k)]


def rfc_includes(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Follow the steps of RFC 9162 section 2.1.3.2."""
    if index >= size:
        return False
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = merkle.node_hash(p, r)
            while not fn & 1 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = merkle.node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def rfc_consistent(first: int, old: bytes, second: int, new: bytes, proof: Sequence[bytes]) -> bool:
    """Follow the steps of RFC 9162 section 2.1.4.2 for 0 < first < second."""
    if not proof:
        return False
    steps = [old, *proof] if first.bit_count() == 1 else list(proof)
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = steps[0]
    for c in steps[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = merkle.node_hash(c, fr), merkle.node_hash(c, sr)
            while not fn & 1 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = merkle.node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == old and sr == new


def accepts(verify: Callable[..., None], *arguments: object) -> bool:
    try:
        verify(*arguments)
    except ProofError:
        return False
    return True


def test_the_reference_roots() -> None:
    """The eight leaves of Certificate Transparency have their published roots."""
    leaves = [merkle.leaf_hash(entry) for entry in ENTRIES]
    assert [merkle.root(leaves[:size]).hex() for size in range(9)] == ROOTS
    assert ROOTS[0] == merkle.EMPTY_ROOT.hex()


def test_the_reference_proofs() -> None:
    """Inclusion and consistency proofs over the eight leaves are the published ones."""
    leaves = [merkle.leaf_hash(entry) for entry in ENTRIES]

    def over_entries(level: int, index: int) -> bytes:
        return merkle.fold(leaves[index << level : (index + 1) << level])

    def inclusion(index: int, size: int) -> list[str]:
        return [value.hex() for value in merkle.inclusion_proof(index, size, over_entries)]

    def consistency(old: int, new: int) -> list[str]:
        return [value.hex() for value in merkle.consistency_proof(old, new, over_entries)]

    pair_23 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
    pair_45 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
    pair_67 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
    leaf_1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
    leaf_4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
    last_4 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
    assert inclusion(0, 1) == []
    assert inclusion(0, 8) == [leaf_1, pair_23, last_4]
    assert inclusion(5, 8) == [leaf_4, pair_67, ROOTS[4]]
    assert inclusion(2, 3) == [ROOTS[2]]
    assert inclusion(1, 5) == [ROOTS[1], pair_23, leaf_4]
    assert consistency(1, 1) == []
    assert consistency(1, 8) == [leaf_1, pair_23, last_4]
    assert consistency(6, 8) == [pair_45, pair_67, ROOTS[4]]
    assert consistency(2, 5) == [pair_23, leaf_4]


def test_the_examples_of_rfc_9162() -> None:
    """Section 2.1.5: the proofs in the tree over d0 to d6, by the names that the figure gives its nodes."""
    d = LEAVES[:7]
    a, b, c, dd, e, f, j = d
    g, h, i = merkle.node_hash(a, b), merkle.node_hash(c, dd), merkle.node_hash(e, f)
    k, l = merkle.node_hash(g, h), merkle.node_hash(i, j)  # noqa: E741  # the figure's own letter
    whole = merkle.node_hash(k, l)
    assert merkle.root(d) == whole
    for index, expected in ((0, [b, h, l]), (3, [c, g, l]), (4, [f, j, k]), (6, [i, k])):
        assert merkle.inclusion_proof(index, 7, node) == expected
        merkle.verify_inclusion(d[index], index, 7, expected, whole)
    hash_0, hash_1, hash_2 = merkle.node_hash(g, c), k, merkle.node_hash(k, i)
    for size, root, expected in ((3, hash_0, [c, dd, g, l]), (4, hash_1, [l]), (6, hash_2, [i, j, k])):
        assert merkle.root(d[:size]) == root
        assert merkle.consistency_proof(size, 7, node) == expected
        merkle.verify_consistency(size, root, 7, whole, expected)


def test_every_way_to_the_root_agrees_with_the_definition() -> None:
    """The root over leaves, over nodes and by appending is MTH of RFC 9162."""
    grown = CompactRange()
    for size in range(201):
        assert merkle.root(LEAVES[:size]) == mth(0, size)
        assert merkle.tree_root(size, node) == mth(0, size)
        assert (grown.size, grown.root()) == (size, mth(0, size))
        grown.append(LEAVES[size])


@given(st.lists(st.integers(0, 90), max_size=8))
def test_appending_in_batches_is_appending_one_by_one(batches: list[int]) -> None:
    """Any split into batches, also empty ones, gives the same range."""
    leaves = itertools.cycle(LEAVES)
    batched, single = CompactRange(), CompactRange()
    for batch in batches:
        taken = list(itertools.islice(leaves, batch))
        batched.extend(iter(taken))
        for leaf in taken:
            single.append(leaf)
        assert (batched.size, batched.hashes, batched.root()) == (single.size, single.hashes, single.root())


@given(st.integers(0, 300))
def test_a_stored_range_goes_on(size: int) -> None:
    """Size and hashes, which are the complete subtrees, largest first, are all that is needed to go on."""
    tree = CompactRange()
    tree.extend(LEAVES[:size])
    stored = CompactRange.from_hashes(tree.size, tree.hashes)
    stored.extend(LEAVES[size:])
    assert stored.root() == mth(0, 300)
    assert (tree.size, tree.root()) == (size, mth(0, size))
    begin = 0
    for level, value in zip((bit for bit in range(9, -1, -1) if size >> bit & 1), tree.hashes, strict=True):
        assert value == mth(begin, begin + (1 << level))
        begin += 1 << level


def test_a_copy_grows_on_its_own() -> None:
    """Appending to a copy leaves the first range as it was."""
    tree = CompactRange()
    tree.extend(LEAVES[:7])
    copy = tree.copy()
    copy.append(LEAVES[7])
    assert (copy.size, copy.root()) == (8, mth(0, 8))
    assert (tree.size, tree.root()) == (7, mth(0, 7))


@pytest.mark.parametrize(
    ("size", "hashes"),
    [
        (-1, []),
        (2**63, [bytes(32)]),
        (0, [bytes(32)]),
        (1, []),
        (3, [bytes(32)]),
        (2, [bytes(31)]),
        (1, [bytes(33)]),
    ],
)
def test_a_range_that_cannot_be_is_refused(size: int, hashes: list[bytes]) -> None:
    """The number of hashes is the number of ones in the size, and each is 32 bytes."""
    with pytest.raises(FormatError):
        CompactRange.from_hashes(size, hashes)


@pytest.mark.parametrize("count", [0, 3, 5, 6, 7, 255])
def test_only_complete_subtrees_fold(count: int) -> None:
    """A run that is no power of two has no one node above it."""
    with pytest.raises(FormatError, match="power of two"):
        merkle.fold(LEAVES[:count])


@pytest.mark.parametrize("size", [*range(1, 66), 127, 128, 129, 200, 255, 256, 257, 300])
def test_inclusion_proofs_are_those_of_the_rfc(size: int) -> None:
    """Every leaf has the proof of the definition, it verifies, and it verifies for no other leaf or place."""
    for index in range(size):
        proof = merkle.inclusion_proof(index, size, node)
        assert proof == path(index, 0, size)
        merkle.verify_inclusion(LEAVES[index], index, size, proof, mth(0, size))
        assert not accepts(merkle.verify_inclusion, LEAVES[index], (index + 1) % (size + 1), size, proof, mth(0, size))
        assert not accepts(merkle.verify_inclusion, sha256(b"x").digest(), index, size, proof, mth(0, size))


@pytest.mark.parametrize("new", [*range(66), 127, 128, 129, 200, 255, 256, 257, 300])
def test_consistency_proofs_are_those_of_the_rfc(new: int) -> None:
    """Every earlier tree has the proof of the definition, it verifies, and it verifies for no other root."""
    for old in range(new + 1):
        proof = merkle.consistency_proof(old, new, node)
        assert proof == ([] if old == 0 else subproof(old, 0, new, True))
        merkle.verify_consistency(old, mth(0, old), new, mth(0, new), proof)
        forged = sha256(b"x").digest()
        assert not accepts(merkle.verify_consistency, old, forged, new, mth(0, new), proof)
        if old:
            assert not accepts(merkle.verify_consistency, old, mth(0, old), new, forged, proof)


HASHES = st.sampled_from([mth(begin, begin + size) for size in (1, 2, 3, 4, 8) for begin in range(0, 16, size)])


@st.composite
def altered(draw: st.DrawFn, proof: list[bytes]) -> list[bytes]:
    """Return the proof as it is, shortened, lengthened, reordered or with another hash in it."""
    changed = list(proof)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(changed)))
        action = draw(st.sampled_from(["insert", "delete", "replace", "reverse"]))
        if action == "insert":
            changed.insert(place, draw(HASHES))
        elif action == "reverse":
            changed.reverse()
        else:
            changed[place : place + 1] = [draw(HASHES)] if action == "replace" else []
    return changed


@given(st.data())
def test_inclusion_is_judged_as_by_the_steps_of_the_rfc(data: st.DataObject) -> None:
    """Whatever the proof, index and size, the verdict is that of RFC 9162 section 2.1.3.2."""
    size = data.draw(st.integers(1, 40))
    index = data.draw(st.integers(0, size - 1))
    proof = data.draw(altered(path(index, 0, size)))
    claimed = data.draw(st.integers(0, 45)), data.draw(st.just(size) | st.integers(0, 45))
    for place in ((index, size), (index, claimed[1]), claimed):
        arguments = (LEAVES[index], *place, proof, mth(0, size))
        assert accepts(merkle.verify_inclusion, *arguments) == rfc_includes(*arguments)


@given(st.data())
def test_consistency_is_judged_as_by_the_steps_of_the_rfc(data: st.DataObject) -> None:
    """Whatever the proof and sizes, the verdict is that of RFC 9162 section 2.1.4.2."""
    new = data.draw(st.integers(2, 40))
    old = data.draw(st.integers(1, new - 1))
    proof = data.draw(altered(subproof(old, 0, new, True)))
    claimed = data.draw(st.lists(st.integers(1, 45), min_size=2, max_size=2, unique=True).map(sorted))
    for first, second in ((old, new), claimed):
        arguments = (first, mth(0, old), second, mth(0, new), proof)
        assert accepts(merkle.verify_consistency, *arguments) == rfc_consistent(*arguments)


@pytest.mark.parametrize(
    ("old", "old_root", "new", "new_root", "proof"),
    [
        (0, bytes(32), 5, mth(0, 5), []),
        (0, merkle.EMPTY_ROOT, 5, mth(0, 5), [LEAVES[0]]),
        (0, merkle.EMPTY_ROOT, 0, bytes(32), []),
        (0, bytes(32), 0, bytes(32), []),
        (5, mth(0, 5), 5, mth(0, 6), []),
        (5, mth(0, 5), 5, mth(0, 5), [LEAVES[0]]),
        (6, mth(0, 6), 5, mth(0, 5), []),
        (-1, merkle.EMPTY_ROOT, 5, mth(0, 5), []),
        (4, mth(0, 4), 8, mth(0, 8), []),
        (3, mth(0, 3), 2**63, mth(0, 8), [LEAVES[0]]),
    ],
)
def test_degenerate_consistency_is_refused(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: list[bytes]
) -> None:
    """Empty and equal trees have one root each and need no proof; trees never shrink."""
    with pytest.raises(ProofError):
        merkle.verify_consistency(old, old_root, new, new_root, proof)


def test_hashes_of_other_lengths_are_refused() -> None:
    """A hash is 32 bytes everywhere in a proof, so that no hash can be cut in another place."""
    root, proof = mth(0, 4), path(1, 0, 4)
    for bad in (b"", bytes(31), bytes(33)):
        assert not accepts(merkle.verify_inclusion, bad, 1, 4, proof, root)
        assert not accepts(merkle.verify_inclusion, LEAVES[1], 1, 4, proof, bad)
        assert not accepts(merkle.verify_inclusion, LEAVES[1], 1, 4, [proof[0], bad], root)
        assert not accepts(merkle.verify_consistency, 4, bad, 4, bad, [])
        assert not accepts(merkle.verify_consistency, 2, mth(0, 2), 4, root, [bad])
    pair, cut = LEAVES[0] + LEAVES[1], 31
    assert not accepts(merkle.verify_inclusion, pair[:cut], 0, 2, [pair[cut:]], mth(0, 2))
    assert not accepts(merkle.verify_consistency, 1, pair[:cut], 2, mth(0, 2), [pair[cut:]])


def test_sizes_end_below_two_to_the_63() -> None:
    """The largest tree verifies, and one of 2**63 leaves is refused however sound its proof is."""
    left, right = LEAVES[:2]
    below = merkle.node_hash(left, right)
    merkle.verify_inclusion(left, 2**62, 2**62 + 1, [right], merkle.node_hash(right, left))
    merkle.verify_consistency(2**62, left, 2**62 + 1, below, [right])
    assert not accepts(merkle.verify_consistency, 2**62, left, 2**63, below, [right])
    assert not accepts(merkle.verify_inclusion, left, 2**63, 2**63 + 1, [right], merkle.node_hash(right, left))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (6, 5), (-1, 5), (0, -1)])
def test_a_leaf_outside_the_tree_has_no_proof(index: int, size: int) -> None:
    """Making and checking an inclusion proof both need an index below the size."""
    with pytest.raises(ProofError, match="index"):
        merkle.inclusion_proof(index, size, node)
    with pytest.raises(ProofError, match="index"):
        merkle.verify_inclusion(LEAVES[0], index, size, [], LEAVES[0])


@pytest.mark.parametrize(("old", "new"), [(6, 5), (-1, 5), (1, 0)])
def test_a_tree_is_not_consistent_with_a_smaller_one(old: int, new: int) -> None:
    """There is no proof that a tree shrank."""
    with pytest.raises(ProofError, match="tree size"):
        merkle.consistency_proof(old, new, node)


@given(st.data())
def test_proofs_ask_for_few_nodes_of_the_tree(data: st.DataObject) -> None:
    """In the largest trees a proof or root asks for few hashes, all of complete subtrees in the tree."""
    size = data.draw(st.integers(1, 2**63 - 1))
    index = data.draw(st.integers(0, size - 1))
    for make in (
        lambda asked: merkle.inclusion_proof(index, size, asked),
        lambda asked: merkle.consistency_proof(index, size, asked),
        lambda asked: merkle.tree_root(size, asked),
    ):
        coordinates = Coordinates()
        make(coordinates)
        assert len(coordinates.asked) <= 2 * 63
        assert len(set(coordinates.asked)) == len(coordinates.asked)
        assert all((place + 1) << level <= size for level, place in coordinates.asked)


def test_what_was_asked_for_is_enough_for_the_proof() -> None:
    """A caller that fetches what Coordinates recorded gets the proof of the tree."""
    coordinates = Coordinates()
    merkle.inclusion_proof(17, 300, coordinates)
    fetched = {place: node(*place) for place in coordinates.asked}
    proof = merkle.inclusion_proof(17, 300, lambda level, index: fetched[level, index])
    merkle.verify_inclusion(LEAVES[17], 17, 300, proof, mth(0, 300))


def test_large_trees_against_proofs_of_random_places() -> None:
    """A tree of 70,000 leaves kept in tiles gives the nodes, root and proofs of the tree over its leaves."""
    size = 70_000
    rows = [[sha256(b"%d" % number).digest() for number in range(size)]]
    while len(rows[-1]) > 1:
        below = iter(rows[-1])
        rows.append([merkle.node_hash(left, right) for left, right in zip(below, below, strict=False)])
    tiles = rows[:: merkle.TILE_HEIGHT]
    # The example of tlog-tiles: 273 full tiles and 112 hashes, one and 17, and one hash.
    assert [divmod(len(level), merkle.TILE_WIDTH) for level in tiles] == [(273, 112), (1, 17), (0, 1)]

    def from_tiles(level: int, index: int) -> bytes:
        tile_level, first, count = merkle.tile_node(level, index)
        assert first // merkle.TILE_WIDTH == (first + count - 1) // merkle.TILE_WIDTH
        return merkle.fold(tiles[tile_level][first : first + count])

    for level, row in enumerate(rows):
        for index in {*range(0, len(row), 97), len(row) - 1}:
            assert from_tiles(level, index) == row[index]

    tree = CompactRange()
    tree.extend(rows[0])
    assert merkle.tree_root(size, from_tiles) == tree.root()
    places = random.Random(9162)
    for _ in range(50):
        index, old = places.randrange(size), places.randrange(1, size)
        merkle.verify_inclusion(
            rows[0][index], index, size, merkle.inclusion_proof(index, size, from_tiles), tree.root()
        )
        merkle.verify_consistency(
            old,
            merkle.tree_root(old, from_tiles),
            size,
            tree.root(),
            merkle.consistency_proof(old, size, from_tiles),
        )


@pytest.mark.parametrize(
    ("level", "index", "expected"),
    [
        (0, 5, (0, 5, 1)),
        (0, 300, (0, 300, 1)),
        (3, 33, (0, 264, 8)),
        (7, 1, (0, 128, 128)),
        (8, 2, (1, 2, 1)),
        (10, 64, (1, 256, 4)),
        (16, 0, (2, 0, 1)),
        (62, 1, (7, 64, 64)),
    ],
)
def test_where_the_tiles_hold_a_node(level: int, index: int, expected: tuple[int, int, int]) -> None:
    """A node is the fold of 2**(level % 8) neighbours in tile level level // 8."""
    assert merkle.tile_node(level, index) == expected
