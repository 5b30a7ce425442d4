"""DSSE: the encoding that is signed, the envelope and the log entry."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib import dsse as oracle
from securesystemslib.signer._signature import Signature as OracleSignature

from key_registry.dsse import Envelope, Signature, pae
from key_registry.errors import FormatError
from key_registry.public_key import PublicKey

TYPE = "http://example.com/HelloWorld"
A, B = "0a" * 32, "b0" * 32

ENVELOPES = st.builds(
    Envelope,
    st.text(min_size=1, max_size=20),
    st.binary(max_size=100),
    st.dictionaries(
        st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=80), min_size=1, max_size=4
    ).map(lambda signatures: tuple(Signature(key_id.hex(), value) for key_id, value in signatures.items())),
)


def test_the_example_of_the_specification() -> None:
    """The encoding is the one printed in protocol.md, and the printed P-256 signature verifies over it."""
    encoded = pae(TYPE, b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    point = ec.EllipticCurvePublicNumbers(
        46950820868899156662930047687818585632848591499744589407958293238635476079160,
        5640078356564379163099075877009565129882514886557779369047442380624545832820,
        ec.SECP256R1(),
    )
    spki = point.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signature = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
    PublicKey.from_spki(spki).verify(base64.b64decode(signature), encoded)


@given(ENVELOPES)
def test_agreement_with_securesystemslib(envelope: Envelope) -> None:
    """The encoding and the object are those of another implementation, in both directions."""
    signatures = {one.key_id: OracleSignature(one.key_id, one.signature.hex()) for one in envelope.signatures}
    other = oracle.Envelope(envelope.body, envelope.payload_type, signatures)
    assert envelope.pae() == other.pae()
    assert envelope.to_object() == other.to_dict()
    assert oracle.Envelope.from_dict(json.loads(envelope.to_json())) == other
    assert Envelope.from_object(other.to_dict()) == envelope


@given(ENVELOPES)
def test_every_envelope_comes_back(envelope: Envelope) -> None:
    """JSON and object give the same envelope, also after somebody else spelled the JSON in another way."""
    assert Envelope.from_json(envelope.to_json()) == envelope
    respelt = json.dumps(envelope.to_object(), indent=2).encode() + b"\n"
    assert Envelope.from_json(respelt) == envelope
    assert Envelope.from_json(respelt).entry() == envelope.entry()


@given(st.text(min_size=1), st.binary(), st.text(min_size=1), st.binary())
def test_no_two_messages_have_one_encoding(type_a: str, body_a: bytes, type_b: str, body_b: bytes) -> None:
    """The encoding is unambiguous, also when a body imitates the framing."""
    assert (pae(type_a, body_a) == pae(type_b, body_b)) == ((type_a, body_a) == (type_b, body_b))
    imitation = pae(type_a, body_a)
    assert pae(type_a, imitation) != imitation


def test_the_type_is_counted_in_bytes() -> None:
    """The length of the type is that of its UTF-8 bytes."""
    assert pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


@pytest.mark.parametrize("payload_type", ["", "a\ud800"])
def test_impossible_types_are_refused(payload_type: str) -> None:
    """There is no encoding, and no envelope, without a type that UTF-8 can write."""
    with pytest.raises(FormatError, match="payload type"):
        pae(payload_type, b"")
    with pytest.raises(FormatError, match="payload type"):
        Envelope(payload_type, b"", ())


def test_the_entry_of_an_envelope() -> None:
    """The entry is the encoding and then every key id, length and signature, in the order of the key ids."""
    envelope = Envelope(TYPE, b"body", (Signature(B, b"second"), Signature(A, b"first!!")))
    expected = envelope.pae() + b"\x0a" * 32 + b"\x00\x07first!!" + b"\xb0" * 32 + b"\x00\x06second"
    assert envelope.entry() == expected
    assert Envelope(TYPE, b"body", envelope.signatures[::-1]).entry() == expected


def test_the_order_of_signatures_makes_no_other_envelope() -> None:
    """Signatures are held by key id, so one set of them has one JSON."""
    one, two = Signature(A, b"1"), Signature(B, b"2")
    assert Envelope(TYPE, b"", (two, one)).signatures == (one, two)
    assert Envelope(TYPE, b"", (two, one)).to_json() == Envelope(TYPE, b"", (one, two)).to_json()


def test_two_signatures_of_one_key_are_refused() -> None:
    """A key signs an envelope once."""
    with pytest.raises(FormatError, match="two by the same"):
        Envelope(TYPE, b"", (Signature(A, b"1"), Signature(A, b"2")))


def test_an_unsigned_envelope_is_no_entry() -> None:
    """Before the first signature there is an encoding to sign, but nothing to log or read back."""
    unsigned = Envelope(TYPE, b"body", ())
    assert unsigned.pae() == pae(TYPE, b"body")
    with pytest.raises(FormatError, match="without signatures"):
        unsigned.entry()
    with pytest.raises(FormatError, match="at least one"):
        Envelope.from_json(unsigned.to_json())


@pytest.mark.parametrize(
    "key_id",
    ["", "0a" * 31, "0a" * 33, "0A" * 32, "0a" * 31 + "\n0", "0g" * 32, "\N{ARABIC-INDIC DIGIT ZERO}" * 64],
)
def test_key_ids_have_one_spelling(key_id: str) -> None:
    """A key id is 64 lower-case hex digits."""
    with pytest.raises(FormatError, match="key id"):
        Signature(key_id, b"x")


@pytest.mark.parametrize("length", [0, 65_536])
def test_signatures_fit_their_length_field(length: int) -> None:
    """The entry has two bytes for the length of a signature."""
    with pytest.raises(FormatError, match="1 to 65535 bytes"):
        Signature(A, bytes(length))


def test_the_longest_signature_is_logged_whole() -> None:
    """65,535 bytes are written with their length."""
    assert Envelope(TYPE, b"", (Signature(A, bytes(65_535)),)).entry().endswith(b"\xff\xff" + bytes(65_535))


def spelled(**changes: Any) -> dict[str, Any]:
    """Return an envelope object with members replaced, or removed where the value is Ellipsis."""
    whole: dict[str, Any] = {
        "payload": "+/8=",
        "payloadType": TYPE,
        "signatures": [{"keyid": A, "sig": "+/8="}],
    }
    return {name: value for name, value in {**whole, **changes}.items() if value is not ...}


def test_the_url_safe_alphabet_is_read() -> None:
    """Both alphabets of DSSE give the same envelope, which is written in the standard one."""
    url_safe = spelled(payload="-_8=", signatures=[{"keyid": A, "sig": "-_8="}])
    assert Envelope.from_object(url_safe) == Envelope.from_object(spelled())
    assert Envelope.from_object(url_safe).to_object() == spelled()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        [],
        {},
        spelled(payload=...),
        spelled(payloadType=...),
        spelled(signatures=...),
        spelled(extra=""),
        spelled(payload=None),
        spelled(payload=[]),
        spelled(payload="+_8="),
        spelled(payload="+/8"),
        spelled(payload="+/9="),
        spelled(payload="+/8=\n"),
        spelled(payloadType=None),
        spelled(payloadType=""),
        spelled(signatures=None),
        spelled(signatures={}),
        spelled(signatures=[]),
        spelled(signatures="ab"),
        spelled(signatures=[None]),
        spelled(signatures=[{"keyid": A}]),
        spelled(signatures=[{"sig": "QQ=="}]),
        spelled(signatures=[{"keyid": A, "sig": "QQ==", "cert": ""}]),
        spelled(signatures=[{"keyid": None, "sig": "QQ=="}]),
        spelled(signatures=[{"keyid": A, "sig": None}]),
        spelled(signatures=[{"keyid": A, "sig": ""}]),
        spelled(signatures=[{"keyid": A, "sig": "QQ"}]),
        spelled(signatures=[{"keyid": A, "sig": "QQ=="}, {"keyid": A, "sig": "QQ=="}]),
    ],
)
def test_other_objects_are_refused(value: Any) -> None:
    """An envelope has exactly its members, of their types, in strict base64."""
    with pytest.raises(FormatError):
        Envelope.from_object(value)
    with pytest.raises(FormatError):
        Envelope.from_json(json.dumps(value).encode())


def test_a_member_given_twice_is_refused() -> None:
    """No reader can be shown another payload than the one that another reader sees."""
    twice = json.dumps(spelled()).encode().replace(b'{"payload"', b'{"payload": "QQ==", "payload"', 1)
    with pytest.raises(FormatError, match="duplicate"):
        Envelope.from_json(twice)
