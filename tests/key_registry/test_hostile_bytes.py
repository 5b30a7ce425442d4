"""Arbitrary and damaged bytes: a refusal of this package, or exactly what was accepted."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from key_registry import canonical_json, note
from key_registry.checkpoint import Checkpoint, open_checkpoint
from key_registry.dsse import Envelope, Signature
from key_registry.errors import FormatError, SignatureError
from key_registry.public_key import PublicKey
from key_registry.tlog_proof import TlogProof

LOG = Ed25519PrivateKey.from_private_bytes(b"log key for the hostile bytes   ")
LOG_SPKI = LOG.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
LOG_KEY = PublicKey.from_spki(LOG_SPKI)
P256_SPKI = (
    ec.derive_private_key(11, ec.SECP256R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)
ORIGIN = "example.com/log"
CHECKPOINT = Checkpoint(ORIGIN, 5, bytes(range(32)))
CHECKPOINT_NOTE = CHECKPOINT.signed(LOG.sign(CHECKPOINT.text().encode()), LOG_KEY)
ENVELOPE = Envelope("application/x", b"body", (Signature("0a" * 32, bytes(64)),))
PROOF = TlogProof(3, (bytes(32), bytes(32)), CHECKPOINT_NOTE, ENVELOPE.to_json())


def reread_json(data: bytes) -> bytes:
    return canonical_json.encode(canonical_json.decode(data))


def reread_note(data: bytes) -> bytes:
    parsed = note.parse(data)
    return note.serialize(parsed.text, parsed.signatures)


def reread_checkpoint(data: bytes) -> bytes:
    """The log signed one checkpoint, so no other can open."""
    assert open_checkpoint(data, ORIGIN, LOG_KEY) == CHECKPOINT
    return CHECKPOINT_NOTE


def reread_proof(data: bytes) -> bytes:
    return TlogProof.parse(data).to_bytes()


def reread_key(data: bytes) -> bytes:
    return PublicKey.from_spki(data).spki


def reread_envelope(data: bytes) -> bytes:
    """The JSON of an envelope has many spellings, so the envelope is compared and not the bytes."""
    envelope = Envelope.from_json(data)
    assert Envelope.from_json(envelope.to_json()) == envelope
    return data


READERS: dict[str, tuple[Callable[[bytes], bytes], bytes]] = {
    "canonical_json": (reread_json, canonical_json.encode({"a": ["b", None, {"c": "\n€"}], "d": {}})),
    "note": (reread_note, CHECKPOINT_NOTE),
    "checkpoint": (reread_checkpoint, CHECKPOINT_NOTE),
    "tlog_proof": (reread_proof, PROOF.to_bytes()),
    "ed25519": (reread_key, LOG_SPKI),
    "ecdsa-p256": (reread_key, P256_SPKI),
    "envelope": (reread_envelope, ENVELOPE.to_json()),
}


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Return data with up to three places cut, doubled, overwritten or filled."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(result)))
        end = draw(st.integers(begin, min(len(result), begin + 8)))
        filling = draw(
            st.binary(max_size=3)
            | st.sampled_from([b"\n", b"\n\n", b" ", b'"', b"{", b"[", b"\\ud800", b"0", b"=", b"+", "—".encode()])
            | st.just(bytes(result[begin:end]) * 2)
        )
        result[begin:end] = filling
    return bytes(result)


def check(read: Callable[[bytes], bytes], data: bytes) -> None:
    try:
        reread = read(data)
    except (FormatError, SignatureError):
        return
    assert reread == data


@pytest.mark.parametrize("name", READERS)
def test_the_samples_are_accepted(name: str) -> None:
    """The bytes that are damaged below are good before."""
    read, valid = READERS[name]
    assert read(valid) == valid


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@settings(max_examples=100)
def test_damaged_bytes(name: str, data: st.DataObject) -> None:
    """Whatever was done to good bytes, they are refused, or have one spelling and are read back the same."""
    read, valid = READERS[name]
    check(read, data.draw(damaged(valid)))


@pytest.mark.parametrize("name", READERS)
@given(data=st.binary(max_size=400))
@settings(max_examples=40)
def test_arbitrary_bytes(name: str, data: bytes) -> None:
    """Bytes from nowhere are refused, or have one spelling and are read back the same."""
    check(READERS[name][0], data)


@pytest.mark.parametrize("name", READERS)
def test_every_truncation(name: str) -> None:
    """No beginning of good bytes is taken for something else."""
    read, valid = READERS[name]
    for end in range(len(valid)):
        check(read, valid[:end])


@given(st.binary(max_size=130), st.binary(max_size=20))
def test_arbitrary_signatures(signature: bytes, message: bytes) -> None:
    """No signature from nowhere verifies, and none breaks the verifier."""
    for spki in (LOG_SPKI, P256_SPKI):
        with pytest.raises(SignatureError):
            PublicKey.from_spki(spki).verify(signature, message)
