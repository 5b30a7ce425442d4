"""Encrypted PKCS#8 (RFC 5958) with scrypt (RFC 7914): a stolen key file should cost its thief something.

`cryptography` reads this form and does not write it: what it writes is PBKDF2 with 2,048 rounds, and it takes no
other number for PKCS#8. OpenSSL reads this form too.
"""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7

COST, BLOCK_SIZE, PARALLELISM = 2**14, 8, 5
"""scrypt's N, r and p: 16 MiB and a quarter of a second. A larger N is more memory than OpenSSL allows by default."""

KEY_BYTES = 32
SALT_BYTES = 16

_INTEGER, _OCTET_STRING, _SEQUENCE = 0x02, 0x04, 0x30
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")


def encrypt(private_key: bytes, passphrase: bytes) -> bytes:
    """Return a DER EncryptedPrivateKeyInfo (PBES2 with scrypt and AES-256-CBC).

    Args:
        private_key: DER PrivateKeyInfo.
        passphrase: UTF-8, at least one byte.
    """
    salt, vector = os.urandom(SALT_BYTES), os.urandom(16)
    key = Scrypt(salt, KEY_BYTES, COST, BLOCK_SIZE, PARALLELISM).derive(passphrase)
    padder = PKCS7(128).padder()
    padded = padder.update(private_key) + padder.finalize()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    encrypted = encryptor.update(padded) + encryptor.finalize()
    numbers = [_integer(number) for number in (COST, BLOCK_SIZE, PARALLELISM, KEY_BYTES)]
    derivation = _element(_SEQUENCE, _SCRYPT, _element(_SEQUENCE, _element(_OCTET_STRING, salt), *numbers))
    scheme = _element(_SEQUENCE, _AES_256_CBC, _element(_OCTET_STRING, vector))
    algorithm = _element(_SEQUENCE, _PBES2, _element(_SEQUENCE, derivation, scheme))
    return _element(_SEQUENCE, algorithm, _element(_OCTET_STRING, encrypted))


def _element(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def _integer(number: int) -> bytes:
    return _element(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1))
