"""A registry with years behind it, under the policy `none` or with cosigners, and what an attacker makes of it.

Statement i is about place i of the stream "orders". Who signed what:

    index    0-9    10-14    15-19    20-22    23-24
    key      a      b        c        d        p (P-256, streams "ledger*")

`a` was replaced by `b` at 10. `c` was stolen at 17: distrusted from there on, closed at 20, replaced by `d`.
`spare` was never opened; `early` was compromised before it could be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from key_registry import merkle, note
from key_registry.bundle import Bundle
from key_registry.checkpoint import Checkpoint
from key_registry.coverage import COVERAGE_TYPE
from key_registry.dsse import Envelope
from key_registry.errors import ProofError
from key_registry.evidence import Evidence
from key_registry.policy import NONE
from key_registry.tlog_proof import TlogProof
from tests.key_registry.software_registry import (
    MemoryLog,
    SoftwareCosigner,
    SoftwareKey,
    SoftwareRegistry,
    envelope,
    policy_of,
    witness,
)

W1, W2, W3 = witness(1), witness(2), witness(3)
STOLEN_AT = 17


class HonestCosigner(SoftwareCosigner):
    """Cosigns what continues the checkpoints it cosigned before (C2SP tlog-witness), and nothing else."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.seen: dict[str, tuple[int, bytes]] = {}
        self.is_down = False

    def asked(self, log: MemoryLog, checkpoint: bytes, time: int) -> bytes:
        """Return the note with a cosignature, or as it came: it is down, or `log` cannot show that it only grew."""
        if self.is_down:
            return checkpoint
        head = Checkpoint.parse(note.parse(checkpoint).text)
        size, root = self.seen.get(log.origin, (0, merkle.EMPTY_ROOT))
        try:
            proof = merkle.consistency_proof(size, head.size, log.node)
            merkle.verify_consistency(size, root, head.size, head.root, proof)
        except (ProofError, IndexError):
            return checkpoint
        self.seen[log.origin] = head.size, head.root
        return self.cosign(checkpoint, time)


@dataclass(frozen=True)
class Publication:
    """What the operator had published at some time: the statement log's checkpoint, and a bundle."""

    size: int
    checkpoint: bytes
    bundle: Bundle


class Years(SoftwareRegistry):
    """The registry described above.

    cosigned: under a policy of two of three cosigners, or so many of so many. lagging: the last of them is down from
    the first publication on.
    """

    def __init__(
        self, *, cosigned: bool, name: str = "years", quorum: tuple[int, int] = (2, 3), lagging: bool = False
    ) -> None:
        threshold, count = quorum
        self.cosigners = [HonestCosigner(f"c{number + 1}") for number in range(count)] if cosigned else []
        super().__init__(name=name, policy=policy_of(*self.cosigners, threshold=threshold) if cosigned else NONE)
        self.attested: list[tuple[int, Envelope]] = []
        self.a = self.new_witness(1)
        self._attest(self.a, 10)
        self.first = self.publish()
        if lagging:
            self.cosigners[-1].is_down = True
        self.b = self.add_key(SoftwareKey(f"{name} b"), W1)
        self.rotate(W1, opens=self.b, closes=self.a, cosigned_by=self.cosigners)
        self._attest(self.b, 5)
        self.rotated = self.publish()
        self.c = self.new_witness(2)
        self._attest(self.c, 5)
        self.stolen = self.publish()
        self.compromise(self.c, STOLEN_AT, suspected_since=self.time(self.seconds - 2))
        self.d = self.add_key(SoftwareKey(f"{name} d"), W2)
        self.rotate(W2, opens=self.d, closes=self.c)
        self._attest(self.d, 3)
        self.p = self.new_witness(3, algorithm="ecdsa-p256", streams=("ledger*",))
        self._attest(self.p, 2, stream="ledger")
        self.spare = self.add_key(SoftwareKey(f"{name} spare"), W1)
        self.early = self.add_key(SoftwareKey(f"{name} early"), W1)
        self.compromise(self.early, 0)
        self.now_published = self.publish()

    def _attest(self, key: SoftwareKey, count: int, **fields: Any) -> None:
        for number in range(self.statements.size, self.statements.size + count):
            self.attested.append(self.attest(key, number, **fields))

    # -- what an honest operator does --------------------------------------------------------------------------------

    def checkpoint(self, log: MemoryLog, size: int | None = None, **parts: Any) -> bytes:
        """Return a checkpoint of a log, cosigned now by the cosigners that agree to it."""
        signed = log.checkpoint(size, **parts)
        for cosigner in self.cosigners:
            signed = cosigner.asked(log, signed, self.now())
        return signed

    def publish(self) -> Publication:
        """Publish the statement log, then the registry."""
        self.tick()
        checkpoint = self.checkpoint(self.statements)
        covered = envelope(COVERAGE_TYPE, self.coverage().encode(), self.registry_log.key)
        bundle = Bundle(self.registry.envelopes, self.checkpoint(self.registry_log), covered)
        return Publication(self.statements.size, checkpoint, bundle)

    def proof(self, at: int, signed: Envelope, published: Publication | None = None, **parts: Any) -> bytes:
        """Return evidence by the checkpoint of a publication, the latest if none is given, parts of it exchanged."""
        published = published or self.now_published
        hashes = self.statements.proof(at, published.size)
        return Evidence(signed, replace(TlogProof(at, hashes, published.checkpoint, None), **parts)).to_bytes()

    def genuine(self, number: int, published: Publication | None = None) -> bytes:
        """Return the evidence of statement `number`."""
        return self.proof(*self.attested[number], published)

    def take(self, signed: Envelope) -> tuple[bytes, Bundle]:
        """Let the log take a statement, whatever it is, and publish; return its evidence and the bundle."""
        index = self.log(signed)
        published = self.now_published = self.publish()
        return self.proof(index, signed, published), published.bundle

    # -- what an attacker makes --------------------------------------------------------------------------------------

    def forged(self, key: SoftwareKey, **fields: Any) -> Envelope:
        """Return a statement about another event, signed by a key the attacker has."""
        return self.sign(key, 99, **fields)

    def backdated(self, key: SoftwareKey, size: int = 3, **fields: Any) -> Envelope:
        """Return one that says of itself that it was made when the registry had so many records."""
        root, time = self.registry.root_at(size).hex(), self.registry.records[size - 1].created_at
        return self.forged(key, **{"registry_size": size, "registry_root": root, "signed_at": time, **fields})

    def forked(
        self, signed: Envelope, index: int, size: int, *, key: SoftwareKey | None = None, corrupt: Iterable[int] = ()
    ) -> bytes:
        """Return evidence by another history of the statement log, with a statement at `index`.

        It is signed by the log's key unless another is given, and offered to every cosigner. `corrupt` cosigners, by
        number from 0, sign whatever it is.
        """
        fork = MemoryLog(self.statements.origin, key or self.statements.key, self.now)
        fork.leaf_hashes = [*self.statements.leaf_hashes[:index], merkle.leaf_hash(signed.entry())]
        while fork.size < size:
            fork.append(b"filler %d" % fork.size)
        note_of_fork = self._signed_by(corrupt, self.checkpoint(fork), self.now())
        return Evidence(signed, TlogProof(index, fork.proof(index), note_of_fork, None)).to_bytes()

    def _signed_by(self, corrupt: Iterable[int], signed: bytes, time: int) -> bytes:
        opened = note.parse(signed)
        for cosigner in (self.cosigners[number] for number in corrupt if self.cosigners):
            others = [line for line in opened.signatures if line.name != cosigner.cosigner.key_name]
            opened = note.Note(opened.text, (*others, cosigner.line(opened.text, time)))
        return note.serialize(opened.text, opened.signatures)

    def shortened(self, since: Publication, *, corrupt: Iterable[int] = ()) -> Bundle:
        """Return the registry of an earlier publication with the newest coverage that its log key can sign.

        Every cosigner is asked again, keeps what it signed then, and `corrupt` ones sign it once more now.
        """
        records = since.bundle.records
        size = len(records)
        checkpoint = since.bundle.checkpoint
        for cosigner in self.cosigners:
            assert cosigner.asked(self.registry_log, checkpoint, self.now()) == checkpoint, "it has seen a longer one"
        checkpoint = self._signed_by(corrupt, checkpoint, self.now())
        body = self.coverage(registry_size=size, registry_root=self.registry.root_at(size).hex())
        return Bundle(records, checkpoint, envelope(COVERAGE_TYPE, body.encode(), self.registry_log.key))

    def bundle_with(self, records: Iterable[Envelope]) -> Bundle:
        """Return the bundle of the operator who signs whatever these records are, cosigned by whoever agrees."""
        log = MemoryLog(self.registry_log.origin, self.registry_log.key, self.now)
        kept = tuple(records)
        for record in kept:
            log.append(record.entry())
        body = self.coverage(registry_size=log.size, registry_root=log.root().hex())
        covered = envelope(COVERAGE_TYPE, body.encode(), self.registry_log.key)
        return Bundle(kept, self.checkpoint(log), covered)
