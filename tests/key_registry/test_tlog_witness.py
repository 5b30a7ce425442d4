"""The bytes of C2SP tlog-witness, both ways, and nothing else in their place."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from key_registry import merkle, note, tlog_witness
from key_registry.checkpoint import Checkpoint
from key_registry.errors import FormatError
from key_registry.tlog_witness import AddCheckpoint
from tests.cosigner.consistency import consistent
from tests.cosigner.cosigner import Request
from tests.cosigner.note import cosignature

# The example bodies of the specification, with fewer lines.
LOG_KEY = "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8="
W1 = "CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTSvVjyQLrdk3DXDqI5G2HgLatVs0pWh6Up69HVOw=="
W2 = "AWui8Sk55XjYLOijihBjhqEH6nS1ndDymE0a+6idX7pLcnoB+dhnz0854aLZgrrKbYKA7nC3HNJhm/kWl7oJlqU3rXXvpysAdyP3wQ=="
CHECKPOINT = f"""example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa {LOG_KEY}
"""
REQUEST = f"""old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=

{CHECKPOINT}"""
COSIGNED = f"""— witness.example/w1 {W1}
— witness.example/w2 {W2}
"""


def test_the_request_of_the_specification() -> None:
    request = AddCheckpoint.parse(REQUEST.encode())
    assert (request.old_size, len(request.proof), request.checkpoint) == (20852014, 2, CHECKPOINT.encode())
    assert request.to_bytes() == REQUEST.encode()


HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=63)


@given(st.integers(1, 2**63 - 1), HASHES)
def test_a_request_is_read_as_it_was_written(old_size: int, proof: list[bytes]) -> None:
    """By us, and by a cosigner that shares no code with us."""
    written = AddCheckpoint(old_size, tuple(proof), CHECKPOINT.encode()).to_bytes()
    assert AddCheckpoint.parse(written) == AddCheckpoint(old_size, tuple(proof), CHECKPOINT.encode())
    read = Request.parse(written)
    assert (read.old_size, read.proof, read.checkpoint.size) == (old_size, proof, 20852163)


@pytest.mark.parametrize(
    "change",
    [
        ("old 20852014", "old  20852014"),
        ("old 20852014", "old 020852014"),
        ("old 20852014", "old +20852014"),
        ("old 20852014", "old -1"),
        ("old 20852014", "old 9223372036854775808"),
        ("old 20852014", "old 0"),
        ("old 20852014", "Old 20852014"),
        ("old 20852014\n", ""),
        ("old 20852014\n", "old 20852014 \n"),
        ("old 20852014\n", "old 20852014\r\n"),
        ("old 20852014\n", "old 20852014\n\n"),
        ("kaw=", "ka=="),
        ("kaw=", "kax="),
        ("kaw=", "kaw"),
        ("PlRN", "PlR-"),
        ("PlRN", " PlRN"),
        ("swk=\n\n", "swk=\n"),
        ("\n\n— example", "\n— example"),
        ("YQ8=\n", "YQ8="),
        ("— example.com/behind-the-sofa Az3g", "- example.com/behind-the-sofa Az3g"),
        (CHECKPOINT, ""),
        (REQUEST, ""),
        ("PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n", "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n" * 63),
    ],
)
def test_other_requests_are_refused(change: tuple[str, str]) -> None:
    wrong = REQUEST.replace(*change)
    assert wrong != REQUEST
    with pytest.raises(FormatError):
        AddCheckpoint.parse(wrong.encode())


def test_a_request_of_any_length_is_refused_before_it_is_taken_apart() -> None:
    """The lines before the checkpoint fit 63 hashes; a body without an end to them is no request."""
    for body in (b"old 1\n" + b"A" * 5000 + b"\n\n" + CHECKPOINT.encode(), b"\n" * 100, b"\xff" * 10_000):
        with pytest.raises(FormatError):
            AddCheckpoint.parse(body)


def test_a_request_from_nothing_has_no_proof() -> None:
    with pytest.raises(FormatError):
        AddCheckpoint(0, (bytes(32),), CHECKPOINT.encode())
    assert AddCheckpoint(0, (), CHECKPOINT.encode()).to_bytes() == f"old 0\n\n{CHECKPOINT}".encode()


def test_our_proofs_convince_a_cosigner() -> None:
    """Every proof between two sizes up to 65 is one that a cosigner that shares no code with us accepts."""
    leaves = [merkle.leaf_hash(bytes([number])) for number in range(65)]

    def node(level: int, index: int) -> bytes:
        return merkle.fold(leaves[index << level : (index + 1) << level])

    roots = [merkle.root(leaves[:size]) for size in range(66)]
    for new in range(66):
        for old in range(new + 1):
            proof = merkle.consistency_proof(old, new, node)
            assert consistent(old, roots[old], new, roots[new], proof), (old, new)


def test_the_answer_of_the_specification() -> None:
    lines = tlog_witness.parse_cosignatures(COSIGNED.encode())
    assert [line.name for line in lines] == ["witness.example/w1", "witness.example/w2"]
    assert tlog_witness.encode_cosignatures(lines) == COSIGNED.encode()


def test_a_cosigners_answer_verifies_with_the_checkpoint() -> None:
    """The lines of an answer, put behind the log's own, are a note that carries the cosignature."""
    log, cosigner = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    text = Checkpoint("log.example", 1, bytes(32)).text()
    own = note.NoteSignature("log.example", b"1234", log.sign(text.encode()))
    answer = cosignature("cosigner.example", cosigner, text, 1_700_000_000).encode()
    lines = tlog_witness.parse_cosignatures(answer)
    joined = note.parse(note.serialize(text, [own, *lines]))
    (time, signature) = joined.signatures[1].signature[:8], joined.signatures[1].signature[8:]
    assert int.from_bytes(time, "big") == 1_700_000_000
    cosigner.public_key().verify(signature, f"cosignature/v1\ntime 1700000000\n{text}".encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        COSIGNED.encode()[:-1],
        COSIGNED.encode() + b"\n",
        b"\n" + COSIGNED.encode(),
        COSIGNED.replace("\n", "\n\n", 1).encode(),
        COSIGNED.replace("\n", "\r\n").encode(),
        COSIGNED.replace("—", "-", 1).encode(),
        COSIGNED.replace("w1 ", "w1  ", 1).encode(),
        COSIGNED.replace("==\n", "=\n", 1).encode(),
        "— witness.example/w1 AAAA\n".encode(),
        "— witness.example/w1 AAAAAA==\n".encode(),
        "— w+1 CMp+6LU=\n".encode(),
        "—  CMp+6LU=\n".encode(),
        b"\xff" + COSIGNED.encode(),
        COSIGNED.splitlines()[0].encode() * 500,
        (COSIGNED.splitlines()[0] + "\n").encode() * 101,
        b"\xe2\x80\x94 " + b"w" * 70_000,
    ],
)
def test_other_answers_are_refused(body: bytes) -> None:
    with pytest.raises(FormatError):
        tlog_witness.parse_cosignatures(body)


@given(st.binary(max_size=400))
def test_no_bytes_are_too_much_for_the_parsers(body: bytes) -> None:
    for parse in (AddCheckpoint.parse, tlog_witness.parse_cosignatures):
        with pytest.raises(FormatError):
            parse(body)


@given(st.integers(0, 2**63 - 1))
def test_a_conflict_names_a_size(size: int) -> None:
    body = tlog_witness.encode_size(size)
    assert tlog_witness.parse_size("text/x.tlog.size", body) == size
    assert tlog_witness.parse_size("Text/X.Tlog.Size; charset=utf-8", body) == size


def test_a_conflict_of_another_type_names_none() -> None:
    for content_type in ("", "text/plain", "text/x.tlog.sizes", "application/octet-stream"):
        assert tlog_witness.parse_size(content_type, b"7\n") is None


@pytest.mark.parametrize(
    "body", [b"", b"\n", b"7", b"07\n", b"-7\n", b"7\n\n", b"7 \n", b"seven\n", b"\xd9\xa7\n", b"9223372036854775808\n"]
)
def test_other_sizes_are_refused(body: bytes) -> None:
    with pytest.raises(FormatError):
        tlog_witness.parse_size("text/x.tlog.size", body)


def test_nothing_is_no_answer() -> None:
    with pytest.raises(FormatError):
        tlog_witness.encode_cosignatures(())
    with pytest.raises(FormatError):
        tlog_witness.encode_size(-1)
