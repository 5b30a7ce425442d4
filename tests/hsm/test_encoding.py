"""Public keys between CKA_EC_POINT and SubjectPublicKeyInfo."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from hypothesis import given
from hypothesis import strategies as st

from hsm import Algorithm, Fault, HsmError
from hsm.encoding import spki

FORMS = {
    Algorithm.ED25519: {32: b"", 34: b"\x04\x20", 35: b"\x03\x21\x00"},
    Algorithm.ECDSA_P256: {65: b"\x04", 67: b"\x04\x41\x04"},
}
"""How long CKA_EC_POINT may be, and how it then begins."""


@given(seed=st.binary(min_size=32, max_size=32))
def test_every_form_of_an_ed25519_key_gives_the_spki_that_cryptography_writes(seed: bytes) -> None:
    """Raw, OCTET STRING and BIT STRING: the same SubjectPublicKeyInfo, the one OpenSSL makes."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key()
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    expected = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for point in (raw, b"\x04\x20" + raw, b"\x03\x21\x00" + raw):
        assert spki(Algorithm.ED25519, point) == expected


@given(secret=st.integers(min_value=1, max_value=2**255))
def test_every_form_of_a_p256_key_gives_the_spki_that_cryptography_writes(secret: int) -> None:
    """Raw and OCTET STRING: the same SubjectPublicKeyInfo, the one OpenSSL makes."""
    key = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
    raw = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    expected = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for point in (raw, b"\x04\x41" + raw):
        assert spki(Algorithm.ECDSA_P256, point) == expected


def test_a_raw_key_that_looks_like_der_is_read_as_raw() -> None:
    """The length decides: 32 bytes that begin like an OCTET STRING are a key all the same."""
    raw = bytes.fromhex("041e") + bytes(30)
    assert spki(Algorithm.ED25519, raw).endswith(raw)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_every_other_form_is_refused(algorithm: Algorithm) -> None:
    """Every length with every beginning: taken when it is one of the forms, else refused and described."""
    for length in range(140):
        for beginning in (b"", b"\x04", b"\x04\x20", b"\x03\x21\x00", b"\x04\x41", b"\x04\x41\x04"):
            point = beginning.ljust(length, b"\0")[:length]
            if any(length == n and point.startswith(start) for n, start in FORMS[algorithm].items()):
                assert spki(algorithm, point)
            else:
                with pytest.raises(HsmError, match=f"got {length} bytes") as caught:
                    spki(algorithm, point)
                assert caught.value.fault is Fault.CONFIGURATION


def test_a_compressed_or_wrongly_marked_p256_point_is_refused() -> None:
    """Only the uncompressed form, 04 || x || y, is a point."""
    for point in (b"\x02" + bytes(32), b"\x05" + bytes(64), b"\x04\x41\x05" + bytes(64)):
        with pytest.raises(HsmError, match="CKA_EC_POINT of an ecdsa-p256 key"):
            spki(Algorithm.ECDSA_P256, point)


def test_the_two_prefixes_are_complete_der() -> None:
    """The hand-written constants parse as keys of their algorithm, with nothing left over."""
    generator = ec.derive_private_key(1, ec.SECP256R1()).public_key()
    point = generator.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert load_der_public_key(spki(Algorithm.ECDSA_P256, point)) == generator
    assert isinstance(load_der_public_key(spki(Algorithm.ED25519, bytes(32))), ed25519.Ed25519PublicKey)
