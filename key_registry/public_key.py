"""The public keys that can be judged: Ed25519 and ECDSA P-256, each in exactly one DER spelling.

A key id is a hash of the DER bytes, so a second spelling of a key would give it a second key id.
"""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from key_registry.errors import FormatError, SignatureError, UnsupportedAlgorithm

ED25519 = "ed25519"
ECDSA_P256 = "ecdsa-p256"

SIGNATURE_LENGTH = 64

_ED25519_OID = bytes.fromhex("06032b6570")
_EC_OID = bytes.fromhex("06072a8648ce3d0201")
_P256_OID = bytes.fromhex("06082a8648ce3d030107")
_ED25519_PREFIX = bytes.fromhex("302a3005") + _ED25519_OID + bytes.fromhex("032100")
_P256_PREFIX = bytes.fromhex("30593013") + _EC_OID + _P256_OID + bytes.fromhex("03420004")

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ECDSA_SHA256 = ECDSA(SHA256())

_FIELD = 2**255 - 19
_EDWARDS_D = -121665 * pow(121666, -1, _FIELD) % _FIELD
_ORDER_8_Y = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# The y of the eight points whose order divides eight. The sign bit of x makes a small-order point either way.
_SMALL_ORDER_Y = frozenset({0, 1, _FIELD - 1, _ORDER_8_Y, _FIELD - _ORDER_8_Y})


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key; made by from_spki, which checks it.

    Attributes:
        spki: DER SubjectPublicKeyInfo, 44 or 91 bytes.
        algorithm: "ed25519" or "ecdsa-p256".
        key_id: hex SHA-256 of spki.
        raw: 32 bytes of RFC 8032, or the uncompressed P-256 point of 65 bytes.
    """

    spki: bytes
    algorithm: str = field(compare=False)
    key_id: str = field(compare=False)
    raw: bytes = field(compare=False, repr=False)
    _key: Ed25519PublicKey | EllipticCurvePublicKey = field(compare=False, repr=False)

    @staticmethod
    def from_spki(der: bytes) -> "PublicKey":
        """Return the key of a DER SubjectPublicKeyInfo (RFC 8410 section 4, RFC 5480 section 2).

        Raises:
            UnsupportedAlgorithm: a well-formed key of another algorithm or curve.
            FormatError: any other bytes, a point that is not on the curve, or an Ed25519 point of small order
                or with a y that is not reduced.
        """
        return _load(bytes(der))

    @staticmethod
    def from_ed25519(raw: bytes) -> "PublicKey":
        """Return the Ed25519 key of 32 bytes (RFC 8032 section 5.1.5); raises FormatError."""
        if len(raw) != 32:
            raise FormatError(f"expected an Ed25519 key of 32 bytes, got {len(raw)}")
        return _load(_ED25519_PREFIX + raw)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise SignatureError unless signature is this key's over message.

        Args:
            signature: 64 bytes: R || S of RFC 8032, or big-endian r || s of ECDSA with SHA-256.
            message: the signed bytes, not their hash.
        """
        if len(signature) != SIGNATURE_LENGTH:
            raise SignatureError(f"expected a signature of {SIGNATURE_LENGTH} bytes, got {len(signature)}")
        try:
            if isinstance(self._key, Ed25519PublicKey):
                self._key.verify(signature, message)
            else:
                self._key.verify(_der_signature(signature), message, _ECDSA_SHA256)
        except InvalidSignature:
            raise SignatureError("expected a signature by this key over this message, got another") from None


def _der_signature(signature: bytes) -> bytes:
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    if not (0 < r < _P256_ORDER and 0 < s < _P256_ORDER):
        raise SignatureError("expected r and s from 1 to the curve's order - 1, got a number outside")
    return encode_dss_signature(r, s)


@lru_cache(maxsize=4096)
def _load(der: bytes) -> PublicKey:
    key: Ed25519PublicKey | EllipticCurvePublicKey
    if len(der) == 44 and der.startswith(_ED25519_PREFIX):
        algorithm, raw = ED25519, der[-32:]
        _check_ed25519_point(raw)
        key = Ed25519PublicKey.from_public_bytes(raw)
    elif len(der) == 91 and der.startswith(_P256_PREFIX):
        algorithm, raw = ECDSA_P256, der[-65:]
        try:
            key = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), raw)
        except ValueError:
            raise FormatError("expected a point on the curve P-256, got another") from None
    elif _is_other_algorithm(der):
        raise UnsupportedAlgorithm("expected an Ed25519 or ECDSA P-256 public key, got another algorithm")
    else:
        raise FormatError("expected a public key in DER (Ed25519, or P-256 uncompressed), got other bytes")
    return PublicKey(der, algorithm, hashlib.sha256(der).hexdigest(), raw, key)


def _check_ed25519_point(raw: bytes) -> None:
    """Refuse a key under which one signature fits many messages, or that programs read differently.

    OpenSSL takes all of these. RFC 8032 section 5.1.3 refuses a y not reduced and a point off the curve.
    """
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _FIELD:
        raise FormatError("expected an Ed25519 point with y below 2**255 - 19, got a larger y")
    if y in _SMALL_ORDER_Y:
        raise FormatError("expected an Ed25519 point of large order, got one of small order")
    # On the curve x**2 is u / v, and u / v has a root exactly when u * v has one (Euler's criterion).
    u, v = y * y - 1, _EDWARDS_D * y * y + 1
    if pow(u * v, (_FIELD - 1) // 2, _FIELD) != 1:
        raise FormatError("expected a point on the Ed25519 curve, got another")


def _is_other_algorithm(der: bytes) -> bool:
    """Tell whether der is SEQUENCE { SEQUENCE { OID, ... }, BIT STRING } with none of our algorithms."""
    outer, after = _der_element(der, 0x30)
    identifier, bits = _der_element(outer, 0x30)
    oid, parameters = _der_element(identifier, 0x06)
    key, after_key = _der_element(bits, 0x03)
    if not oid or not key or after or after_key:
        return False
    if identifier.startswith(_EC_OID):
        curve, after_curve = _der_element(parameters, 0x06)
        return bool(curve) and not after_curve and parameters != _P256_OID
    return not identifier.startswith(_ED25519_OID)


def _der_element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Return the content and what follows; no content when data does not start with an element of tag."""
    if len(data) < 2 or data[0] != tag:
        return b"", data
    start, length = 2, data[1]
    if length >= 0x80:
        start += length - 0x80
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        return b"", data
    return data[start : start + length], data[start + length :]
