"""Private keys in the token: generated with fixed attributes, found by CKA_ID, refused when anything differs.

Only a signer process imports this module.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from types import MappingProxyType

from pkcs11 import (
    Attribute,
    AttributeSensitive,
    AttributeTypeInvalid,
    KeyType,
    Mechanism,
    MechanismFlag,
    ObjectClass,
    PKCS11Error,
    PrivateKey,
    PublicKey,
    Session,
)

from hsm.encoding import EC_PARAMS, spki
from hsm.errors import Fault, HsmError, KeyAbsentError
from hsm.key import CKA_ID_LENGTH, SIGNATURE_LENGTH, Algorithm, GeneratedKey, KeyRef

_KEY_TYPE = {Algorithm.ED25519: KeyType.EC_EDWARDS, Algorithm.ECDSA_P256: KeyType.EC}

_KEY_GEN_MECHANISM = {
    Algorithm.ED25519: Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
    Algorithm.ECDSA_P256: Mechanism.EC_KEY_PAIR_GEN,
}

# Given explicitly, all of them: what a token takes for a default differs (one makes keys extractable).
_TEMPLATE: Mapping[Attribute, bool] = MappingProxyType(
    {
        Attribute.TOKEN: True,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.MODIFIABLE: False,
        Attribute.COPYABLE: False,
        Attribute.DESTROYABLE: True,
        Attribute.SIGN: True,
        Attribute.DECRYPT: False,
        Attribute.UNWRAP: False,
        Attribute.DERIVE: False,
        Attribute.SIGN_RECOVER: False,
    }
)

# What only the token can set: where the key comes from and what it has been since.
_ORIGIN = (Attribute.ALWAYS_SENSITIVE, Attribute.NEVER_EXTRACTABLE, Attribute.LOCAL)

Sign = Callable[[bytes], bytes]
"""Takes a message of any length, the empty one included; returns the raw signature, 64 bytes."""


def generate(session: Session, algorithm: Algorithm, label: str) -> GeneratedKey:
    """Generate a key pair with a random CKA_ID and check what the token made of it.

    The CKA_ID is chosen before: with CKA_MODIFIABLE false it could not be set afterwards, and labels are not
    unique.

    Args:
        session: read-write, of a process that is logged in.
        algorithm: of the key.
        label: CKA_LABEL of both halves, for people only.

    Raises:
        HsmError: CONFIGURATION when the token gave the key other attributes; it is destroyed again.
        PKCS11Error: what the module answered.
    """
    cka_id = os.urandom(CKA_ID_LENGTH)
    parameters = session.create_domain_parameters(
        _KEY_TYPE[algorithm], {Attribute.EC_PARAMS: EC_PARAMS[algorithm]}, local=True
    )
    public, private = parameters.generate_keypair(
        id=cka_id,
        label=label,
        store=True,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        mechanism=_KEY_GEN_MECHANISM[algorithm],
        public_template={Attribute.MODIFIABLE: False, Attribute.COPYABLE: False},
        private_template=dict(_TEMPLATE),
    )
    try:
        attributes = _checked_attributes(private, algorithm, cka_id)
        return GeneratedKey(cka_id, algorithm, spki(algorithm, public[Attribute.EC_POINT]), attributes)
    except (HsmError, PKCS11Error):
        for half in (private, public):
            with suppress(PKCS11Error):
                half.destroy()
        raise


def find(session: Session, ref: KeyRef) -> tuple[Sign, Mapping[str, str]]:
    """Find the private key of a CKA_ID, and refuse it when anything about it is not as it must be.

    Returns:
        How to sign with it in this session, and its attributes.

    Raises:
        KeyAbsentError: no private key with this CKA_ID is visible.
        HsmError: CONFIGURATION for several keys, another public key, or attributes that a key generated here
            does not have.
        PKCS11Error: what the module answered.
    """
    private, public = _only_pair(session, ref.cka_id)
    found = spki(ref.algorithm, public[Attribute.EC_POINT])
    if found != ref.public_key:
        raise _refused(
            ref.cka_id,
            f"expected the public key with SHA-256 {sha256(ref.public_key).hexdigest()}, "
            f"got {sha256(found).hexdigest()}",
        )
    attributes = _checked_attributes(private, ref.algorithm, ref.cka_id)
    return signing(private, ref), attributes


def is_visible(session: Session, cka_id: bytes) -> bool:
    """Say whether a private key with this CKA_ID can be seen, and with it whether the login still holds."""
    return bool(list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: cka_id})))


def _only_pair(session: Session, cka_id: bytes) -> tuple[PrivateKey, PublicKey]:
    # Searches are always exhausted: a half-read one stays open and blocks the session.
    halves = [
        list(session.get_objects({Attribute.CLASS: half, Attribute.ID: cka_id}))
        for half in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
    ]
    if not halves[0]:
        raise KeyAbsentError(f"CKA_ID {cka_id.hex()}")
    for name, objects in zip(("private", "public"), halves, strict=True):
        if len(objects) != 1:
            raise _refused(cka_id, f"expected one {name} key, got {len(objects)}; CKA_ID must be unique")
    (private,), (public,) = halves
    if not isinstance(private, PrivateKey) or not isinstance(public, PublicKey):
        raise _refused(cka_id, "expected objects with a readable CKA_CLASS, got others")
    return private, public


def _checked_attributes(private: PrivateKey, algorithm: Algorithm, cka_id: bytes) -> Mapping[str, str]:
    expected = {attribute: _text(value) for attribute, value in _TEMPLATE.items()}
    expected |= dict.fromkeys(_ORIGIN, _text(True))
    expected[Attribute.KEY_GEN_MECHANISM] = _text(_KEY_GEN_MECHANISM[algorithm])
    got = {attribute: read_attribute(private, attribute) for attribute in expected}
    wrong = [
        f"{attribute.name.lower()} {expected[attribute]}, got {got[attribute]}"
        for attribute in expected
        if got[attribute] != expected[attribute]
    ]
    if wrong:
        raise _refused(cka_id, f"expected {'; '.join(wrong)}; use a key that this service generated")
    return {attribute.name.lower(): value for attribute, value in got.items()}


def read_attribute(private: PrivateKey, attribute: Attribute) -> str:
    """Return "true", "false", the name of a mechanism, or "unavailable"."""
    try:
        return _text(private[attribute])
    except (AttributeTypeInvalid, AttributeSensitive, ValueError):
        # ValueError: a mechanism number that has no name, which is what an imported key shows.
        return "unavailable"


def _text(value: object) -> str:
    if isinstance(value, Mechanism):
        return f"CKM_{value.name}"
    return "true" if value is True else "false" if value is False else "unavailable"


def signing(private: PrivateKey, ref: KeyRef) -> Sign:
    """Return how to sign with a private key; raises HsmError (CONFIGURATION) when it may not sign."""
    sign = getattr(private, "sign", None)
    if sign is None:
        raise _refused(ref.cka_id, "expected a key that may sign, got one that may not")
    if ref.algorithm is Algorithm.ED25519:
        return lambda message: sign(message, mechanism=Mechanism.EDDSA, buffer_size=SIGNATURE_LENGTH)
    # The digest is made here: CKM_ECDSA_SHA256 is not everywhere, and CKM_ECDSA cuts longer input silently.
    return lambda message: sign(sha256(message).digest(), mechanism=Mechanism.ECDSA, buffer_size=SIGNATURE_LENGTH)


def _refused(cka_id: bytes, why: str) -> HsmError:
    return HsmError(Fault.CONFIGURATION, f"CKA_ID {cka_id.hex()}: {why}")
