"""Public keys as DER SubjectPublicKeyInfo, and their signatures (docs/format.md, "Keys and signatures")."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from .forms import Unsupported, require

ED25519_PREFIX = bytes.fromhex("302a300506032b6570032100")
P256_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
ED25519_OID, EC_OID, P256_OID = (bytes.fromhex(oid) for oid in ("2b6570", "2a8648ce3d0201", "2a8648ce3d030107"))

# Curve25519 in its Edwards form: -x^2 + y^2 = 1 + d x^2 y^2 (RFC 8032 section 5.1).
ED_P = 2**255 - 19
ED_D = -121665 * pow(121666, -1, ED_P) % ED_P
ED_ROOT_OF_MINUS_ONE = pow(2, (ED_P - 1) // 4, ED_P)

P256_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class Key:
    """A public key: its algorithm, its DER bytes, and the bytes of the point alone."""

    algorithm: str
    der: bytes
    point: bytes

    @property
    def key_id(self) -> str:
        return hashlib.sha256(self.der).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Say whether it is this key's signature over the message."""
        if len(signature) != 64:
            return False
        check = _verify_ed25519 if self.algorithm == "ed25519" else _verify_p256
        try:
            return check(self.point, signature, message)
        except (InvalidSignature, ValueError):
            return False


def read_key(der: bytes) -> Key:
    """Read a public key; raise Unsupported for one of another algorithm, Malformed for anything else."""
    if der.startswith(ED25519_PREFIX) and len(der) == len(ED25519_PREFIX) + 32:
        return ed25519_key(der[len(ED25519_PREFIX) :])
    if der.startswith(P256_PREFIX) and len(der) == len(P256_PREFIX) + 65:
        point = der[len(P256_PREFIX) :]
        require(_on_p256(point), "an uncompressed point of P-256")
        return Key("ecdsa-p256", der, point)
    raise _another_algorithm(der)


def ed25519_key(point: bytes) -> Key:
    """Return the key of the 32 bytes of RFC 8032."""
    require(len(point) == 32 and _ed25519_usable(point), "a point of Ed25519 that is not of small order")
    return Key("ed25519", ED25519_PREFIX + point, point)


def _verify_ed25519(point: bytes, signature: bytes, message: bytes) -> bool:
    # The library checks S < L and the equation without cofactor.
    ed25519.Ed25519PublicKey.from_public_bytes(point).verify(signature, message)
    return True


def _verify_p256(point: bytes, signature: bytes, message: bytes) -> bool:
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (1 <= r < P256_ORDER and 1 <= s < P256_ORDER):
        return False
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    return True


def _on_p256(point: bytes) -> bool:
    x, y = int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big")
    return point[0] == 4 and x < P256_P and y < P256_P and (y * y - x**3 + 3 * x - P256_B) % P256_P == 0


def _ed25519_usable(point: bytes) -> bool:
    encoded = int.from_bytes(point, "little")
    sign, y = encoded >> 255, encoded % 2**255
    if y >= ED_P:
        return False
    square = (y * y - 1) * pow(ED_D * y * y + 1, -1, ED_P) % ED_P
    x = pow(square, (ED_P + 3) // 8, ED_P)
    if (x * x - square) % ED_P:
        x = x * ED_ROOT_OF_MINUS_ONE % ED_P
    if (x * x - square) % ED_P or (x == 0 and sign):
        return False
    for _ in range(3):
        x, y = _doubled(x, y)
    # Eight times a point of small order is the neutral element (0, 1).
    return (x, y) != (0, 1)


def _doubled(x: int, y: int) -> tuple[int, int]:
    product = ED_D * x * x * y * y % ED_P
    return (
        2 * x * y * pow(1 + product, -1, ED_P) % ED_P,
        (y * y + x * x) * pow(1 - product, -1, ED_P) % ED_P,
    )


def _another_algorithm(der: bytes) -> Exception:
    """Say what DER is that is neither of the two: a SubjectPublicKeyInfo of another algorithm, or nothing."""
    info, after_info = _element(der, 0x30)
    identifier, key = _element(info, 0x30)
    oid, parameters = _element(identifier, 0x06)
    bits, after_bits = _element(key, 0x03)
    require(oid and bits and not after_info and not after_bits, "a SubjectPublicKeyInfo")
    if oid == EC_OID:
        curve, after_curve = _element(parameters, 0x06)
        require(curve and not after_curve and curve != P256_OID, "a named curve other than P-256")
    require(oid != ED25519_OID, "the one spelling of an Ed25519 key")
    return Unsupported("a public key of an algorithm that is not supported")


def _element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Return the content of the DER element at the start, and what is behind it."""
    require(len(data) >= 2 and data[0] == tag, "a DER element")
    start, length = 2, data[1]
    if length >= 0x80:
        start = 2 + length - 0x80
        length = int.from_bytes(data[2:start], "big")
    require(len(data) >= start + length, "a whole DER element")
    return data[start : start + length], data[start + length :]
