"""The two registries that the vectors are about. Every byte follows from names, also the ECDSA signatures."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from key_registry.dsse import Envelope
from key_registry.evidence import Evidence
from key_registry.policy import NONE
from key_registry.record import RECORD_TYPE
from key_registry.tlog_proof import TlogProof
from tests.key_registry.software_registry import (
    SoftwareCosigner,
    SoftwareKey,
    SoftwareRegistry,
    envelope,
    policy_of,
    witness,
)

W1, W2 = witness(1), witness(2)


class RepeatableKey(SoftwareKey):
    """A P-256 key that signs with the nonces of RFC 6979."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "ecdsa-p256")

    def sign(self, message: bytes) -> bytes:
        assert isinstance(self._key, ec.EllipticCurvePrivateKey)
        signed = self._key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = decode_dss_signature(signed)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class World(SoftwareRegistry):
    """A registry with every type of record, under the policy `none` or with cosigners.

    Statement i is about place i of "orders", or of "ledger" for `p`. Who signed what:

        index    0-4    5-9    10-12    13-17    18-19    20-21
        key      a      b      c        b        p        d

    `a` was replaced by `b` at 5 and destroyed. `c` of the same witness was open beside it on [10, 13), stolen, and
    distrusted from 11 on. `p` is a P-256 key of another witness for streams "ledger*". Log keys and policy changed
    at 18, the leads after that. `b` was replaced by `d` at 20. `never` was added and never opened.
    """

    def __init__(self, *, cosigned: bool) -> None:
        self.old_cosigners = [SoftwareCosigner(f"old{number}") for number in (1, 2, 3)] if cosigned else []
        self.cosigners = [SoftwareCosigner(f"c{number}") for number in (1, 2, 3)] if cosigned else []
        name = "cosigned" if cosigned else "operator"
        super().__init__(name=name, policy=policy_of(*self.old_cosigners, threshold=2) if cosigned else NONE)
        self.first_leads = list(self.leads)
        self.attested: list[tuple[int, Envelope]] = []
        self.a = self.added("a", W1)
        self.rotate(W1, opens=self.a, cosigned_by=self.old_cosigners)
        self.attests(self.a, 5)
        self.b = self.added("b", W1)
        self.rotate(W1, opens=self.b, closes=self.a, cosigned_by=self.old_cosigners)
        self.attests(self.b, 5)
        self.c = self.added("c", W1)
        self.rotate(W1, opens=self.c)
        self.attests(self.c, 3)
        self.rotate(W1, closes=self.c)
        self.compromise(self.c, 12, suspected_since=self.time(0))
        self.compromise(self.c, 11, reason="earlier than thought")
        self.destroy(self.a)
        self.attests(self.b, 5)
        self.old_keys = self.registry_log.key, self.statements.key
        self.before_policy = self.bundle(cosigned_by=self.old_cosigners)
        self.change_policy(
            policy_of(*self.cosigners, threshold=2) if cosigned else NONE,
            registry_key=SoftwareKey(f"{name} registry log 2"),
            statement_key=SoftwareKey(f"{name} statement log 2"),
            cosigned_by=self.old_cosigners,
        )
        self.p = RepeatableKey(f"{name} p")
        self.add_key(self.p, W2, streams=("ledger*",))
        self.rotate(W2, opens=self.p, cosigned_by=self.cosigners)
        self.attests(self.p, 2, stream="ledger")
        self.never = self.added("never", W1)
        self.before_leads = self.bundle(cosigned_by=self.cosigners)
        self.change_leads([*self.leads[:2], SoftwareKey(f"{name} new lead")], 2)
        self.d = self.added("d", W1)
        self.rotate(W1, opens=self.d, closes=self.b, cosigned_by=self.cosigners)
        self.attests(self.d, 2)
        self.publish()

    def publish(self) -> None:
        """Publish the statement log, then the registry, a second apart."""
        self.tick()
        self.published, self.published_at = self.statements.checkpoint(cosigned_by=self.cosigners), self.now()
        self.tick()
        self.newest = self.bundle(cosigned_by=self.cosigners)

    def added(self, name: str, witness_id: str) -> SoftwareKey:
        return self.add_key(SoftwareKey(f"{self.name} {name}"), witness_id)

    def attests(self, key: SoftwareKey, count: int, **fields: Any) -> None:
        for _ in range(count):
            self.attested.append(self.attest(key, self.statements.size, **fields))

    def proof(self, signed: Envelope, at: int, checkpoint: bytes | None = None, **parts: Any) -> bytes:
        """Return evidence of an envelope under the published checkpoint, parts of the proof exchanged."""
        index, size = parts.pop("index", at), parts.pop("size", self.statements.size)
        path = parts.pop("path", None)
        hashes_ = self.statements.proof(at, size) if path is None else path
        return Evidence(signed, TlogProof(index, hashes_, checkpoint or self.published, None)).to_bytes()

    def genuine(self, number: int, checkpoint: bytes | None = None, **parts: Any) -> bytes:
        """Return the evidence of statement `number`."""
        index, signed = self.attested[number]
        return self.proof(signed, index, checkpoint, **parts)

    def taken(self, signed: Envelope) -> bytes:
        """Log whatever it is and return its evidence under a checkpoint made now."""
        index = self.log(signed)
        self.publish()
        return self.proof(signed, index)

    def record(self, body: Any, *signers: SoftwareKey) -> Envelope:
        return envelope(RECORD_TYPE, body.encode(), *signers)
