"""Keys for tests, signatures checked with `cryptography` alone, signer processes as the system sees them."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from hsm import Algorithm, HsmError, KeyRef, SignerPool


def check(key: KeyRef, message: bytes, signature: bytes | HsmError) -> None:
    """Fail unless it is a raw signature by this key over this message."""
    assert isinstance(signature, bytes), signature
    assert len(signature) == 64
    public_key = load_der_public_key(key.public_key)
    if isinstance(public_key, Ed25519PublicKey):
        public_key.verify(signature, message)
    else:
        assert isinstance(public_key, EllipticCurvePublicKey)
        r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
        public_key.verify(encode_dss_signature(r, s), message, ECDSA(SHA256()))


async def new_key(pool: SignerPool, algorithm: Algorithm = Algorithm.ED25519) -> KeyRef:
    """Generate a key and load it."""
    generated = await pool.generate(algorithm, "test")
    key = KeyRef(generated.cka_id, generated.algorithm, generated.public_key)
    await pool.load(key)
    return key


def signer_pids(parent: int | None = None) -> list[int]:
    """Return the living signer processes of a process, of this one when none is named, the oldest first."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            state, ppid, *rest = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"hsm.signer" in arguments and int(ppid) == (parent or os.getpid()) and state != "Z":
            found.append((int(rest[17]), int(folder.name)))
    return [pid for _, pid in sorted(found)]


async def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something is so; fail when it is not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
