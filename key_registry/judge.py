"""Judging: was this event witnessed by a key that was valid at the statement's place in the log?

The order of the steps is normative and the first that fails decides (docs/format.md, "Judging"). No step
reads a clock or a file, and none raises on hostile bytes.
"""

from collections.abc import Callable
from typing import TypeAlias

from key_registry import interval
from key_registry.checkpoint import Checkpoint
from key_registry.dsse import Envelope
from key_registry.errors import FormatError, ProofError, SignatureError
from key_registry.evidence import Evidence
from key_registry.key_version import KeyVersion
from key_registry.merkle import leaf_hash, verify_inclusion
from key_registry.opening import open_bundle
from key_registry.replay import Registry
from key_registry.statement import STATEMENT_TYPE, Statement
from key_registry.trusted_registry import BeyondBundle, LoggedHead, TrustedRegistry
from key_registry.verdict import BY_COSIGNERS, BY_OPERATOR, Bound, Code, Verdict

__all__ = ["EventHash", "StampedAt", "TrustedRegistry", "judge", "open_bundle"]

EventHash: TypeAlias = str | Callable[[str, int], str | None] | None
"""The hash the caller computed, or a function of stream and sequence that knows it, or None: not compared."""

StampedAt: TypeAlias = Callable[[Checkpoint], str | None]
"""Knows by when a timestamp authority had seen a checkpoint, YYYY-MM-DDTHH:MM:SS.ffffffZ; None: it has not."""


def judge(
    trusted: TrustedRegistry,
    evidence: bytes,
    *,
    event_hash: EventHash,
    environments: frozenset[str],
    stamped_at: StampedAt | None = None,
) -> Verdict:
    """Return the verdict on one piece of evidence; never raises, whatever the bytes.

    Args:
        trusted: what open_bundle returned.
        evidence: a .tlog-proof file with the envelope inside, or an envelope alone.
        event_hash: the event's hash as the caller computed it, a function that knows it by place, or None.
        environments: which environments the caller accepts, normally production alone.
        stamped_at: asked about checkpoints of the log whose signatures have been verified; its word is believed.
    """
    case = _Case(trusted, environments, stamped_at)
    try:
        case.examine(evidence, event_hash)
        code, reason = case.valid()
    except _Failed as failed:
        code, reason = failed.code, failed.reason
    return case.verdict(code, reason)


class _Failed(Exception):
    """A step that did not hold."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(code.name)
        self.code = code
        self.reason = reason


class _Case:
    """One piece of evidence before the judge, and what has been found out about it."""

    def __init__(self, trusted: TrustedRegistry, environments: frozenset[str], stamped_at: StampedAt | None) -> None:
        self._trusted = trusted
        self._environments = environments
        self._stamped_at = stamped_at
        self._said: Statement | None = None
        self._index: int | None = None
        self._expected: str | None = None
        self._key: KeyVersion | None = None
        self._completeness: str | None = None
        self._not_before: Bound | None = None
        self._existed_by: Bound | None = None

    def examine(self, data: bytes, event_hash: EventHash) -> None:
        """Take the steps in their normative order; raises _Failed at the first that does not hold."""
        trusted, registry = self._trusted, self._trusted.registry
        evidence, said = _read(data)
        self._said = said
        self._index = None if evidence.proof is None else evidence.proof.index
        self._expected = event_hash(said.stream, said.sequence) if callable(event_hash) else event_hash
        _check_event(said, self._expected)
        _check_registry(said, registry, self._environments)
        _check_registry_head(said, registry)
        self._key = key = _check_key(said, registry)
        _check_signature(said, key, evidence.envelope)
        index, head = _check_inclusion(trusted, evidence)
        _check_quorum(trusted, head)
        _check_counts(trusted, head)
        self._learn_from(head)
        _check_position(key, index)
        _check_trust(key, index)
        _check_freshness(trusted, head)
        self._check_time(said, key)

    def _learn_from(self, head: LoggedHead) -> None:
        trusted = self._trusted
        asked = head.policy.asks_cosigners and trusted.registry.policy.asks_cosigners
        self._completeness = BY_COSIGNERS if asked else BY_OPERATOR
        stamp = None if self._stamped_at is None else self._stamped_at(head.checkpoint)
        self._existed_by = interval.existed_by(head.cosigned_at, stamp)
        if self._said is not None:
            self._not_before = interval.not_before(trusted.registry, self._said.registry_size)

    def _check_time(self, said: Statement, key: KeyVersion) -> None:
        earliest, latest = interval.shifted(key.added_at, -interval.CLOCK_SKEW), self._trusted.latest_time
        if self._not_before is not None and self._not_before.source == BY_COSIGNERS:
            earliest = max(earliest, interval.shifted(self._not_before.time, -interval.CLOCK_SKEW))
        if self._existed_by is not None:
            latest = min(latest, interval.shifted(self._existed_by.time, interval.CLOCK_SKEW))
        if not earliest <= said.signed_at <= latest:
            reason = f"expected a time from {earliest} to {latest}, got {said.signed_at}"
            raise _Failed(Code.TIME_INCONSISTENT, reason)

    def valid(self) -> tuple[Code, str]:
        """Return the code and the reason once every step has held."""
        key, place = self._key, f"index {self._index}"
        assert key is not None
        if key.trusted_size is not None:
            reason = f"{place} lies below {key.trusted_size}, from which the key is distrusted, and in {_span(key)}"
            return Code.VALID_BEFORE_COMPROMISE, reason
        code = Code.VALID_KEY_ACTIVE if key.closed is None else Code.VALID_KEY_ROTATED
        return code, f"{place} lies in {_span(key)}"

    def verdict(self, code: Code, reason: str) -> Verdict:
        """Return the verdict with everything that was found out on the way."""
        return Verdict(
            code,
            reason,
            as_of=self._trusted.as_of,
            statement=self._said,
            leaf_index=self._index,
            event_compared=self._expected is not None,
            completeness=self._completeness,
            not_before=self._not_before,
            existed_by=self._existed_by,
        )


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


def _check_inclusion(trusted: TrustedRegistry, evidence: Evidence) -> tuple[int, LoggedHead]:
    proof = evidence.proof
    if proof is None:
        raise _Failed(Code.NOT_LOGGED, "expected a proof of the statement's place in the log, got a statement alone")
    try:
        head = trusted.logged_head(proof.checkpoint)
        size, root = head.checkpoint.size, head.checkpoint.root
        verify_inclusion(leaf_hash(evidence.envelope.entry()), proof.index, size, proof.hashes, root)
    except BeyondBundle as error:
        raise _Failed(Code.BUNDLE_TOO_OLD, f"{error}, for no fewer statements than the bundle covers") from None
    except (FormatError, SignatureError, ProofError) as error:
        raise _Failed(Code.LOG_PROOF_INVALID, str(error)) from None
    return proof.index, head


def _check_quorum(trusted: TrustedRegistry, head: LoggedHead) -> None:
    if not head.is_quorum_met:
        found = ", ".join(sorted(head.cosigned)) or "nobody"
        reason = f"expected the log's checkpoint to be cosigned by a quorum of the policy, got {found!a}"
        # Beyond the bundle another policy may hold, which only a newer one knows.
        code = Code.BUNDLE_TOO_OLD if trusted.is_beyond(head.checkpoint) else Code.QUORUM_NOT_MET
        raise _Failed(code, reason)


def _check_counts(trusted: TrustedRegistry, head: LoggedHead) -> None:
    if not trusted.counts(head):
        reason = (
            f"expected a checkpoint that more than a replaced log key speaks for, got one of {head.checkpoint.size} "
            "statements by such a key alone"
        )
        raise _Failed(Code.NOT_LOGGED, reason)


def _check_position(key: KeyVersion, index: int) -> None:
    if key.opened is None:
        raise _Failed(Code.KEY_NOT_ACTIVE, f"expected a key that was opened, got one that never was, at {index}")
    if not key.active(index):
        raise _Failed(Code.KEY_NOT_ACTIVE, f"expected an index in {_span(key)}; got {index}")


def _check_trust(key: KeyVersion, index: int) -> None:
    if not key.trusts(index):
        reason = f"expected an index below {key.trusted_size}, from which the key is distrusted, got {index}"
        raise _Failed(Code.KEY_COMPROMISED, reason)


def _check_freshness(trusted: TrustedRegistry, head: LoggedHead) -> None:
    covered, size, root = trusted.coverage.statement_size, head.checkpoint.size, head.checkpoint.root
    if trusted.is_beyond(head.checkpoint):
        reason = f"expected a log of at most {covered} statements, which the bundle covers, got {size}"
        raise _Failed(Code.BUNDLE_TOO_OLD, reason)
    if not trusted.is_fresh(head):
        reason = (
            f"expected a bundle that a quorum of the cosigners cosigned after they had seen the log with {size} "
            "statements, got one from before"
        )
        raise _Failed(Code.BUNDLE_TOO_OLD, reason)
    known = trusted.heads.get(size, root)
    if known != root:
        reason = f"expected root {known.hex()} at {size} statements, got {root.hex()}"
        raise _Failed(Code.LOG_FORK, reason)


def _span(key: KeyVersion) -> str:
    return f"[{key.opened}, {'still open' if key.closed is None else key.closed}), where the key was valid"
