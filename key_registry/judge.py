"""Judging: was this event witnessed by a key that was valid at the statement's place in the log?

The order of the steps is normative and the first that fails decides (docs/format.md, "Judging"). No step
reads a clock or a file, and none raises on hostile bytes.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TypeAlias

from key_registry.bundle import Bundle
from key_registry.checkpoint import Checkpoint, open_checkpoint
from key_registry.coverage import COVERAGE_TYPE, Coverage
from key_registry.dsse import Envelope
from key_registry.errors import FormatError, ProofError, RecordError, SignatureError, UnsupportedAlgorithm
from key_registry.evidence import Evidence
from key_registry.merkle import leaf_hash, verify_inclusion
from key_registry.record import previous_hash
from key_registry.replay import KeyVersion, Registry
from key_registry.statement import STATEMENT_TYPE, Statement
from key_registry.verdict import AsOf, Code, Verdict

EventHash: TypeAlias = str | Callable[[str, int], str | None] | None
"""The hash the caller computed, or a function of stream and sequence that knows it, or None: not compared."""

CLOCK_SKEW = timedelta(minutes=5)

_CHECKPOINTS_KEPT = 256
_CHECKPOINT_KEPT_BYTES = 4096


class TrustedRegistry:
    """A registry whose bundle has been verified; made by open_bundle only.

    Args:
        registry: the registry of all records of the bundle.
        coverage: what the registry log said about how far they reach.
    """

    def __init__(self, registry: Registry, coverage: Coverage) -> None:
        self.registry = registry
        self.coverage = coverage
        self.as_of = AsOf(coverage.registry_size, coverage.statement_size, coverage.created_at)
        self.latest_time = _shift(coverage.created_at, CLOCK_SKEW)
        self.heads: Mapping[int, bytes] = {
            **registry.heads,
            coverage.statement_size: bytes.fromhex(coverage.statement_root),
        }
        self._checkpoints: dict[bytes, Checkpoint] = {}

    def open_checkpoint(self, note: bytes) -> Checkpoint:
        """Return the statement log's checkpoint in `note`, verified once for all the evidence that shares it.

        Raises:
            FormatError: not a checkpoint of this log.
            SignatureError: not signed by its key.
        """
        known = self._checkpoints.get(note)
        if known is not None:
            return known
        log = self.registry.logs.statements
        checkpoint = open_checkpoint(note, log.origin, log.public_key)
        if len(note) <= _CHECKPOINT_KEPT_BYTES:  # bounds what hostile notes can make this keep
            while len(self._checkpoints) >= _CHECKPOINTS_KEPT:
                self._checkpoints.pop(next(iter(self._checkpoints)), None)
            self._checkpoints[note] = checkpoint
        return checkpoint


def open_bundle(data: bytes, registry_id: str) -> TrustedRegistry | Verdict:
    """Verify a bundle and return the registry to judge by, or the verdict that it cannot be used.

    Args:
        data: the bundle file.
        registry_id: hex SHA-256 of the genesis record's PAE, from anywhere but the bundle.

    Returns:
        The registry; or REGISTRY_INVALID, WRONG_REGISTRY or UNSUPPORTED_ALGORITHM.
    """
    try:
        bundle = Bundle.from_json(data)
        found_id = previous_hash(bundle.records[0])
        if found_id != registry_id:
            return Verdict(Code.WRONG_REGISTRY, f"expected registry {registry_id}, got a bundle of {found_id}")
        registry = Registry.replay(bundle.records, registry_id=registry_id)
        _check_checkpoint(registry, bundle.checkpoint)
        return TrustedRegistry(registry, _read_coverage(registry, bundle))
    except UnsupportedAlgorithm as error:
        return Verdict(Code.UNSUPPORTED_ALGORITHM, str(error))
    except (FormatError, RecordError, SignatureError) as error:
        return Verdict(Code.REGISTRY_INVALID, str(error))


def _check_checkpoint(registry: Registry, note: bytes) -> None:
    log = registry.logs.registry
    head = open_checkpoint(note, log.origin, log.public_key)
    if head.size != registry.size:
        raise RecordError(f"expected {head.size} records as the registry checkpoint says, got {registry.size}")
    if head.root != registry.root():
        raise RecordError("expected the registry checkpoint's root, got records of another root")


def _read_coverage(registry: Registry, bundle: Bundle) -> Coverage:
    envelope, key = bundle.coverage, registry.logs.registry.public_key
    if envelope.payload_type != COVERAGE_TYPE:
        raise FormatError(f"expected a coverage of type {COVERAGE_TYPE}, got another type")
    if [signature.key_id for signature in envelope.signatures] != [key.key_id]:
        raise SignatureError("expected the coverage to be signed by the registry log key alone, got other signatures")
    key.verify(envelope.signatures[0].signature, envelope.pae())
    coverage = Coverage.decode(envelope.body)
    if coverage.registry_id != registry.registry_id:
        raise RecordError(f"expected a coverage of registry {registry.registry_id}, got {coverage.registry_id}")
    if (coverage.registry_size, coverage.registry_root) != (registry.size, registry.root().hex()):
        raise RecordError(f"expected a coverage of these {registry.size} records, got one of other records")
    head = registry.head
    if head is not None and coverage.statement_size < head.size:
        raise RecordError(f"expected a coverage of at least {head.size} statements, got {coverage.statement_size}")
    if head is not None and coverage.statement_size == head.size and coverage.statement_root != head.root.hex():
        raise RecordError(f"expected the coverage to have the last rotation's root at {head.size}, got another")
    return coverage


def judge(trusted: TrustedRegistry, evidence: bytes, *, event_hash: EventHash, environments: frozenset[str]) -> Verdict:
    """Return the verdict on one piece of evidence; never raises, whatever the bytes.

    Args:
        trusted: what open_bundle returned.
        evidence: a .tlog-proof file with the envelope inside, or an envelope alone.
        event_hash: the event's hash as the caller computed it, a function that knows it by place, or None.
        environments: which environments the caller accepts, normally production alone.
    """
    said: Statement | None = None
    index: int | None = None
    expected: str | None = None
    try:
        found, said = _read(evidence)
        index = None if found.proof is None else found.proof.index
        expected = event_hash(said.stream, said.sequence) if callable(event_hash) else event_hash
        _check_event(said, expected)
        _check_registry(said, trusted.registry, environments)
        _check_registry_head(said, trusted.registry)
        key = _check_key(said, trusted.registry)
        _check_signature(said, key, found.envelope)
        index, head = _check_inclusion(trusted, found)
        _check_position(key, index)
        _check_freshness(trusted, head)
        _check_time(said, key, trusted)
        code, reason = _valid(key, index)
    except _Failed as failed:
        code, reason = failed.code, failed.reason
    return Verdict(code, reason, trusted.as_of, said, index, expected is not None)


class _Failed(Exception):
    """A step that did not hold."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(code.name)
        self.code = code
        self.reason = reason


def _read(data: bytes) -> tuple[Evidence, Statement]:
    try:
        evidence = Evidence.read(data)
        if evidence.envelope.payload_type != STATEMENT_TYPE:
            raise FormatError(f"expected a signed statement of type {STATEMENT_TYPE}, got another type")
        if len(evidence.envelope.signatures) != 1:
            raise FormatError(f"expected one signature, got {len(evidence.envelope.signatures)}")
        return evidence, Statement.decode(evidence.envelope.body)
    except FormatError as error:
        raise _Failed(Code.BAD_FORMAT, str(error)) from None


def _check_event(said: Statement, expected: str | None) -> None:
    if expected is not None and said.event_hash != expected:
        raise _Failed(Code.EVENT_MISMATCH, f"expected event hash {expected}, got {said.event_hash}")


def _check_registry(said: Statement, registry: Registry, environments: frozenset[str]) -> None:
    if said.registry_id != registry.registry_id:
        reason = f"expected registry {registry.registry_id}, got a statement of {said.registry_id}"
        raise _Failed(Code.WRONG_REGISTRY, reason)
    if said.environment not in environments:
        accepted = " or ".join(sorted(environments))
        raise _Failed(Code.WRONG_ENVIRONMENT, f"expected environment {accepted}, got {said.environment}")
    if said.environment != registry.environment:
        reason = f"expected environment {registry.environment} as in the registry, got {said.environment}"
        raise _Failed(Code.WRONG_ENVIRONMENT, reason)


def _check_registry_head(said: Statement, registry: Registry) -> None:
    if said.registry_size > registry.size:
        reason = f"expected a bundle of at least {said.registry_size} records, got {registry.size}"
        raise _Failed(Code.BUNDLE_TOO_OLD, reason)
    if said.registry_size == 0:
        raise _Failed(Code.REGISTRY_MISMATCH, "expected a registry of at least the genesis record, got size 0")
    root = registry.root_at(said.registry_size).hex()
    if said.registry_root != root:
        reason = f"expected registry root {root} at {said.registry_size} records, got {said.registry_root}"
        raise _Failed(Code.REGISTRY_MISMATCH, reason)


def _check_key(said: Statement, registry: Registry) -> KeyVersion:
    key = registry.keys.get(said.key_id)
    if key is None:
        raise _Failed(Code.UNKNOWN_KEY, f"expected a key of the registry, got {said.key_id}")
    if key.witness_id != said.witness_id:
        raise _Failed(Code.KEY_SCOPE, f"expected {key.witness_id}, whose key it is, got {said.witness_id}")
    if not key.covers(said.stream):
        raise _Failed(Code.KEY_SCOPE, f"expected a stream the key may sign for, got {said.stream!a}")
    return key


def _check_signature(said: Statement, key: KeyVersion, envelope: Envelope) -> None:
    (signature,) = envelope.signatures
    if signature.key_id != said.key_id:
        reason = f"expected a signature by key {said.key_id}, got one by {signature.key_id}"
        raise _Failed(Code.BAD_SIGNATURE, reason)
    try:
        key.public_key.verify(signature.signature, envelope.pae())
    except SignatureError as error:
        raise _Failed(Code.BAD_SIGNATURE, str(error)) from None


def _check_inclusion(trusted: TrustedRegistry, evidence: Evidence) -> tuple[int, Checkpoint]:
    proof = evidence.proof
    if proof is None:
        raise _Failed(Code.NOT_LOGGED, "expected a proof of the statement's place in the log, got a statement alone")
    try:
        head = trusted.open_checkpoint(proof.checkpoint)
        verify_inclusion(leaf_hash(evidence.envelope.entry()), proof.index, head.size, proof.hashes, head.root)
    except (FormatError, SignatureError, ProofError) as error:
        raise _Failed(Code.LOG_PROOF_INVALID, str(error)) from None
    return proof.index, head


def _check_position(key: KeyVersion, index: int) -> None:
    if key.opened is None:
        raise _Failed(Code.KEY_NOT_ACTIVE, f"expected a key that was opened, got one that never was, at {index}")
    if not key.active(index):
        raise _Failed(Code.KEY_NOT_ACTIVE, f"expected an index in {_span(key)}; got {index}")


def _check_freshness(trusted: TrustedRegistry, head: Checkpoint) -> None:
    covered = trusted.coverage.statement_size
    if head.size > covered:
        reason = f"expected a log of at most {covered} statements, which the bundle covers, got {head.size}"
        raise _Failed(Code.BUNDLE_TOO_OLD, reason)
    known = trusted.heads.get(head.size, head.root)
    if known != head.root:
        reason = f"expected root {known.hex()} at {head.size} statements, got {head.root.hex()}"
        raise _Failed(Code.LOG_FORK, reason)


def _check_time(said: Statement, key: KeyVersion, trusted: TrustedRegistry) -> None:
    earliest, latest = _shift(key.added_at, -CLOCK_SKEW), trusted.latest_time
    if not earliest <= said.signed_at <= latest:
        reason = f"expected a time from {earliest} to {latest}, got {said.signed_at}"
        raise _Failed(Code.TIME_INCONSISTENT, reason)


def _valid(key: KeyVersion, index: int) -> tuple[Code, str]:
    code = Code.VALID_KEY_ACTIVE if key.closed is None else Code.VALID_KEY_ROTATED
    return code, f"index {index} lies in {_span(key)}"


def _span(key: KeyVersion) -> str:
    return f"[{key.opened}, {'still open' if key.closed is None else key.closed}), where the key was valid"


@lru_cache(maxsize=4096)
def _shift(time: str, by: timedelta) -> str:
    """Return the time moved, or as it is where the calendar ends."""
    try:
        moved = datetime.fromisoformat(time.removesuffix("Z")) + by
    except OverflowError:
        return time
    return moved.isoformat(timespec="microseconds") + "Z"
