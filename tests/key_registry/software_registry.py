"""A whole registry in memory, signed in software: leads, logs, witnesses and evidence, all of it genuine.

Everything is derived from names, so that the same steps give the same bytes (but for ECDSA). `envelope` and
the arguments named after fields let a test make what an attacker would.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from key_registry import cosignature, merkle, note
from key_registry.bundle import Bundle
from key_registry.checkpoint import Checkpoint
from key_registry.cosignature import Cosigner
from key_registry.coverage import COVERAGE_TYPE, Coverage
from key_registry.dsse import Envelope, Signature, pae
from key_registry.evidence import Evidence
from key_registry.judge import TrustedRegistry, judge, open_bundle
from key_registry.policy import NONE
from key_registry.public_key import PublicKey
from key_registry.record import (
    RECORD_TYPE,
    Compromise,
    Destroyed,
    Genesis,
    KeyAdd,
    Lead,
    LeadsChange,
    LogKey,
    Logs,
    PolicyChange,
    Rotate,
)
from key_registry.replay import Registry
from key_registry.statement import STATEMENT_TYPE, Statement
from key_registry.tlog_proof import TlogProof
from key_registry.verdict import Verdict

# A well-formed key of an algorithm the program does not know.
ED448_SPKI = bytes.fromhex("3043300506032b6571033a00") + bytes(range(57))

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

START = 1_767_225_600
"""2026-01-01T00:00:00Z in POSIX seconds, when every registry here starts."""


def event_hash(stream: str, sequence: int) -> str:
    """The hash of the event that the registry's statements are about."""
    return "sha256:" + hashlib.sha256(f"{stream} {sequence}".encode()).hexdigest()


def witness(number: int) -> str:
    return f"WITNESS:00000000-0000-4000-8000-{number:012x}"


class SoftwareKey:
    """A key pair derived from its name."""

    def __init__(self, name: str, algorithm: str = "ed25519") -> None:
        self.name = name
        seed = hashlib.sha256(name.encode()).digest()
        self._key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
        if algorithm == "ed25519":
            self._key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        else:
            scalar = int.from_bytes(seed, "big") % (P256_ORDER - 1) + 1
            self._key = ec.derive_private_key(scalar, ec.SECP256R1())
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        spki = self._key.public_key().public_bytes(serialization.Encoding.DER, form)
        self.public = PublicKey.from_spki(spki)
        self.key_id = self.public.key_id
        self.cka_id = seed[:16]

    def sign(self, message: bytes) -> bytes:
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def envelope(payload_type: str, body: bytes, *keys: SoftwareKey) -> Envelope:
    """Return the body signed by the keys."""
    message = pae(payload_type, body)
    return Envelope(payload_type, body, tuple(Signature(key.key_id, key.sign(message)) for key in keys))


class SoftwareCosigner:
    """Somebody who cosigns whatever note it is given (C2SP tlog-cosignature, Ed25519)."""

    def __init__(self, name: str, url: str | None = None) -> None:
        self.name = name
        self.key = SoftwareKey(f"cosigner {name}")
        self.cosigner = Cosigner(name, f"{name}.example/cosigner", self.key.public, url)

    @property
    def policy_line(self) -> str:
        """The witness line of a C2SP tlog-policy."""
        url = f" {self.cosigner.url}" if self.cosigner.url else ""
        return f"witness {self.name} {cosignature.vkey(self.cosigner)}{url}\n"

    def line(self, text: str, time: int) -> note.NoteSignature:
        """Return its signature line over a checkpoint's text at a time in POSIX seconds."""
        signature = time.to_bytes(8, "big") + self.key.sign(cosignature.message(text, time))
        return note.NoteSignature(self.cosigner.key_name, self.cosigner.key_hash, signature)

    def cosign(self, checkpoint: bytes, time: int) -> bytes:
        """Return the note with its line after the others."""
        opened = note.parse(checkpoint)
        return note.serialize(opened.text, [*opened.signatures, self.line(opened.text, time)])


def policy_of(*cosigners: SoftwareCosigner, threshold: int | str = "all") -> str:
    """Return the policy that so many of these cosigners have cosigned."""
    lines = "".join(cosigner.policy_line for cosigner in cosigners)
    return f"{lines}group cosigners {threshold} {' '.join(it.name for it in cosigners)}\nquorum cosigners\n"


CosignedBy = Iterable[SoftwareCosigner] | Mapping[SoftwareCosigner, int]
"""Who cosigns: all at the present time, or each at its own in POSIX seconds."""


class MemoryLog:
    """An RFC 9162 log in memory, with its C2SP checkpoints. `key` signs them, until another takes its place."""

    def __init__(self, origin: str, key: SoftwareKey, clock: Callable[[], int] = lambda: START) -> None:
        self.origin = origin
        self.key = key
        self.clock = clock
        self.leaf_hashes: list[bytes] = []
        self._nodes: dict[tuple[int, int], bytes] = {}

    @property
    def size(self) -> int:
        return len(self.leaf_hashes)

    def append(self, entry: bytes) -> int:
        """Add an entry and return its index."""
        self.leaf_hashes.append(merkle.leaf_hash(entry))
        return self.size - 1

    def node(self, level: int, index: int) -> bytes:
        if level == 0:
            return self.leaf_hashes[index]
        known = self._nodes.get((level, index))
        if known is None:
            known = merkle.node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))
            self._nodes[level, index] = known
        return known

    def root(self, size: int | None = None) -> bytes:
        return merkle.tree_root(self.size if size is None else size, self.node)

    def checkpoint(
        self,
        size: int | None = None,
        root: bytes | None = None,
        *,
        key: SoftwareKey | None = None,
        cosigned_by: CosignedBy = (),
    ) -> bytes:
        """Return the signed note for a size of the log, or for a root it never had, or by another key."""
        size = self.size if size is None else size
        key = key or self.key
        checkpoint = Checkpoint(self.origin, size, self.root(size) if root is None else root)
        signed = checkpoint.signed(key.sign(checkpoint.text().encode()), key.public)
        for cosigner in cosigned_by:
            time = cosigned_by[cosigner] if isinstance(cosigned_by, Mapping) else self.clock()
            signed = cosigner.cosign(signed, time)
        return signed

    def proof(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        return tuple(merkle.inclusion_proof(index, self.size if size is None else size, self.node))


class SoftwareRegistry:
    """A registry, its two logs, and who holds the keys. Starts with the genesis record."""

    def __init__(
        self,
        *,
        leads: int = 3,
        threshold: int = 2,
        environment: str = "production",
        name: str = "test",
        policy: str = NONE,
    ) -> None:
        self.name = name
        self.seconds = 0
        by_id = (SoftwareKey(f"{name} lead {number}") for number in range(leads))
        self.leads = sorted(by_id, key=lambda key: key.key_id)
        self.threshold = threshold
        self.registry_log, self.statements = (
            MemoryLog(f"{name}.example/{origin}", SoftwareKey(f"{name} {key}"), self.now)
            for origin, key in (("registry", "registry log"), ("statements", "statement log"))
        )
        self.signed: dict[str, int] = {}
        genesis = Genesis(
            created_at=self.tick(),
            environment=environment,
            leads=tuple(Lead(key.name, key.public) for key in self.leads),
            threshold=threshold,
            logs=self.logs(),
            policy=policy,
        )
        first = envelope(RECORD_TYPE, genesis.encode(), *self.leads)
        self.registry = Registry.replay([first], registry_id=None)
        self.registry_log.append(first.entry())

    def logs(self, *, registry: SoftwareKey | None = None, statements: SoftwareKey | None = None) -> Logs:
        """Return the two logs as a record names them, with the keys they have or other ones."""
        return Logs(_log_key(self.registry_log, registry), _log_key(self.statements, statements))

    @property
    def quorum(self) -> list[SoftwareKey]:
        return self.leads[: self.threshold]

    @property
    def registry_id(self) -> str:
        return self.registry.registry_id

    def time(self, seconds: int) -> str:
        """Return the time so many seconds after the start, at most an hour."""
        return f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}.000000Z"

    def tick(self) -> str:
        """Let a second pass, up to an hour, and return the time."""
        self.seconds = min(self.seconds + 1, 3599)
        return self.time(self.seconds)

    def now(self) -> int:
        """Return the time in POSIX seconds."""
        return START + self.seconds

    def link(self) -> dict[str, Any]:
        """Return the members that make a record the next one."""
        return {
            "seq": self.registry.size,
            "prev": self.registry.last_hash,
            "registry_id": self.registry_id,
            "created_at": self.tick(),
        }

    def append(self, record: Envelope) -> None:
        self.registry = self.registry.append(record)
        self.registry_log.append(record.entry())

    def key_add(self, key: SoftwareKey, witness_id: str, /, **fields: Any) -> KeyAdd:
        """Return the body of a key-add record, with any field exchanged."""
        body = KeyAdd(
            **self.link(),
            witness_id=witness_id,
            algorithm=key.public.algorithm,
            public_key=key.public.spki,
            streams=("*",),
            cka_id=key.cka_id,
            token_serial="token 01",
            attributes={"extractable": "false", "sensitive": "true"},
            reason="a new key",
        )
        return replace(body, **fields)

    def rotation(
        self,
        witness_id: str,
        *,
        opens: SoftwareKey | None = None,
        closes: SoftwareKey | None = None,
        **fields: Any,
    ) -> Rotate:
        """Return the body of a rotate record at the head of the statement log, with any field exchanged."""
        body = Rotate(
            **self.link(),
            witness_id=witness_id,
            open=opens.key_id if opens else None,
            close=closes.key_id if closes else None,
            count=None if closes is None else self.signed.get(closes.key_id, 0),
            checkpoint=self.statements.checkpoint(cosigned_by=self.sealing() if closes else ()),
            reason="the yearly rotation",
        )
        return replace(body, **fields)

    def sealing(self) -> list[SoftwareCosigner]:
        """Return all cosigners of the present policy."""
        return [SoftwareCosigner(cosigner.name) for cosigner in self.registry.policy.cosigners]

    def add_key(self, key: SoftwareKey, witness_id: str, /, **fields: Any) -> SoftwareKey:
        body = self.key_add(key, witness_id, **fields)
        self.append(envelope(RECORD_TYPE, body.encode(), key, *self.quorum))
        return key

    def rotate(
        self,
        witness_id: str,
        *,
        opens: SoftwareKey | None = None,
        closes: SoftwareKey | None = None,
        cosigned_by: CosignedBy | None = None,
    ) -> None:
        """Open and close keys, signed by the keys themselves where they may, and else by the quorum.

        What closes a key is cosigned as the policy asks, unless somebody else is given.
        """
        if cosigned_by is None:
            cosigned_by = self.sealing() if closes else ()
        checkpoint = self.statements.checkpoint(cosigned_by=cosigned_by)
        body = self.rotation(witness_id, opens=opens, closes=closes, checkpoint=checkpoint)
        sponsor = closes if closes and self.registry.keys[closes.key_id].may_sign else None
        signers = [key for key in (opens, sponsor) if key is not None]
        self.append(envelope(RECORD_TYPE, body.encode(), *signers, *([] if sponsor else self.quorum)))

    def compromise_record(self, key: SoftwareKey, trusted_size: int, **fields: Any) -> Compromise:
        """Return the body of a compromise record, with any field exchanged."""
        body = Compromise(
            **self.link(),
            witness_id=self.registry.keys[key.key_id].witness_id,
            key_id=key.key_id,
            trusted_size=trusted_size,
            suspected_since=None,
            reason="the token was lost",
        )
        return replace(body, **fields)

    def leads_record(self, leads: Iterable[SoftwareKey], threshold: int, **fields: Any) -> LeadsChange:
        """Return the body of a leads record, with any field exchanged."""
        by_id = sorted(leads, key=lambda key: key.key_id)
        named = tuple(Lead(key.name, key.public) for key in by_id)
        return replace(LeadsChange(**self.link(), leads=named, threshold=threshold), **fields)

    def policy_record(
        self,
        policy: str | None = None,
        *,
        registry_key: SoftwareKey | None = None,
        statement_key: SoftwareKey | None = None,
        cosigned_by: CosignedBy = (),
        **fields: Any,
    ) -> PolicyChange:
        """Return the body of a policy record at the head of the statement log, with any field exchanged."""
        body = PolicyChange(
            **self.link(),
            policy=self.registry.policy.text if policy is None else policy,
            logs=self.logs(registry=registry_key, statements=statement_key),
            checkpoint=self.statements.checkpoint(key=statement_key, cosigned_by=cosigned_by),
        )
        return replace(body, **fields)

    def destroyed_record(self, key: SoftwareKey, **fields: Any) -> Destroyed:
        """Return the body of a destroyed record, with any field exchanged."""
        witness_id = self.registry.keys[key.key_id].witness_id
        return replace(Destroyed(**self.link(), witness_id=witness_id, key_id=key.key_id), **fields)

    def compromise(self, key: SoftwareKey, trusted_size: int, **fields: Any) -> None:
        """Distrust a key from a position on."""
        body = self.compromise_record(key, trusted_size, **fields)
        self.append(envelope(RECORD_TYPE, body.encode(), *self.quorum))

    def change_leads(self, leads: Iterable[SoftwareKey], threshold: int) -> None:
        """Put other leads in office."""
        new = sorted(leads, key=lambda key: key.key_id)
        body = self.leads_record(new, threshold)
        signers = {key.key_id: key for key in (*self.quorum, *new)}
        self.append(envelope(RECORD_TYPE, body.encode(), *signers.values()))
        self.leads, self.threshold = new, threshold

    def change_policy(
        self,
        policy: str | None = None,
        *,
        registry_key: SoftwareKey | None = None,
        statement_key: SoftwareKey | None = None,
        cosigned_by: CosignedBy = (),
    ) -> None:
        """Change the cosigner policy, log keys, or both, at the head of the statement log."""
        body = self.policy_record(
            policy, registry_key=registry_key, statement_key=statement_key, cosigned_by=cosigned_by
        )
        self.append(envelope(RECORD_TYPE, body.encode(), *self.quorum))
        self.registry_log.key = registry_key or self.registry_log.key
        self.statements.key = statement_key or self.statements.key

    def destroy(self, key: SoftwareKey) -> None:
        """Record that a private key was destroyed."""
        self.append(envelope(RECORD_TYPE, self.destroyed_record(key).encode(), *self.quorum))

    def new_witness(self, number: int = 1, algorithm: str = "ed25519", **fields: Any) -> SoftwareKey:
        """Add and open the first key of a witness."""
        key = self.add_key(SoftwareKey(f"{self.name} witness {number}", algorithm), witness(number), **fields)
        self.rotate(witness(number), opens=key)
        return key

    def statement(self, key: SoftwareKey, sequence: int, **fields: Any) -> Statement:
        """Return the statement an honest signer would make, with any field exchanged."""
        stream = fields.get("stream", "orders")
        body = Statement(
            environment=self.registry.environment,
            event_hash=event_hash(stream, sequence),
            event_id=f"event {sequence}",
            event_type="order.placed",
            key_id=key.key_id,
            previous_event_hash=event_hash(stream, sequence - 1) if sequence else None,
            registry_id=self.registry_id,
            registry_root=self.registry.root().hex(),
            registry_size=self.registry.size,
            round=0,
            sequence=sequence,
            signed_at=self.tick(),
            stream=stream,
            witness_id=self.registry.keys[key.key_id].witness_id if key.key_id in self.registry.keys else witness(1),
        )
        return replace(body, **fields)

    def sign(self, key: SoftwareKey, sequence: int, **fields: Any) -> Envelope:
        return envelope(STATEMENT_TYPE, self.statement(key, sequence, **fields).encode(), key)

    def log(self, signed: Envelope) -> int:
        """Append a signed statement to the statement log and return its index."""
        for signature in signed.signatures:
            self.signed[signature.key_id] = self.signed.get(signature.key_id, 0) + 1
        return self.statements.append(signed.entry())

    def attest(self, key: SoftwareKey, sequence: int, **fields: Any) -> tuple[int, Envelope]:
        """Sign and log a statement."""
        signed = self.sign(key, sequence, **fields)
        return self.log(signed), signed

    def evidence(self, index: int, signed: Envelope, size: int | None = None, *, cosigned_by: CosignedBy = ()) -> bytes:
        """Return the .tlog-proof file of a statement, for the log's present or an earlier size."""
        checkpoint = self.statements.checkpoint(size, cosigned_by=cosigned_by)
        proof = TlogProof(index, self.statements.proof(index, size), checkpoint, None)
        return Evidence(signed, proof).to_bytes()

    def coverage(self, **fields: Any) -> Coverage:
        body = Coverage(
            created_at=self.tick(),
            registry_id=self.registry_id,
            registry_root=self.registry.root().hex(),
            registry_size=self.registry.size,
            statement_root=self.statements.root().hex(),
            statement_size=self.statements.size,
        )
        return replace(body, **fields)

    def bundle(self, *, cosigned_by: CosignedBy = ()) -> Bundle:
        covered = envelope(COVERAGE_TYPE, self.coverage().encode(), self.registry_log.key)
        return Bundle(self.registry.envelopes, self.registry_log.checkpoint(cosigned_by=cosigned_by), covered)


def _log_key(log: MemoryLog, key: SoftwareKey | None) -> LogKey:
    key = key or log.key
    return LogKey(log.origin, key.public, key.cka_id, "logs 01")


class RotatedRegistry(SoftwareRegistry):
    """A registry after a rotation: `a` was valid on [0, 10), `b` is since 10, `never` was added and never opened.

    `ledger` is a P-256 key of witness 2, valid since 15 for streams "ledger*" alone. Statement i is about place i of
    "orders"; 15 and 16 are in "ledger". An attacker has stolen `a`. `old_bundle` is from before the rotation.
    """

    def __init__(self, **registry: Any) -> None:
        super().__init__(**registry)
        self.a = self.new_witness(1)
        self.attested = [self.attest(self.a, number) for number in range(10)]
        self.old_bundle = self.bundle()
        self.b = self.add_key(SoftwareKey(f"{self.name} b"), witness(1))
        self.rotate(witness(1), opens=self.b, closes=self.a)
        self.attested += [self.attest(self.b, number) for number in range(10, 15)]
        self.ledger = self.new_witness(2, algorithm="ecdsa-p256", streams=("ledger*",))
        self.attested += [self.attest(self.ledger, number, stream="ledger") for number in (15, 16)]
        self.never = self.add_key(SoftwareKey(f"{self.name} never"), witness(1))

    def genuine(self, number: int) -> bytes:
        return self.evidence(*self.attested[number])

    def proven(self, signed: Envelope, number: int = 12, **parts: Any) -> bytes:
        """Return evidence of a signed statement with the proof of statement `number`, parts of it exchanged."""
        proof = TlogProof(number, self.statements.proof(number), self.statements.checkpoint(), None)
        return Evidence(signed, replace(proof, **parts)).to_bytes()

    def logged(self, signed: Envelope) -> bytes:
        """Log whatever it is, and return its evidence."""
        return self.evidence(self.log(signed), signed)

    def open(self) -> TrustedRegistry:
        trusted = open_bundle(self.bundle().to_json(), self.registry_id)
        assert isinstance(trusted, TrustedRegistry)
        return trusted

    def judge(self, evidence: bytes, *, bundle: Bundle | None = None, expected: str | None = None) -> Verdict:
        trusted = open_bundle((bundle or self.bundle()).to_json(), self.registry_id)
        if isinstance(trusted, Verdict):
            return trusted
        return judge(trusted, evidence, event_hash=expected, environments=frozenset({"production"}))
