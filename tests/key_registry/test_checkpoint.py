"""Checkpoints: signed by the log and nobody else, in one form."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from key_registry import note
from key_registry.checkpoint import Checkpoint, open_checkpoint
from key_registry.errors import FormatError, SignatureError
from key_registry.merkle import EMPTY_ROOT
from key_registry.public_key import PublicKey

ORIGIN = "example.com/behind-the-sofa"
ROOT = base64.b64decode("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=")
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5"
    "/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlr"
    "DJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)

LOG = Ed25519PrivateKey.from_private_bytes(b"log key of the checkpoint tests.")
LOG_KEY = PublicKey.from_spki(LOG.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
OTHER = Ed25519PrivateKey.from_private_bytes(b"key of another log, for the test")


def signed_text(text: str, name: str = ORIGIN) -> bytes:
    """Return a note with the log's genuine signature over any text."""
    line = note.NoteSignature(name, note.key_hash(name, LOG_KEY.raw), LOG.sign(text.encode()))
    return note.serialize(text, [line])


def signed(checkpoint: Checkpoint) -> bytes:
    return checkpoint.signed(LOG.sign(checkpoint.text().encode()), LOG_KEY)


def test_the_example_of_the_specification() -> None:
    """The text of the published checkpoint is read and written byte for byte, cosignature and all."""
    parsed = note.parse(EXAMPLE.encode())
    checkpoint = Checkpoint.parse(parsed.text)
    assert checkpoint == Checkpoint(ORIGIN, 20852163, ROOT)
    assert checkpoint.text() == parsed.text
    assert [line.name for line in parsed.signatures] == [ORIGIN, "witness.example.com/w1"]
    assert note.serialize(parsed.text, parsed.signatures) == EXAMPLE.encode()


@given(st.integers(1, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_a_signed_checkpoint_opens(size: int, root: bytes) -> None:
    """What the log signed comes back."""
    checkpoint = Checkpoint(ORIGIN, size, root)
    assert open_checkpoint(signed(checkpoint), ORIGIN, LOG_KEY) == checkpoint


def test_the_empty_log_has_a_checkpoint() -> None:
    """Size 0 has the root of the empty tree and no other."""
    empty = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert open_checkpoint(signed(empty), ORIGIN, LOG_KEY) == empty
    with pytest.raises(FormatError, match="empty tree"):
        Checkpoint(ORIGIN, 0, ROOT)


def test_cosignatures_are_ignored() -> None:
    """Signatures of cosigners around the log's own change nothing."""
    checkpoint = Checkpoint(ORIGIN, 5, ROOT)
    own = note.parse(signed(checkpoint)).signatures[0]
    cosigner = note.NoteSignature("witness.example.com/w1", b"\x8d\x66\xcf\x3f", bytes(72))
    same_name = note.NoteSignature(ORIGIN, b"\x00\x00\x00\x00", bytes(64))
    data = note.serialize(checkpoint.text(), [cosigner, own, same_name])
    assert open_checkpoint(data, ORIGIN, LOG_KEY) == checkpoint


def test_a_checkpoint_needs_the_key_of_its_log() -> None:
    """Another key, another origin and no signature of the log are refused."""
    checkpoint = Checkpoint(ORIGIN, 5, ROOT)
    data = signed(checkpoint)
    other_key = PublicKey.from_spki(OTHER.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(SignatureError):
        open_checkpoint(data, ORIGIN, other_key)
    with pytest.raises(SignatureError):
        open_checkpoint(data, "example.com/other", LOG_KEY)
    forged = note.NoteSignature(ORIGIN, note.key_hash(ORIGIN, LOG_KEY.raw), OTHER.sign(checkpoint.text().encode()))
    with pytest.raises(SignatureError):
        open_checkpoint(note.serialize(checkpoint.text(), [forged]), ORIGIN, LOG_KEY)


def test_a_log_speaks_for_its_own_origin_only() -> None:
    """A genuine signature in the log's name does not make it the checkpoint of another log."""
    data = signed_text(Checkpoint("example.com/other", 5, ROOT).text())
    with pytest.raises(FormatError, match="another origin"):
        open_checkpoint(data, ORIGIN, LOG_KEY)


@pytest.mark.parametrize("origin", ["", "a b", "a\nb", "a+b", "\ud800"])
def test_impossible_origins_open_nothing(origin: str) -> None:
    """An origin is the name of a key, and a name that cannot be is refused as such."""
    with pytest.raises(FormatError):
        open_checkpoint(signed(Checkpoint(ORIGIN, 5, ROOT)), origin, LOG_KEY)
    with pytest.raises(FormatError):
        Checkpoint(origin, 5, ROOT)


def test_a_bad_signature_makes_no_note() -> None:
    """A note that nobody could open is not made."""
    checkpoint = Checkpoint(ORIGIN, 5, ROOT)
    with pytest.raises(SignatureError):
        checkpoint.signed(OTHER.sign(checkpoint.text().encode()), LOG_KEY)
    with pytest.raises(SignatureError):
        checkpoint.signed(LOG.sign(checkpoint.text().encode())[:-1], LOG_KEY)


ROOT_LINE = base64.b64encode(ROOT).decode()
MALFORMED = {
    "two lines": f"{ORIGIN}\n5\n",
    "extension line": f"{ORIGIN}\n5\n{ROOT_LINE}\nextension\n",
    "blank line at the end": f"{ORIGIN}\n5\n{ROOT_LINE}\n\n",
    "empty origin": f"\n5\n{ROOT_LINE}\n",
    "empty size": f"{ORIGIN}\n\n{ROOT_LINE}\n",
    "empty root": f"{ORIGIN}\n5\n\n",
    "leading zero": f"{ORIGIN}\n05\n{ROOT_LINE}\n",
    "negative": f"{ORIGIN}\n-5\n{ROOT_LINE}\n",
    "sign": f"{ORIGIN}\n+5\n{ROOT_LINE}\n",
    "hexadecimal": f"{ORIGIN}\n0x5\n{ROOT_LINE}\n",
    "other digits": f"{ORIGIN}\n\N{ARABIC-INDIC DIGIT FIVE}\n{ROOT_LINE}\n",
    "space": f"{ORIGIN}\n5 \n{ROOT_LINE}\n",
    "2**63": f"{ORIGIN}\n{2**63}\n{ROOT_LINE}\n",
    "many digits": f"{ORIGIN}\n{'9' * 10_000}\n{ROOT_LINE}\n",
    "short root": f"{ORIGIN}\n5\n{base64.b64encode(ROOT[:31]).decode()}\n",
    "long root": f"{ORIGIN}\n5\n{base64.b64encode(ROOT + b'x').decode()}\n",
    "root without padding": f"{ORIGIN}\n5\n{ROOT_LINE[:-1]}\n",
    "URL-safe root": f"{ORIGIN}\n5\n{ROOT_LINE.replace('/', '_')}\n",
    "trailing bits in root": f"{ORIGIN}\n5\n{ROOT_LINE[:-2]}J=\n",
    "hexadecimal root": f"{ORIGIN}\n5\n{ROOT.hex()}\n",
    "size 0 with a root": f"{ORIGIN}\n0\n{ROOT_LINE}\n",
    "space before origin": f" {ORIGIN}\n5\n{ROOT_LINE}\n",
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_checkpoints_are_refused_although_signed(text: str) -> None:
    """A tree head has one spelling, whoever signs another."""
    with pytest.raises(FormatError):
        open_checkpoint(signed_text(text), ORIGIN, LOG_KEY)


@pytest.mark.parametrize("size", [-1, 2**63])
def test_sizes_no_reader_accepts_are_not_written(size: int) -> None:
    """A checkpoint outside the range cannot be made."""
    with pytest.raises(FormatError, match="tree size"):
        Checkpoint(ORIGIN, size, ROOT)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_roots_are_32_bytes(length: int) -> None:
    """A checkpoint with another root cannot be made."""
    with pytest.raises(FormatError, match="root of 32 bytes"):
        Checkpoint(ORIGIN, 5, bytes(length))
