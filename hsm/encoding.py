"""Public keys between PKCS#11 and DER: CKA_EC_PARAMS, CKA_EC_POINT and SubjectPublicKeyInfo.

Tokens disagree on the form of CKA_EC_POINT. The form is decided by the exact length: trying DER first and raw
bytes second would read a raw Ed25519 key that happens to start with 04 20 as another key.
"""

from hsm.errors import Fault, HsmError
from hsm.key import Algorithm

EC_PARAMS = {
    Algorithm.ED25519: bytes.fromhex("06032b6570"),
    Algorithm.ECDSA_P256: bytes.fromhex("06082a8648ce3d030107"),
}
"""CKA_EC_PARAMS for key generation: the curve's object identifier (RFC 8410, RFC 5480)."""

# AlgorithmIdentifier and BIT STRING header are constants for a fixed curve; python-pkcs11 has a function for
# it, which builds a wrong SubjectPublicKeyInfo for Edwards keys.
_SPKI_PREFIX = {
    Algorithm.ED25519: bytes.fromhex("302a300506032b6570032100"),
    Algorithm.ECDSA_P256: bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200"),
}

_POINT_LENGTH = {Algorithm.ED25519: 32, Algorithm.ECDSA_P256: 65}

_WRAPPINGS = {
    Algorithm.ED25519: (b"", bytes.fromhex("0420"), bytes.fromhex("032100")),
    Algorithm.ECDSA_P256: (b"", bytes.fromhex("0441")),
}
"""What may stand before the point: nothing, a DER OCTET STRING header, a DER BIT STRING header."""


def spki(algorithm: Algorithm, ec_point: bytes) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a public key in a token.

    Args:
        algorithm: of the key.
        ec_point: CKA_EC_POINT. Ed25519: 32 bytes raw, 34 as OCTET STRING or 35 as BIT STRING. P-256: the
            uncompressed point, 65 bytes raw or 67 as OCTET STRING.

    Raises:
        HsmError: CONFIGURATION, for any other form.
    """
    for wrapping in _WRAPPINGS[algorithm]:
        if len(ec_point) == len(wrapping) + _POINT_LENGTH[algorithm] and ec_point.startswith(wrapping):
            point = ec_point[len(wrapping) :]
            break
    else:
        raise _unknown_form(algorithm, ec_point)
    if algorithm is Algorithm.ECDSA_P256 and point[0] != 4:
        raise _unknown_form(algorithm, ec_point)
    return _SPKI_PREFIX[algorithm] + point


def _unknown_form(algorithm: Algorithm, ec_point: bytes) -> HsmError:
    lengths = " or ".join(str(len(wrapping) + _POINT_LENGTH[algorithm]) for wrapping in _WRAPPINGS[algorithm])
    return HsmError(
        Fault.CONFIGURATION,
        f"expected CKA_EC_POINT of an {algorithm} key in {lengths} bytes, got {len(ec_point)} bytes "
        f"starting with {ec_point[:3].hex() or 'nothing'}",
    )
