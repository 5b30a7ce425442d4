"""The forger: a thief with the whole token of the stopped service, the retired key and the log keys included.

What the thief makes is well-formed and its signatures verify. The retired key alone comes to nothing: it counts only
for the positions below its closing seal, and those are taken. With the log key too the thief can sign another history
of the log; it is found out here because the bundle knows the root at that size. At a size whose root the bundle does
not know one bundle and one piece of evidence cannot show a fork: that takes cosigners, or a comparison of checkpoints.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hsm import Algorithm, HsmError, KeyRef, SignerPool, softhsm
from key_registry.bundle import Bundle
from key_registry.checkpoint import Checkpoint, open_checkpoint
from key_registry.dsse import Envelope, Signature, pae
from key_registry.evidence import Evidence
from key_registry.merkle import CompactRange, leaf_hash, node_hash
from key_registry.public_key import PublicKey
from key_registry.record import LogKey
from key_registry.replay import KeyVersion, Registry
from key_registry.statement import STATEMENT_TYPE, Statement
from key_registry.tlog_proof import TlogProof

SIGN_SECONDS = 10.0
NEVER = "sha256:" + hashlib.sha256(b"an event that never was").hexdigest()
"""Hash of the event that is forged."""


@dataclass(frozen=True)
class Forgery:
    """One attempt: what the thief does, in words, and the file that results."""

    name: str
    words: str
    content: bytes


class Thief:
    """Signs with keys inside a stolen token."""

    def __init__(self, pool: SignerPool) -> None:
        self._pool = pool

    async def sign(self, key: PublicKey, cka_id: bytes, message: bytes) -> bytes:
        """Return a raw signature; raises HsmError."""
        await self._pool.load(KeyRef(cka_id, Algorithm(key.algorithm), key.spki))
        (outcome,) = await self._pool.sign([(cka_id, message)], timeout=SIGN_SECONDS)
        if isinstance(outcome, HsmError):
            raise outcome
        return outcome


def forge(token: Path, label: str, bundle: bytes, retired_key_id: str, files: Sequence[Path]) -> list[Forgery]:
    """Return evidence for an event that never was, signed with a retired key.

    token, label: the folder and label of the stolen SoftHSM token. files: genuine evidence under the log's
    newest checkpoint, roughly by position. Raises HsmError when the token does not open.
    """
    registry = Registry.replay(Bundle.from_json(bundle).records, registry_id=None)
    retired = registry.keys[retired_key_id]
    model = next(found for found in _read(files) if found.envelope.signatures[0].key_id == retired_key_id)
    last = next(found for found in _read(reversed(files)) if _is_last(found, registry.logs.statements))
    return asyncio.run(_forge(token, label, registry, retired, model, last))


async def _forge(
    token: Path, label: str, registry: Registry, retired: KeyVersion, model: Evidence, last: Evidence
) -> list[Forgery]:
    pool = await SignerPool.open(softhsm.open_token(token, label), processes=1)
    try:
        thief = Thief(pool)
        statement = _statement(Statement.decode(model.envelope.body), retired)
        body = statement.encode()
        signature = await thief.sign(retired.public_key, retired.cka_id, pae(STATEMENT_TYPE, body))
        forged = Envelope(STATEMENT_TYPE, body, (Signature(retired.key_id, signature),))
        return [
            Forgery("no-proof", "no place in the log", Evidence(forged, None).to_bytes()),
            Forgery("borrowed-proof", "the proof of another statement", Evidence(forged, model.proof).to_bytes()),
            await _appended(thief, registry.logs.statements, forged, last),
            await _rewritten(thief, registry.logs.statements, forged, model),
            _own_log(registry.logs.statements, forged),
        ]
    finally:
        await pool.close()


def _read(files: Iterable[Path]) -> Iterator[Evidence]:
    return (Evidence.read(path.read_bytes()) for path in files)


def _is_last(evidence: Evidence, log: LogKey) -> bool:
    assert evidence.proof is not None
    head = open_checkpoint(evidence.proof.checkpoint, log.origin, log.public_key)
    return evidence.proof.index == head.size - 1


def _statement(model: Statement, retired: KeyVersion) -> Statement:
    """Return what never happened, at a place never witnessed, dated back to when the key was valid."""
    return replace(model, event_hash=NEVER, sequence=2**62, event_id="forged", key_id=retired.key_id)


async def _appended(thief: Thief, log: LogKey, forged: Envelope, last: Evidence) -> Forgery:
    """Put the forgery at the end of the real log, and sign that with the stolen log key."""
    assert last.proof is not None
    size = last.proof.index + 1
    leaves = CompactRange.from_hashes(last.proof.index, reversed(last.proof.hashes))
    leaves.append(leaf_hash(last.envelope.entry()))
    path = tuple(reversed(leaves.hashes))
    leaves.append(leaf_hash(forged.entry()))
    note = await _checkpoint(thief, log, Checkpoint(log.origin, size + 1, leaves.root()))
    evidence = Evidence(forged, TlogProof(size, path, note, None))
    return Forgery("appended", "appended to the log, signed with the stolen log key", evidence.to_bytes())


async def _rewritten(thief: Thief, log: LogKey, forged: Envelope, victim: Evidence) -> Forgery:
    """Put the forgery in the place of a genuine statement, and sign the rewritten log with the stolen log key."""
    assert victim.proof is not None
    proof = victim.proof
    real = open_checkpoint(proof.checkpoint, log.origin, log.public_key)
    root = _root(leaf_hash(forged.entry()), proof.index, real.size, proof.hashes)
    note = await _checkpoint(thief, log, Checkpoint(log.origin, real.size, root))
    evidence = Evidence(forged, TlogProof(proof.index, proof.hashes, note, None))
    return Forgery("rewritten", "the log rewritten, signed with the stolen log key", evidence.to_bytes())


def _own_log(log: LogKey, forged: Envelope) -> Forgery:
    """Put the forgery into a log of the thief's own, under the real log's name."""
    private_key = Ed25519PrivateKey.generate()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    key = PublicKey.from_spki(private_key.public_key().public_bytes(serialization.Encoding.DER, form))
    head = Checkpoint(log.origin, 1, leaf_hash(forged.entry()))
    note = head.signed(private_key.sign(head.text().encode()), key)
    evidence = Evidence(forged, TlogProof(0, (), note, None))
    return Forgery("own-log", "a log of the thief's own", evidence.to_bytes())


async def _checkpoint(thief: Thief, log: LogKey, head: Checkpoint) -> bytes:
    signature = await thief.sign(log.public_key, log.cka_id, head.text().encode())
    return head.signed(signature, log.public_key)


def _root(leaf: bytes, index: int, size: int, path: tuple[bytes, ...]) -> bytes:
    """Return the root an inclusion path leads to (RFC 9162 section 2.1.3.2)."""
    node, last = leaf, size - 1
    for sibling in path:
        if index & 1 or index == last:
            node = node_hash(sibling, node)
            while not index & 1:
                index, last = index >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        index, last = index >> 1, last >> 1
    return node
