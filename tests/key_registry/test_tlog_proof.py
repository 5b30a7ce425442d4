"""Proof files of C2SP tlog-proof."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from key_registry.errors import FormatError
from key_registry.tlog_proof import TlogProof

EXAMPLE = """c2sp.org/tlog-proof@v1
extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6kYXJ3aW4tYXJ
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=
RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=
AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=

example.com/fancylog
109482
sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

— example.com/fancylog hI2DJw[...]1roloI=
— witness1.example mJirIklj[...]qY9v2B/5bg==
""".encode()
CHECKPOINT = EXAMPLE[EXAMPLE.index(b"\n\n") + 2 :]
HASH = "gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ="


def test_the_example_of_the_specification() -> None:
    """The published file is taken apart and written back byte for byte, the checkpoint verbatim."""
    proof = TlogProof.parse(EXAMPLE)
    assert proof.index == 73894
    assert len(proof.hashes) == 5
    assert proof.hashes[0].hex().startswith("8122b25e")
    assert proof.extra is not None
    assert proof.extra.startswith(b"age-v1.2.1-darwin-arm64.tar.gz")
    assert proof.checkpoint == CHECKPOINT
    assert proof.to_bytes() == EXAMPLE


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.binary(min_size=1, max_size=50),
    st.none() | st.binary(min_size=1, max_size=50),
)
def test_every_proof_comes_back(index: int, hashes: list[bytes], checkpoint: bytes, extra: bytes | None) -> None:
    """All parts are read as they were written, whatever bytes the checkpoint has."""
    proof = TlogProof(index, tuple(hashes), checkpoint, extra)
    assert TlogProof.parse(proof.to_bytes()) == proof


def test_the_smallest_proof() -> None:
    """The only leaf of a tree has no hashes, and extra data is optional."""
    assert TlogProof(0, (), b"note\n", None).to_bytes() == b"c2sp.org/tlog-proof@v1\nindex 0\n\nnote\n"


def spelled(*lines: str) -> bytes:
    return ("\n".join(["c2sp.org/tlog-proof@v1", *lines]) + "\n\n").encode() + CHECKPOINT


MALFORMED = {
    "empty": b"",
    "header only": b"c2sp.org/tlog-proof@v1\n",
    "other version": EXAMPLE.replace(b"@v1", b"@v2"),
    "space before header": b" " + EXAMPLE,
    "byte order mark": b"\xef\xbb\xbf" + EXAMPLE,
    "carriage returns": EXAMPLE.replace(b"\n", b"\r\n"),
    "no index": spelled("extra QQ=="),
    "index missing before hashes": spelled(HASH),
    "index after hash": spelled(HASH, "index 1"),
    "index before extra": spelled("index 1", "extra QQ=="),
    "two indices": spelled("index 1", "index 1"),
    "two extras": spelled("extra QQ==", "extra QQ==", "index 1"),
    "extra without data": spelled("extra ", "index 1"),
    "extra without space": spelled("extra", "index 1"),
    "extra in the URL-safe alphabet": spelled("extra -_8=", "index 1"),
    "extra without padding": spelled("extra QQ", "index 1"),
    "index without its name": spelled("5"),
    "index empty": spelled("index "),
    "index without space": spelled("index5"),
    "index with two spaces": spelled("index  5"),
    "index with leading zero": spelled("index 05"),
    "index negative": spelled("index -1"),
    "index too large": spelled(f"index {2**63}"),
    "index in capitals": spelled("INDEX 5"),
    "short hash": spelled("index 5", "QQ=="),
    "hash without padding": spelled("index 5", HASH[:-1]),
    "hash with trailing bits": spelled("index 5", HASH[:-2] + "R="),
    "space after hash": spelled("index 5", HASH + " "),
    "no ASCII": spelled("index 5", "é"),
    "64 hashes": spelled("index 5", *[HASH] * 64),
    "a million lines": spelled("index 5", *["A"] * 1_000_000),
    "no checkpoint": spelled("index 5").removesuffix(CHECKPOINT),
    "no blank line": spelled("index 5").replace(b"\n\n", b"\n"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_proofs_are_refused(data: bytes) -> None:
    """A proof file has one form."""
    with pytest.raises(FormatError):
        TlogProof.parse(data)


def test_length_is_limited_before_lines_are_split() -> None:
    """A file longer than any proof is refused as such."""
    with pytest.raises(FormatError, match="proof file of at most"):
        TlogProof.parse(spelled("index 5", *["A"] * 2_000_000))


def test_sixty_three_hashes_are_read() -> None:
    """The deepest tree has 63 hashes in a proof."""
    assert len(TlogProof.parse(spelled("index 5", *[HASH] * 63)).hashes) == 63


def test_extra_data_and_checkpoint_reach_their_limits_together() -> None:
    """One MiB of each passes in one file, and one byte more of either does not."""
    full = TlogProof(2**63 - 1, (bytes(32),) * 63, b"x" * 1_048_576, b"y" * 1_048_576)
    assert TlogProof.parse(full.to_bytes()) == full
    with pytest.raises(FormatError, match="extra data"):
        TlogProof(0, (), b"x", b"y" * 1_048_577)
    with pytest.raises(FormatError, match="checkpoint"):
        TlogProof(0, (), b"x" * 1_048_577, None)


@pytest.mark.parametrize(
    ("index", "hashes", "checkpoint", "extra"),
    [
        (-1, (), b"x", None),
        (2**63, (), b"x", None),
        (0, (bytes(31),), b"x", None),
        (0, (bytes(32),) * 64, b"x", None),
        (0, (), b"", None),
        (0, (), b"x", b""),
    ],
)
def test_proofs_no_reader_accepts_are_not_written(
    index: int, hashes: tuple[bytes, ...], checkpoint: bytes, extra: bytes | None
) -> None:
    """What parse would refuse cannot be made."""
    with pytest.raises(FormatError):
        TlogProof(index, hashes, checkpoint, extra)
