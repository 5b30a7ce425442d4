"""Public keys: one spelling each, sound points only, and signatures of exactly one form."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from key_registry.errors import FormatError, SignatureError, UnsupportedAlgorithm
from key_registry.public_key import PublicKey

ED25519_PRIVATE = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
P256_PRIVATE = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())
ED25519_PREFIX = bytes.fromhex("302a300506032b6570032100")
P256_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_FIELD = 2**256 - 2**224 + 2**192 + 2**96 - 1
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
FIELD = 2**255 - 19


def spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


ED25519_SPKI = spki(ED25519_PRIVATE.public_key())
P256_SPKI = spki(P256_PRIVATE.public_key())


def p256_sign(message: bytes) -> bytes:
    r, s = decode_dss_signature(P256_PRIVATE.sign(message, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def test_an_ed25519_key_is_taken_apart() -> None:
    """The key id is the hash of the DER bytes and raw is the 32 bytes of RFC 8032."""
    key = PublicKey.from_spki(ED25519_SPKI)
    assert (key.algorithm, key.spki, key.raw) == ("ed25519", ED25519_SPKI, ED25519_SPKI[12:])
    assert key.key_id == hashlib.sha256(ED25519_SPKI).hexdigest()
    assert key == PublicKey.from_spki(bytes(bytearray(ED25519_SPKI)))


def test_a_p256_key_is_taken_apart() -> None:
    """The raw key is the uncompressed point."""
    key = PublicKey.from_spki(P256_SPKI)
    assert (key.algorithm, key.spki, key.raw) == ("ecdsa-p256", P256_SPKI, P256_SPKI[26:])
    assert key.raw[0] == 4
    assert key.key_id == hashlib.sha256(P256_SPKI).hexdigest()
    assert key != PublicKey.from_spki(ED25519_SPKI)


@given(st.binary(max_size=300))
def test_signatures_of_both_algorithms_verify(message: bytes) -> None:
    """A genuine signature passes over its own message and over no other."""
    for der, signature in ((ED25519_SPKI, ED25519_PRIVATE.sign(message)), (P256_SPKI, p256_sign(message))):
        key = PublicKey.from_spki(der)
        key.verify(signature, message)
        with pytest.raises(SignatureError):
            key.verify(signature, message + b"\x00")


def test_the_first_vectors_of_rfc_8032() -> None:
    """Section 7.1, TEST 1 and TEST 3."""
    vectors = [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ]
    for raw, message, signature in vectors:
        key = PublicKey.from_spki(ED25519_PREFIX + bytes.fromhex(raw))
        key.verify(bytes.fromhex(signature), bytes.fromhex(message))


@pytest.mark.parametrize("der", [ED25519_SPKI, P256_SPKI], ids=["ed25519", "ecdsa-p256"])
@pytest.mark.parametrize("length", [0, 1, 63, 65, 70, 71, 72, 128, 100_000])
def test_signatures_of_other_lengths_are_refused(der: bytes, length: int) -> None:
    """Only 64 bytes are a signature, so DER encoded ECDSA signatures are none."""
    with pytest.raises(SignatureError, match=f"64 bytes, got {length}"):
        PublicKey.from_spki(der).verify(bytes(length), b"message")


@pytest.mark.parametrize("bit", [0, 7, 200, 255, 256, 300, 511])
def test_a_flipped_bit_is_refused(bit: int) -> None:
    """Every part of the signature is covered."""
    for der, signature in ((ED25519_SPKI, ED25519_PRIVATE.sign(b"m")), (P256_SPKI, p256_sign(b"m"))):
        flipped = (int.from_bytes(signature, "big") ^ (1 << bit)).to_bytes(64, "big")
        with pytest.raises(SignatureError):
            PublicKey.from_spki(der).verify(flipped, b"m")


def test_ed25519_signatures_are_not_malleable() -> None:
    """S plus the group order, a second spelling of the signature, is refused (RFC 8032 section 5.1.7)."""
    signature = ED25519_PRIVATE.sign(b"m")
    larger = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    with pytest.raises(SignatureError):
        PublicKey.from_spki(ED25519_SPKI).verify(signature[:32] + larger.to_bytes(32, "little"), b"m")


def test_p256_numbers_outside_the_group_are_refused() -> None:
    """r and s are at least 1 and below the order; a number above it is not taken modulo the order."""
    key = PublicKey.from_spki(P256_SPKI)
    good = p256_sign(b"m")
    for bad in (0, P256_ORDER, P256_ORDER + 1, 2**256 - 1):
        for signature in (bad.to_bytes(32, "big") + good[32:], good[:32] + bad.to_bytes(32, "big")):
            with pytest.raises(SignatureError, match="r and s"):
                key.verify(signature, b"m")


def add(p: tuple[int, int], q: tuple[int, int]) -> tuple[int, int]:
    """Add two points of the Ed25519 curve (RFC 8032 section 5.1.4)."""
    d = -121665 * pow(121666, -1, FIELD)
    (x1, y1), (x2, y2) = p, q
    product = d * x1 * x2 * y1 * y2
    x = (x1 * y2 + y1 * x2) * pow(1 + product, -1, FIELD)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, FIELD)
    return x % FIELD, y % FIELD


def multiply(factor: int, p: tuple[int, int]) -> tuple[int, int]:
    result = (0, 1)
    for bit in f"{factor:b}":
        result = add(result, result)
        if bit == "1":
            result = add(result, p)
    return result


def point_of_order_eight() -> tuple[int, int]:
    """Multiply curve points by the order of the large subgroup until what is left generates the eight."""
    d = -121665 * pow(121666, -1, FIELD)
    for y in range(2, 100):
        square = (y * y - 1) * pow(d * y * y + 1, -1, FIELD) % FIELD
        x = pow(square, (FIELD + 3) // 8, FIELD)
        if x * x % FIELD != square:
            x = x * pow(2, (FIELD - 1) // 4, FIELD) % FIELD
        if x * x % FIELD != square:
            continue
        point = multiply(ED25519_ORDER, (x, y))
        if multiply(4, point) != (0, 1):
            return point
    raise AssertionError("no point of order eight below y = 100")


def small_order_encodings() -> set[bytes]:
    """Return every 32 bytes that some program decodes to a point of small order."""
    generator = point_of_order_eight()
    found = set()
    for factor in range(8):
        _, y = multiply(factor, generator)
        for spelling in (y, y + FIELD):
            for sign in (0, 1 << 255):
                if spelling < 2**255:
                    found.add((spelling | sign).to_bytes(32, "little"))
    return found


def test_ed25519_points_of_small_order_are_refused() -> None:
    """Neither the eight points whose order divides eight nor their other spellings can be a key."""
    encodings = small_order_encodings()
    assert len(encodings) == 14
    assert bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05") in encodings
    assert bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa") in encodings
    for encoding in encodings:
        with pytest.raises(FormatError, match=r"small order|larger y"):
            PublicKey.from_spki(ED25519_PREFIX + encoding)


def test_ed25519_coordinates_that_are_not_reduced_are_refused() -> None:
    """A y from 2**255 - 19 on is a second spelling of a point."""
    for excess in range(19):
        for sign in (0, 1 << 255):
            with pytest.raises(FormatError, match="larger y"):
                PublicKey.from_spki(ED25519_PREFIX + (FIELD + excess | sign).to_bytes(32, "little"))


def test_ed25519_points_off_the_curve_are_refused() -> None:
    """About half of all y belong to no point, such as 2 and 7; 3 is on the curve."""
    for y in (2, 7):
        with pytest.raises(FormatError, match="on the Ed25519 curve"):
            PublicKey.from_spki(ED25519_PREFIX + y.to_bytes(32, "little"))
    PublicKey.from_spki(ED25519_PREFIX + (3).to_bytes(32, "little"))


def test_p256_points_off_the_curve_are_refused() -> None:
    """The coordinates satisfy the curve equation and are reduced."""
    point = P256_SPKI[27:]
    x = 5
    y = pow(
        x**3 - 3 * x + 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
        (P256_FIELD + 1) // 4,
        P256_FIELD,
    )
    PublicKey.from_spki(P256_PREFIX + b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big"))
    not_reduced = (x + P256_FIELD).to_bytes(32, "big") + y.to_bytes(32, "big")
    for bad in (point[:-1] + bytes([point[-1] ^ 1]), bytes(64), b"\xff" * 64, not_reduced):
        with pytest.raises(FormatError, match="on the curve P-256"):
            PublicKey.from_spki(P256_PREFIX + b"\x04" + bad)


OTHER_SPELLINGS = {
    "empty": b"",
    "truncated": ED25519_SPKI[:-1],
    "trailing byte": ED25519_SPKI + b"\x00",
    "raw key": ED25519_SPKI[12:],
    "Ed25519 with NULL parameters": bytes.fromhex("302c300706032b65700500032100") + ED25519_SPKI[12:],
    "length in two bytes": bytes.fromhex("30812a") + ED25519_SPKI[2:],
    "indefinite length": b"\x30\x80" + ED25519_SPKI[2:] + b"\x00\x00",
    "unused bits": ED25519_SPKI[:11] + b"\x01" + ED25519_SPKI[12:],
    "P-256 compressed": P256_PRIVATE.public_key()
    .public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    .join([bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200"), b""]),
    "P-256 hybrid": P256_PREFIX + b"\x06" + P256_SPKI[27:],
    "P-256 without curve": bytes.fromhex("304f300906072a8648ce3d0201034200") + P256_SPKI[26:],
    "P-256 trailing byte": P256_SPKI + b"\x00",
    "P-256 bytes before the point": P256_PREFIX + b"\x04" + P256_SPKI[26:],
    "PEM": P256_PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
}


@pytest.mark.parametrize("der", OTHER_SPELLINGS.values(), ids=OTHER_SPELLINGS.keys())
def test_other_spellings_are_refused(der: bytes) -> None:
    """A key has one DER spelling and so one key id; the refusal is not mistaken for another algorithm."""
    with pytest.raises(FormatError) as refused:
        PublicKey.from_spki(der)
    assert not isinstance(refused.value, UnsupportedAlgorithm)


OTHER_ALGORITHMS: dict[str, PublicKeyTypes] = {
    "ed448": ed448.Ed448PrivateKey.generate().public_key(),
    "x25519": x25519.X25519PrivateKey.generate().public_key(),
    "p384": ec.generate_private_key(ec.SECP384R1()).public_key(),
    "secp256k1": ec.generate_private_key(ec.SECP256K1()).public_key(),
    "rsa": rsa.generate_private_key(65537, 1024).public_key(),
}


@pytest.mark.parametrize("key", OTHER_ALGORITHMS.values(), ids=OTHER_ALGORITHMS.keys())
def test_other_algorithms_are_told_apart_from_broken_keys(key: PublicKeyTypes) -> None:
    """A sound key that this version cannot judge is UnsupportedAlgorithm."""
    with pytest.raises(UnsupportedAlgorithm, match="another algorithm"):
        PublicKey.from_spki(spki(key))
    for broken in (spki(key)[:-1], spki(key) + b"\x00"):
        with pytest.raises(FormatError) as refused:
            PublicKey.from_spki(broken)
        assert not isinstance(refused.value, UnsupportedAlgorithm)
