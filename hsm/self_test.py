"""The self-test signature: a proof that a key in the token is the one that its public key says.

The message can be nothing else: a DSSE pre-authentication encoding begins with "DSSEv1 ", a signed note with
its origin, and this one with neither.
"""

import os

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from hsm.errors import Fault, HsmError
from hsm.key import SIGNATURE_LENGTH, KeyRef

_PREFIX = b"witness-service hsm self-test v1\n"


def message() -> bytes:
    """Return a message that nobody has seen before: a stored answer cannot pass for a signature."""
    return _PREFIX + os.urandom(32)


def verify(key: KeyRef, signed: bytes, signature: bytes) -> None:
    """Check a raw signature in software.

    Raises:
        HsmError: WRONG_RESULT when it is not one by this key over this message; CONFIGURATION when the public
            key is none.
    """
    try:
        public_key = load_der_public_key(key.public_key)
    except ValueError:
        raise HsmError(
            Fault.CONFIGURATION,
            f"CKA_ID {key.cka_id.hex()}: expected a DER SubjectPublicKeyInfo to compare with",
        ) from None
    try:
        if len(signature) != SIGNATURE_LENGTH:
            raise InvalidSignature
        if isinstance(public_key, Ed25519PublicKey):
            public_key.verify(signature, signed)
        elif isinstance(public_key, EllipticCurvePublicKey):
            r, s = (int.from_bytes(half) for half in (signature[:32], signature[32:]))
            public_key.verify(encode_dss_signature(r, s), signed, ECDSA(SHA256()))
        else:
            raise InvalidSignature
    except InvalidSignature:
        raise HsmError(
            Fault.WRONG_RESULT,
            f"CKA_ID {key.cka_id.hex()}: the self-test signature does not verify; do not use this key",
        ) from None
